package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/integration/check"
	"github.com/walfence/walfence/pkg/events"
)

const (
	writers      = 8
	writeEvery   = 16 * time.Millisecond
	readersEach  = 4
	readEvery    = 2 * time.Millisecond
	load         = 3 * time.Second // how long a round writes
	afterwards   = 500 * time.Millisecond
	quietTimeout = time.Minute

	// A fill is late now and then: a pause of the garbage collector, a busy machine, a slow network. The longest is longer
	// than deletingAgain.
	deletingAgain = 400 * time.Millisecond
	markerID      = 0
)

// way is one protocol reading from one kind of server, with keys of its own.
type way struct {
	name, from string
	prefix     string
	protocol   protocol
	mustFail   bool
	fills      atomic.Uint64
}

func (w *way) key(id int64) string { return fmt.Sprintf("%s:tenant:%d:item:%d", w.prefix, id%50, id) }

// allWays returns what is compared.
func (s *stage) allWays() ([]*way, error) {
	var ways []*way
	add := func(name, prefix string, p func() protocol) {
		for _, from := range []string{"primary", "replica"} {
			ways = append(ways, &way{name: name, from: from, prefix: prefix + "-" + from, protocol: p(), mustFail: true})
		}
	}
	add("SET and DEL", "deletion", func() protocol { return &deletion{s.client} })
	add("delayed double delete", "double", func() protocol {
		return &doubleDeletion{deletion: deletion{s.client}, after: deletingAgain}
	})
	add("lease", "lease", func() protocol { return &lease{s.client} })
	add("LSN fence", "fence", func() protocol { return &fence{s.client} })
	return s.guardedWays(ways)
}

// source is where one reader of one key loads from.
type source struct {
	conn *pgx.Conn
	rng  *rand.Rand
	id   int64
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (s *source) load(ctx context.Context) (int64, error) { return s.loadIn(ctx, s.conn) }

// loadIn reads the row, and may take its time to come back with it.
func (s *source) loadIn(ctx context.Context, q querier) (ver int64, err error) {
	if err := q.QueryRow(ctx, "SELECT ver FROM items WHERE id = $1", s.id).Scan(&ver); err != nil {
		return 0, err
	}
	switch n := s.rng.IntN(1000); {
	case n < 3:
		<-time.After(deletingAgain + time.Duration(s.rng.IntN(int(deletingAgain))))
	case n < 100:
		<-time.After(time.Duration(s.rng.IntN(int(30 * time.Millisecond))))
	}
	return ver, nil
}

// position returns how far the server is.
func (s *source) position(ctx context.Context) (uint64, error) {
	var text string
	err := s.conn.QueryRow(ctx, "SELECT coalesce(pg_last_wal_replay_lsn(), CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END)::text").Scan(&text)
	if err != nil {
		return 0, err
	}
	lsn, err := events.ParseLSN(text)
	return uint64(lsn), err
}

// round writes and reads for a while, lets everything come to rest, and counts what stayed stale.
func (s *stage) round(ctx context.Context, seed uint64, m mode, r *results) error {
	if err := s.client.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty cache: %w", err)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	var readers []*check.Crew
	for i, w := range s.ways {
		url := s.primary.URL(database)
		if w.from == "replica" {
			url = s.replica.URL(database)
		}
		w.fills.Store(0)
		readers = append(readers, check.StartCrew(ctx, url, readersEach, readEvery, seed+uint64(i), w.read))
	}
	write := check.StartCrew(ctx, s.primary.URL(database), writers, writeEvery, seed, writeRow)
	flush := time.NewTimer(time.Duration(rng.Int64N(int64(load))))
	defer flush.Stop()
	end := time.NewTimer(load)
	defer end.Stop()
	for running := true; running; {
		select {
		case <-flush.C:
			if err := s.client.FlushAll(ctx).Err(); err != nil {
				return fmt.Errorf("flush: %w", err)
			}
		case <-end.C:
			running = false
		case <-ctx.Done():
			running = false
		}
	}
	write.Stop()
	if err := pause(ctx, afterwards); err != nil {
		return err
	}
	var errs []error
	for _, crew := range append(readers, write) {
		crew.Stop()
		errs = append(errs, crew.Err())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("read and write: %w", err)
	}
	r.commits[m] += write.Rounds.Load()
	if err := s.quiet(ctx); err != nil {
		return fmt.Errorf("wait for quiet: %w", err)
	}
	return s.compare(ctx, m, r)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *way) read(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	src := &source{conn: conn, rng: rng, id: 1 + rng.Int64N(rows)}
	filled, err := w.protocol.get(ctx, w.key(src.id), src)
	if filled {
		w.fills.Add(1)
	}
	return err
}

func writeRow(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	_, err := conn.Exec(ctx, "UPDATE items SET ver = ver + 1 WHERE id = $1", 1+rng.Int64N(rows))
	return err
}

// quiet waits until every invalidation has been made, by all ways.
func (s *stage) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quietTimeout)
	defer cancel()
	var text string
	if err := s.conn.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&text); err != nil {
		return err
	}
	lsn, err := events.ParseLSN(text)
	if err != nil {
		return err
	}
	marker, err := s.plantMarkers(ctx)
	if err != nil {
		return err
	}
	if err := s.feed.WaitFor(ctx, lsn); err != nil {
		return err
	}
	if err := until(ctx, func() error { return s.wal.reached(uint64(lsn)) }); err != nil {
		return err
	}
	if err := until(ctx, func() error { return s.applier.reached(uint64(lsn)) }); err != nil {
		return err
	}
	for _, w := range s.ways {
		w.protocol.settle()
	}
	return until(ctx, func() error { return s.markersGone(ctx, marker) })
}
