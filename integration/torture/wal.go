package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/redis/go-redis/v9"
)

// walReader is what most pipelines are: it hands a commit on as soon as PostgreSQL streams it, visible or not.
type walReader struct {
	conn *pgconn.PgConn
	ways []*way

	client *redis.Client
	seen   atomic.Uint64 // end of the last commit that was handed on
	stop   context.CancelFunc
	done   sync.WaitGroup
	err    error // after done
}

const walSlot = "torture_ungated"

func openWAL(ctx context.Context, url string, client *redis.Client, ways []*way) (*walReader, error) {
	conn, err := pgconn.Connect(ctx, url+"&replication=database")
	if err != nil {
		return nil, fmt.Errorf("connect for replication: %w", err)
	}
	if _, err = pglogrepl.CreateReplicationSlot(ctx, conn, walSlot, "test_decoding", pglogrepl.CreateReplicationSlotOptions{Temporary: true}); err == nil {
		err = pglogrepl.StartReplication(ctx, conn, walSlot, 0, pglogrepl.StartReplicationOptions{})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start replication: %w", err), conn.Close(ctx))
	}
	r := &walReader{conn: conn, client: client, ways: ways}
	run, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.done.Go(func() { r.err = r.run(run) })
	return r, nil
}

// run reads until ctx ends.
func (r *walReader) run(ctx context.Context) error {
	var changed []int64
	status := time.Now()
	for ctx.Err() == nil {
		if time.Since(status) > time.Second {
			status = time.Now()
			p := pglogrepl.StandbyStatusUpdate{WALWritePosition: pglogrepl.LSN(r.seen.Load())}
			if err := pglogrepl.SendStandbyStatusUpdate(ctx, r.conn, p); err != nil {
				return err
			}
		}
		bounded, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		m, err := r.conn.ReceiveMessage(bounded)
		cancel()
		if pgconn.Timeout(err) || ctx.Err() != nil {
			continue
		}
		if err != nil {
			return fmt.Errorf("read replication: %w", err)
		}
		data, ok := m.(*pgproto3.CopyData)
		if !ok || data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		x, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			return err
		}
		if changed, err = r.take(ctx, x, changed); err != nil {
			return err
		}
	}
	return nil
}

var idOf = regexp.MustCompile(` id\[bigint\]:(\d+)`)

// take collects a transaction's rows, and invalidates them when it is committed.
func (r *walReader) take(ctx context.Context, x pglogrepl.XLogData, changed []int64) ([]int64, error) {
	text := string(x.WALData)
	switch {
	case strings.HasPrefix(text, "BEGIN"):
		return changed[:0], nil
	case !strings.HasPrefix(text, "COMMIT"):
		if m := idOf.FindStringSubmatch(text); m != nil {
			id, err := strconv.ParseInt(m[1], 10, 64)
			return append(changed, id), err
		}
		return changed, nil
	}
	pipe := r.client.Pipeline() // one round trip: a late invalidation repairs what an early one cannot
	for _, id := range changed {
		for _, w := range r.ways {
			w.protocol.invalidate(ctx, pipe, w.key(id), uint64(x.WALStart))
		}
	}
	if _, err := pipe.Exec(ctx); err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("invalidate: %w", err)
	}
	r.seen.Store(uint64(x.WALStart))
	return changed[:0], nil
}

// reached returns nil once everything committed up to an LSN was handed on.
func (r *walReader) reached(lsn uint64) error {
	if seen := r.seen.Load(); seen < lsn {
		return fmt.Errorf("the reader is at %s, not yet at %s", pglogrepl.LSN(seen), pglogrepl.LSN(lsn))
	}
	return nil
}

func (r *walReader) close() error {
	r.stop()
	r.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return errors.Join(r.err, r.conn.Close(ctx))
}
