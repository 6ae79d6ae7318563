package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

// applier keeps the applied record that readers of a replica need, and removes their keys once more after each raise: what an
// invalidator does, for one way only.
type applier struct {
	stage  *stage
	js     jetstream.JetStream
	record *cache.Applied
	seen   atomic.Uint64 // the highest commit LSN that is applied
	stop   context.CancelFunc
	done   sync.WaitGroup
	failed atomic.Pointer[error]
}

func openApplier(s *stage) (*applier, error) {
	a := &applier{stage: s, record: cache.NewApplied(s.client, sourceName)}
	var err error
	if a.js, err = jetstream.New(s.bus); err != nil {
		return nil, fmt.Errorf("use jetstream: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	subscriber, err := events.NewSubscriber(s.bus, events.SubscriberOptions{
		Source: sourceName, OnEvent: func(e *events.Event) { a.take(ctx, e) },
		OnGap: func(string) {}, FromSequence: 1, // there is one, the first epoch; what another one loses would stay stale
	})
	if err != nil {
		stop()
		return nil, err
	}
	a.done.Go(func() { _ = subscriber.Run(ctx) }) // its error is that it was stopped
	return a, nil
}

func (a *applier) fail(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		a.failed.CompareAndSwap(nil, &err)
	}
}

// take raises the record, and only then removes.
func (a *applier) take(ctx context.Context, e *events.Event) {
	usable, err := a.record.Raise(ctx, e.Position)
	a.fail(ctx, err)
	for i := range e.Changes {
		for _, column := range []events.Value{e.NewValue(&e.Changes[i], a.id(e)), e.OldValue(&e.Changes[i], a.id(e))} {
			a.fail(ctx, a.remove(ctx, column.Text))
		}
	}
	if !usable {
		_ = a.record.Restore(ctx, a.highest) // lost once more: the next event tries again
	}
	a.seen.Store(max(a.seen.Load(), uint64(e.Position.LSN)))
}

func (a *applier) id(e *events.Event) int {
	for i, name := range e.Columns {
		if name == "id" {
			return i
		}
	}
	return 0
}

func (a *applier) remove(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	n, err := parseVersion(id)
	if err != nil {
		return err
	}
	for _, w := range a.stage.ways {
		if g, ok := w.protocol.(*guarded); ok && g.replica {
			if err := a.stage.client.Unlink(ctx, w.key(n), cache.GuardKey(w.key(n))).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// highest returns the highest position in the stream.
func (a *applier) highest(ctx context.Context) (p events.Position, err error) {
	last, found, err := stream.Last(ctx, a.js, sourceName)
	if err != nil || !found {
		return p, errors.Join(err, errors.New("no change in the stream yet"))
	}
	c, err := events.ParseContinuity(nats.Header(last.Header).Get(events.HeaderContinuity))
	return events.Position{Epoch: c.Epoch, LSN: c.Published.LSN}, err
}

// reached returns nil once everything up to an LSN is applied.
func (a *applier) reached(lsn uint64) error {
	if err := a.failed.Load(); err != nil {
		return *err
	}
	if seen := a.seen.Load(); seen < lsn {
		return fmt.Errorf("applied up to %s, not yet to %s", events.LSN(seen), events.LSN(lsn))
	}
	return nil
}

func (a *applier) close() {
	a.stop()
	a.done.Wait()
}
