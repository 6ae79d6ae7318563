package source

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/gate"
	"github.com/walfence/walfence/internal/relay"
	"github.com/walfence/walfence/pkg/events"
)

const (
	beatEvery  = time.Second // a floor that no event carries is published at most so often
	statsEvery = 5 * time.Second
	// How often it is asked whether the transactions that were in flight have ended.
	settleEvery  = 500 * time.Millisecond
	queryTimeout = 10 * time.Second
)

// tend does what a session needs beside reading, on the admin connection: heartbeats, floors, statistics, and the second
// sweeps.
func (s *Source) tend(ctx context.Context, c *connections, session *relay.Session, owed debt) error {
	t := &tender{source: s, conns: c, session: session, owed: owed, created: session.Origin().Stream}
	// A heartbeat must not wait for a synchronous standby.
	if _, err := c.admin.Exec(ctx, "SET synchronous_commit = local"); err != nil {
		return fmt.Errorf("set up admin connection: %w", err)
	}
	heartbeat, beat := time.NewTicker(s.cfg.Heartbeat), time.NewTicker(beatEvery)
	stats, settle := time.NewTicker(statsEvery), time.NewTicker(settleEvery)
	for _, ticker := range []*time.Ticker{heartbeat, beat, stats, settle} {
		defer ticker.Stop()
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			session.Beat()
		case <-heartbeat.C:
			err = t.heartbeat(ctx)
		case <-stats.C:
			err = t.stats(ctx)
		case <-settle.C:
			err = t.settle(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

type tender struct {
	source  *Source
	conns   *connections
	session *relay.Session
	owed    debt
	created time.Time // the stream
}

// debt is what must be swept once more when the transactions in flight have ended: a new slot, or a publication's new table,
// does not stream them, and what they changed becomes visible after the first sweep.
type debt struct {
	tables []events.Table // nil if there is none
	flight gate.Snapshot
}

// everything stands for all tables.
var everything = []events.Table{{}}

// newDebt owes nothing if nothing was in flight.
func newDebt(flight gate.Snapshot, tables []events.Table) debt {
	if len(flight.Xip) == 0 || len(tables) == 0 {
		return debt{flight: flight}
	}
	return debt{tables: tables, flight: flight}
}

func snapshot(ctx context.Context, conn *pgx.Conn) (gate.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_current_snapshot()::text").Scan(&text); err != nil {
		return gate.Snapshot{}, fmt.Errorf("take snapshot: %w", err)
	}
	return gate.ParseSnapshot(text)
}

// settle sweeps once more what a new slot, or a new table of the publication, did not stream: transactions that were in
// flight then and have become visible since.
func (t *tender) settle(ctx context.Context) error {
	if t.owed.tables == nil || t.session.Expecting() {
		return nil
	}
	now, err := snapshot(ctx, t.conns.admin)
	if err != nil || !now.EndedAll(&t.owed.flight) {
		return err
	}
	for _, table := range t.owed.tables {
		err := t.session.Announce(ctx, events.Event{Kind: events.KindSweep, Table: table, Reason: "settled"})
		if err != nil {
			return err
		}
	}
	t.source.cfg.Log.Info("what was in flight has ended, swept once more", zap.Int("tables", len(t.owed.tables)))
	t.owed.tables = nil
	t.session.Settling(false)
	return nil
}

// heartbeat writes a logical message, which comes back through the stream: progress that can be seen, and a floor for an idle
// database.
func (t *tender) heartbeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	_, err := t.conns.admin.Exec(ctx, "SELECT pg_logical_emit_message(true, $1, $2)", relay.HeartbeatPrefix, t.source.cfg.Slot)
	if err != nil {
		return fmt.Errorf("emit heartbeat: %w", err)
	}
	return nil
}

func (t *tender) stats(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	slot, err := catalog.ReadSlot(ctx, t.conns.admin, t.source.cfg.Slot)
	if err != nil || slot == nil {
		return err
	}
	var current events.LSN
	var text string
	if err := t.conns.admin.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&text); err != nil {
		return fmt.Errorf("read WAL position: %w", err)
	}
	if current, err = events.ParseLSN(text); err != nil {
		return err
	}
	t.source.metrics.observe(slot, current, t.conns.wal.Bytes())
	return t.source.checkStream(ctx, t.created)
}
