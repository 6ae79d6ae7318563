package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// Cache is one cache of the program.
type Cache struct {
	Name   string
	Client *redis.Client
}

// Feed is where applied invalidations go. A [stream.Publisher] is one.
type Feed interface {
	// Send queues a message, and calls its Done once the stream has it.
	Send(m *stream.Message)
}

// Options are what an [Applier] works with.
type Options struct {
	Program *mapping.Program
	Caches  []Cache // in the order of the program's
	Feed    Feed
	Letters jetstream.JetStream // where dead letters go
	// Ready is told whether a named condition of readiness holds, and why not. It must not block.
	Ready     func(name string, ok bool, reason string)
	SweepRate int // places of the keyspace per second and primary; zero means the default
	Log       *zap.Logger
	Metrics   prometheus.Registerer
}

// Applier applies batches of messages. Its methods are safe for concurrent use.
type Applier struct {
	program *mapping.Program
	caches  []*cacheState
	feed    Feed
	letters jetstream.JetStream
	ready   func(name string, ok bool, reason string)
	log     *zap.Logger
	metrics *metrics
	tables  map[string]events.Table // by subject
	scratch sync.Pool               // *batch

	progress progress
}

// New returns an applier. [Applier.Run] must run for sweeps to be done.
func New(opt Options) *Applier {
	a := &Applier{
		program: opt.Program, feed: opt.Feed, letters: opt.Letters, ready: opt.Ready, log: opt.Log,
		metrics: newMetrics(opt.Metrics), tables: map[string]events.Table{},
	}
	if a.ready == nil {
		a.ready = func(string, bool, string) {}
	}
	for _, c := range opt.Caches {
		a.caches = append(a.caches, newCacheState(a, c, opt.SweepRate))
	}
	a.ready(ConditionEpoch, false, "no event or heartbeat was applied yet")
	for _, t := range opt.Program.Tables() {
		a.tables[events.ChangesSubject(opt.Program.Source(), t.Table)] = t.Table
	}
	a.scratch.New = func() any { return newBatch(a) }
	return a
}

// Run does the sweeps that messages ask for, removes again what rules repeat, and keeps an eye on the caches, until ctx ends.
func (a *Applier) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, c := range a.caches {
		wg.Go(func() { c.sweeper.run(ctx) })
		wg.Go(func() { c.watch(ctx) })
		wg.Go(func() { c.repeater.run(ctx) })
	}
	wg.Wait()
}

// Handle applies a batch of messages of CHANGES: it is a [stream.Handler]. It returns nil once all are applied, or a
// [stream.Later] with those that need a sweep. While a cache is away it waits and tries again; only the end of ctx, or
// another cache that must not wait for this one, makes it return an error.
func (a *Applier) Handle(ctx context.Context, messages []*nats.Msg) error {
	b := a.scratch.Get().(*batch)
	defer a.scratch.Put(b)
	b.reset()
	for _, m := range messages {
		if err := b.add(ctx, m); err != nil {
			return err
		}
	}
	a.metrics.batch.Observe(float64(len(messages)))
	if err := a.remove(ctx, b); err != nil {
		return err
	}
	b.observe(time.Now())
	b.repeat()
	if err := a.publish(ctx, b.feed()); err != nil {
		return err
	}
	later := b.later()
	a.applied(b.highest, b.newest)
	return later
}

// remove deletes the batch's keys from all caches, side by side.
func (a *Applier) remove(ctx context.Context, b *batch) error {
	if len(a.caches) == 1 {
		return a.caches[0].remove(ctx, b.caches[0].keys)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(a.caches))
	for i, c := range a.caches {
		wg.Go(func() { errs[i] = c.remove(ctx, b.caches[i].keys) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Gap invalidates everything, and returns once that is done: messages may have been lost before they were handled.
func (a *Applier) Gap(ctx context.Context, reason string) error {
	a.metrics.widened.WithLabelValues(levelCache, causeGap).Inc()
	a.epochBegins(reason)
	if err := a.sweep(ctx, []Request{{Reason: reason, time: time.Now()}}); err != nil {
		return fmt.Errorf("invalidate everything: %w", err)
	}
	return nil
}
