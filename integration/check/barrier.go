package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
)

const barrierPoll = 10 * time.Millisecond

// Barrier waits until all that was committed before is applied.
type Barrier struct {
	// SQL commits a change of a row that nobody else changes, and Key is what must then be removed.
	SQL, Key string
	Conn     *pgx.Conn
	Redis    redis.UniversalClient
	// Changes is the stream of changes, and Consumer who applies them.
	Changes, Consumer string
	JetStream         jetstream.JetStream
}

// Wait commits the marker, waits until its key is gone, and then until the consumer has acknowledged all that was in the
// stream by then: workers may take events in any order, but the stream has them in the order of their commits. All writers
// must have stopped.
func (b *Barrier) Wait(ctx context.Context) error {
	if err := b.Redis.Set(ctx, b.Key, "{}", 0).Err(); err != nil {
		return fmt.Errorf("plant marker: %w", err)
	}
	if _, err := b.Conn.Exec(ctx, b.SQL); err != nil {
		return fmt.Errorf("commit marker: %w", err)
	}
	if err := until(ctx, b.markerGone); err != nil {
		return fmt.Errorf("wait for marker: %w", err)
	}
	last, err := b.last(ctx)
	if err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) error { return b.acknowledged(ctx, last) })
}

func (b *Barrier) markerGone(ctx context.Context) error {
	n, err := b.Redis.Exists(ctx, b.Key).Result()
	if err == nil && n > 0 {
		err = errors.New("its key is still cached")
	}
	return err
}

func (b *Barrier) last(ctx context.Context) (seq uint64, err error) {
	stream, err := b.JetStream.Stream(ctx, b.Changes)
	if err != nil {
		return 0, fmt.Errorf("look at stream: %w", err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

func (b *Barrier) acknowledged(ctx context.Context, seq uint64) error {
	consumer, err := b.JetStream.Consumer(ctx, b.Changes, b.Consumer)
	if err != nil {
		return fmt.Errorf("look at consumer: %w", err)
	}
	if floor := consumer.CachedInfo().AckFloor.Stream; floor < seq {
		return fmt.Errorf("message %d is acknowledged, %d are in the stream", floor, seq)
	}
	return nil
}

// until polls as long as ctx lasts, and then reports the last error that was not the end of ctx itself.
func until(ctx context.Context, check func(context.Context) error) error {
	tick := time.NewTicker(barrierPoll)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}
