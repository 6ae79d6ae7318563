// Package pgxreplica loads values for package cache from a replica, through pgx.
//
// Its promise: what it loads is stored only if the replica had replayed all that the cache may have been told of, as the
// same session said before it read the row.
package pgxreplica

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

// Beginner is a pgxpool.Pool or a pgx.Conn that is connected to a replica.
type Beginner interface {
	BeginTx(ctx context.Context, opt pgx.TxOptions) (pgx.Tx, error)
}

// Load returns a loader as [cache.OnReplica] does.
func Load[T any](db Beginner, load func(ctx context.Context, tx pgx.Tx) (T, error)) cache.Load[T] {
	return func(ctx context.Context) (value T, err error) {
		tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly})
		if err != nil {
			return value, fmt.Errorf("begin on replica: %w", err)
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has only read
		if m := cache.MissOf(ctx); m != nil {
			err := m.Prove(ctx, func(ctx context.Context) (events.LSN, bool, error) { return replayed(ctx, tx) })
			if err != nil {
				return value, err
			}
		}
		return load(ctx, tx)
	}
}

func replayed(ctx context.Context, tx pgx.Tx) (events.LSN, bool, error) {
	var text *string
	if err := tx.QueryRow(ctx, cache.ReplayLSN).Scan(&text); err != nil {
		return 0, false, fmt.Errorf("ask replica for its position: %w", err)
	}
	if text == nil {
		return 0, false, nil
	}
	return cache.ParseReplay(*text)
}
