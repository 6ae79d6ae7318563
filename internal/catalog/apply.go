package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/mapping"
)

// ErrLocked is what Apply waited too long for: something holds a lock on a table, as a migration does. Try again later.
var ErrLocked = errors.New("a table is locked by somebody else")

// lockTimeout bounds how long Apply waits for a lock. Whoever asks for one on the same table queues behind it.
const lockTimeout = "3s"

// Apply runs the plan's statements in one transaction, and nothing if one of them fails. Where a lock is not to be had
// within a few seconds the error is [ErrLocked]. A table that lost its replica identity since [Check] is not published.
func Apply(ctx context.Context, conn *pgx.Conn, plan *Plan) error {
	if len(plan.Statements) == 0 {
		return nil
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockTimeout+"'"); err != nil {
			return err
		}
		for _, statement := range plan.Statements {
			if err := execute(ctx, tx.Conn(), statement); err != nil {
				return err
			}
		}
		return stillSafe(ctx, tx, plan.tables)
	})
	if err != nil {
		return fmt.Errorf("apply publication %s: %w", quote(plan.Publication), err)
	}
	return nil
}

// stillSafe looks again behind the locks that adding the tables took.
func stillSafe(ctx context.Context, q querier, tables []*Table) error {
	needs := make([]mapping.Table, len(tables))
	for i, t := range tables {
		needs[i] = t.Need
	}
	_, problems, err := check(ctx, q, needs)
	if err != nil {
		return err
	}
	return problems.Err()
}
