package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walfence/walfence/pkg/events"
)

const (
	barrierFirst = 5 * time.Millisecond
	barrierMost  = 100 * time.Millisecond
)

// WaitFor returns when everything that was committed up to an LSN has been applied to Redis: take the LSN with
// pg_current_wal_lsn() after the commit. It is a barrier for tests, and for a writer that must see its own write elsewhere. A
// commit takes milliseconds, and the very last one of an otherwise idle database up to a heartbeat.
//
// It needs FeedOptions.Source, and may look at the stream CHANGES and its consumer "invalidator". The error is that of ctx with
// what was still to come.
func (f *Feed) WaitFor(ctx context.Context, lsn events.LSN) error {
	if f.opt.Source == "" {
		return errors.New("wait for commit: the feed needs a Source")
	}
	js, err := jetstream.New(f.nc)
	if err != nil {
		return fmt.Errorf("wait for commit: %w", err)
	}
	b := barrier{js: js, subject: events.SourceSubject(f.opt.Source), source: f.opt.Source}
	b.subject = b.subject[:len(b.subject)-len("_._")] + ">"
	var sequence uint64
	if err := poll(ctx, func() (err error) { sequence, err = b.inStream(ctx, lsn); return err }); err != nil {
		return fmt.Errorf("wait for commit: %w", err)
	}
	if err := poll(ctx, func() error { return b.acknowledged(ctx, sequence) }); err != nil {
		return fmt.Errorf("wait for commit: %w", err)
	}
	return nil
}

type barrier struct {
	js              jetstream.JetStream
	source, subject string
}

// inStream returns the sequence up to which the stream has everything up to the LSN.
func (b *barrier) inStream(ctx context.Context, lsn events.LSN) (uint64, error) {
	stream, err := b.js.Stream(ctx, "CHANGES")
	if err != nil {
		return 0, fmt.Errorf("look at stream: %w", err)
	}
	last, err := stream.GetLastMsgForSubject(ctx, b.subject)
	if err != nil {
		return 0, fmt.Errorf("get last change of source %s: %w", b.source, err)
	}
	c, err := events.ParseContinuity(nats.Header(last.Header).Get(events.HeaderContinuity))
	if err != nil {
		return 0, err
	}
	if c.Floor < lsn {
		return 0, fmt.Errorf("the stream has everything up to %s, not yet to %s", c.Floor, lsn)
	}
	return last.Sequence, nil
}

// acknowledged returns nil once the invalidator has applied everything up to a sequence.
func (b *barrier) acknowledged(ctx context.Context, sequence uint64) error {
	consumer, err := b.js.Consumer(ctx, "CHANGES", "invalidator")
	if err != nil {
		return fmt.Errorf("look at consumer: %w", err)
	}
	if floor := consumer.CachedInfo().AckFloor.Stream; floor < sequence {
		return fmt.Errorf("the invalidator has applied message %d, not yet %d", floor, sequence)
	}
	return nil
}

// poll asks until there is no error: JetStream has no signal for what is waited for here.
func poll(ctx context.Context, check func() error) error {
	for pause := barrierFirst; ; pause = min(2*pause, barrierMost) {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}
