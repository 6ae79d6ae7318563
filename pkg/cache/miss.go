package cache

import (
	"context"
	"time"

	"github.com/walfence/walfence/pkg/events"
)

// WithoutFill returns a context whose reads store nothing: they return what is cached, or load. Use it inside a database
// transaction that has written, or whose snapshot is older than the read: what is read there must not be stored.
func WithoutFill(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutFillKey{}, true)
}

type withoutFillKey struct{}

func withoutFill(ctx context.Context) bool {
	without, _ := ctx.Value(withoutFillKey{}).(bool)
	return without
}

// Miss is the miss that a loader serves. It belongs to the goroutine that the loader was called in.
type Miss struct {
	applied func(context.Context) (events.Position, bool, error)
	proved  bool
	refused string
}

type missKey struct{}

// MissOf returns the miss that a loader serves, from the context that the loader was given; nil elsewhere.
func MissOf(ctx context.Context) *Miss {
	m, _ := ctx.Value(missKey{}).(*Miss)
	return m
}

// Refuse keeps what the loader returns from being stored.
func (m *Miss) Refuse() { m.refused = refusedWithoutFill }

const (
	// replicaPatience is how long a fill may wait for a replica: a value that is loaded now and stored serves many.
	replicaPatience = 50 * time.Millisecond
	replicaPause    = 2 * time.Millisecond
)

// Prove applies the replica rule. A loader calls it before it reads the row: in the same session, read committed, in an
// earlier statement. replayed returns pg_last_wal_replay_lsn() of that session; false if that is NULL. Unless the replica is
// beyond all that the cache may have been told of, which Prove awaits for a moment, the value will not be stored. The error
// is that of replayed.
func (m *Miss) Prove(ctx context.Context, replayed func(context.Context) (events.LSN, bool, error)) error {
	m.proved = false
	m.refuseReplica()
	if m.applied == nil {
		return nil
	}
	applied, known, err := m.applied(ctx)
	if err != nil || !known {
		return nil // no record, no fill
	}
	for began := time.Now(); ; {
		lsn, inRecovery, err := replayed(ctx)
		switch {
		case err != nil:
			return err
		case !inRecovery:
			return nil
		case lsn > applied.LSN:
			m.proved = true
			if m.refused == refusedReplica {
				m.refused = ""
			}
			return nil
		case time.Since(began) > replicaPatience:
			return nil
		}
		select {
		case <-time.After(replicaPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *Miss) refuseReplica() {
	if m.refused == "" {
		m.refused = refusedReplica
	}
}

// refusal returns why the value must not be stored, or nothing.
func (m *Miss) refusal(replica bool) string {
	if m.refused == "" && replica && !m.proved {
		return refusedReplica
	}
	return m.refused
}
