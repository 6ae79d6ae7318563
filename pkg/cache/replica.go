package cache

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/walfence/walfence/pkg/events"
)

// ReplayLSN is the statement whose result [Miss.Prove] wants: text, or NULL on a server that is no replica.
const ReplayLSN = "SELECT pg_last_wal_replay_lsn()::text"

// OnReplica returns a loader that reads from a replica under the replica rule. It keeps to one session, in a read-only
// transaction, read committed, so that a pooler keeps to it too; asks in a first statement how far the replica is; and calls
// load for the statements after it. Package pgxreplica does the same with pgx.
//
// What it loads is stored only if Options.Source is set, and the invalidator keeps the applied record.
func OnReplica[T any](db *sql.DB, load func(ctx context.Context, tx *sql.Tx) (T, error)) Load[T] {
	return func(ctx context.Context) (value T, err error) {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted, ReadOnly: true})
		if err != nil {
			return value, fmt.Errorf("begin on replica: %w", err)
		}
		defer func() { _ = tx.Rollback() }() // it has only read
		if m := MissOf(ctx); m != nil {
			err := m.Prove(ctx, func(ctx context.Context) (events.LSN, bool, error) {
				var text sql.NullString
				if err := tx.QueryRowContext(ctx, ReplayLSN).Scan(&text); err != nil {
					return 0, false, fmt.Errorf("ask replica for its position: %w", err)
				}
				return ParseReplay(text.String)
			})
			if err != nil {
				return value, err
			}
		}
		return load(ctx, tx)
	}
}

// ParseReplay reads the result of [ReplayLSN], and returns false for NULL, which is to be given as "".
func ParseReplay(text string) (lsn events.LSN, replica bool, err error) {
	if text == "" {
		return 0, false, nil
	}
	lsn, err = events.ParseLSN(text)
	return lsn, err == nil, err
}
