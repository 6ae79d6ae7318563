package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// Value is what readers cache: the state of what stands behind a key. The zero Value is that nothing does.
type Value struct {
	// Ver is the row's version, which its writers make grow by one with every change; 0 if the key stands for many rows.
	Ver int64 `json:"ver,omitempty"`
	// Content tells states apart that have the same Ver.
	Content string `json:"content,omitempty"`
}

// View is a family of keys, and what an application reads from the database to fill them.
type View struct {
	Name string
	// All selects key, ver and content of every key that something stands behind.
	All string
	// One selects ver and content of one key, or no row if nothing stands behind it.
	One string
	// Pick chooses a key to read, and the arguments of One for it.
	Pick func(rng *rand.Rand) (key string, args []any)
}

// load reads what stands behind one key.
func (v *View) load(ctx context.Context, conn *pgx.Conn, args []any) (value Value, err error) {
	err = conn.QueryRow(ctx, v.One, args...).Scan(&value.Ver, &value.Content)
	if errors.Is(err, pgx.ErrNoRows) {
		return Value{}, nil
	}
	if err != nil {
		return Value{}, fmt.Errorf("load %s: %w", v.Name, err)
	}
	return value, nil
}

// all reads what stands behind every key.
func (v *View) all(ctx context.Context, conn *pgx.Conn, into map[string]Value) error {
	rows, err := conn.Query(ctx, v.All)
	if err != nil {
		return fmt.Errorf("read all of %s: %w", v.Name, err)
	}
	var key string
	var value Value
	_, err = pgx.ForEachRow(rows, []any{&key, &value.Ver, &value.Content}, func() error {
		into[key] = value
		return nil
	})
	if err != nil {
		return fmt.Errorf("read all of %s: %w", v.Name, err)
	}
	return nil
}
