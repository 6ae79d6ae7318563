package wal_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/internal/wal"
	"github.com/walfence/walfence/pkg/events"
)

// reader is a handler that remembers.
type reader struct {
	mu        sync.Mutex
	messages  int
	keepalive events.LSN
	confirm   events.LSN
	full      chan struct{} // not nil: there is no room
	drained   bool
	fail      error
}

func (r *reader) Message([]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages++
	return r.fail
}

func (r *reader) Keepalive(upTo events.LSN) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepalive = max(r.keepalive, upTo)
}

func (r *reader) Room() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.full
}

func (r *reader) Confirm() events.LSN {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.confirm
}

func (r *reader) Drain() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drained = true
	done := make(chan struct{})
	close(done)
	return done
}

func (r *reader) set(change func(*reader)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *reader) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages
}

type rig struct {
	db   *testkit.Database
	conn *pgx.Conn
	slot string
}

func newRig(t *testing.T) *rig {
	db := testkit.NewDatabase(t)
	r := &rig{db: db, conn: db.Conn(t)}
	r.slot = "s_" + r.db.Name
	r.db.Exec(t, "CREATE TABLE a (id int PRIMARY KEY, text text)", "CREATE PUBLICATION p FOR TABLE a")
	conn, err := wal.Connect(t.Context(), r.config(t))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.CreateSlot(t.Context()))
	return r
}

func (r *rig) config(t *testing.T) wal.Config {
	return wal.Config{URL: r.db.URL, Slot: r.slot, Publication: "p"}
}

// stream reads until stop is called, which returns what Stream returned.
func (r *rig) stream(t *testing.T, h wal.Handler) (stop func() error) {
	conn, err := wal.Connect(t.Context(), r.config(t))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	from := r.confirmed(t)
	require.NoError(t, conn.Start(t.Context()))
	go func() {
		defer conn.Close()
		done <- conn.Stream(ctx, from, h)
	}()
	t.Cleanup(cancel)
	return func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("does not stop")
		}
	}
}

func (r *rig) confirmed(t *testing.T) events.LSN {
	var text string
	require.NoError(t, r.conn.QueryRow(context.WithoutCancel(t.Context()),
		"SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", r.slot).Scan(&text))
	lsn, err := events.ParseLSN(text)
	require.NoError(t, err)
	return lsn
}

func (r *rig) active(t *testing.T) (active bool) {
	require.NoError(t, r.conn.QueryRow(t.Context(), "SELECT active FROM pg_replication_slots WHERE slot_name = $1", r.slot).Scan(&active))
	return active
}

func TestNothingIsConfirmedThatWasNotReceived(t *testing.T) {
	r := newRig(t)
	before := r.confirmed(t)
	h := &reader{confirm: 1 << 60} // a handler that knows of a future, as after a restore
	stop := r.stream(t, h)
	r.db.Exec(t, "INSERT INTO a VALUES (1)")
	testkit.Eventually(t, 10*time.Second, func() error {
		if c := r.confirmed(t); c <= before {
			return fmt.Errorf("nothing confirmed: %s", c)
		}
		return nil
	})
	var ahead bool
	require.NoError(t, r.conn.QueryRow(t.Context(), "SELECT confirmed_flush_lsn > pg_current_wal_lsn() FROM pg_replication_slots WHERE slot_name = $1", r.slot).Scan(&ahead))
	require.False(t, ahead)
	require.NoError(t, stop())
	require.True(t, h.drained)
}

func TestNothingIsConfirmedBeforeTheHandlerSaysSo(t *testing.T) {
	r := newRig(t)
	before := r.confirmed(t)
	h := &reader{}
	stop := r.stream(t, h)
	r.db.Exec(t, "INSERT INTO a VALUES (1)")
	testkit.Eventually(t, 10*time.Second, func() error {
		if h.count() < 4 {
			return fmt.Errorf("%d messages", h.count())
		}
		return nil
	})
	require.NoError(t, stop())
	require.Equal(t, before, r.confirmed(t))
}

func TestStatusGoesOutWhileNothingIsRead(t *testing.T) {
	r := newRig(t)
	h := &reader{full: make(chan struct{})}
	stop := r.stream(t, h)
	r.db.Exec(t, "INSERT INTO a SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g")
	// Longer than wal_sender_timeout, 10 s: without status the server would have given up.
	end := time.Now().Add(12 * time.Second)
	testkit.Eventually(t, 20*time.Second, func() error {
		require.True(t, r.active(t), "the server gave the connection up")
		if time.Now().Before(end) {
			return errors.New("waiting out wal_sender_timeout")
		}
		return nil
	})
	require.Zero(t, h.count())
	h.set(func(r *reader) { close(r.full); r.full = nil })
	testkit.Eventually(t, 20*time.Second, func() error {
		if h.count() < 20003 {
			return fmt.Errorf("%d messages", h.count())
		}
		return nil
	})
	require.NoError(t, stop())
}

func TestAHandlersErrorEndsTheStream(t *testing.T) {
	r := newRig(t)
	h := &reader{fail: errors.New("cannot follow")}
	stop := r.stream(t, h)
	r.db.Exec(t, "INSERT INTO a VALUES (1)")
	testkit.Eventually(t, 10*time.Second, func() error {
		if h.count() == 0 {
			return errors.New("nothing read")
		}
		return nil
	})
	require.ErrorContains(t, stop(), "cannot follow")
	require.Equal(t, 1, h.count())
}

func TestAnIdleServerIsHeard(t *testing.T) {
	r := newRig(t)
	h := &reader{}
	stop := r.stream(t, h)
	r.db.Exec(t, "CREATE TABLE unwatched AS SELECT g FROM generate_series(1, 1000) g")
	var text string
	require.NoError(t, r.conn.QueryRow(t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&text))
	end, err := events.ParseLSN(text)
	require.NoError(t, err)
	testkit.Eventually(t, 20*time.Second, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.keepalive < end {
			return fmt.Errorf("keepalive %s, want %s", h.keepalive, end)
		}
		return nil
	})
	require.NoError(t, stop())
}

func TestTheURLsPasswordIsNotInErrors(t *testing.T) {
	_, err := wal.Connect(t.Context(), wal.Config{URL: "postgres://u:hunter2@127.0.0.1:1/db", Slot: "s"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
	_, err = wal.ParseURL("postgres://u:hunter2@127.0.0.1:port/db")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestABacklogOfMoreThanTheSocketHoldsIsReadWhole(t *testing.T) {
	r := newRig(t)
	r.db.Exec(t, "INSERT INTO a SELECT g, repeat('x', 300) FROM generate_series(1, 100000) g")
	h := &reader{}
	stop := r.stream(t, h)
	testkit.Eventually(t, 60*time.Second, func() error {
		if h.count() < 100003 {
			return fmt.Errorf("%d messages", h.count())
		}
		return nil
	})
	require.NoError(t, stop())
}
