package main

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
	"golang.org/x/sync/errgroup"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/ops"
	"github.com/walfence/walfence/internal/relay"
	"github.com/walfence/walfence/internal/source"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/mapping"
)

type runCommand struct {
	database
	config.NATS `embed:"" group:"JetStream"`
}

// budget bounds what was read and is not in the stream: enough for a full window of large events.
const budget = 8 << 20

// run is everything that `cdc run` holds, and what it is closed with, last first.
type run struct {
	settings   *runCommand
	program    *mapping.Program
	log        *zap.Logger
	metrics    *prometheus.Registry
	conditions *ops.Conditions
	http       *ops.Server
	embedded   *stream.Embedded
	limits     stream.Config
	nats       *nats.Conn
	jetstream  jetstream.JetStream
	closers    []func()
	ensured    chan struct{} // closed when the streams are there
	once       sync.Once
}

// Run streams until ctx ends.
func (c *runCommand) Run(ctx context.Context, env *config.Env) error {
	log, err := ops.NewLogger(c.Log, env.Stderr)
	if err != nil {
		return err
	}
	program, err := c.compile(env)
	if err != nil {
		return err
	}
	r := &run{
		settings: c, program: program, log: log, metrics: ops.NewRegistry("cdc"),
		conditions: ops.NewConditions("postgres", "nats", "publishing"), ensured: make(chan struct{}),
	}
	defer r.close()
	if err := r.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return r.stream(ctx)
}

func (r *run) close() {
	for i := len(r.closers) - 1; i >= 0; i-- {
		r.closers[i]()
	}
}

// open starts what the source needs: HTTP first, so that waiting for the rest can be watched.
func (r *run) open(ctx context.Context) (err error) {
	if r.http, err = ops.Serve(r.settings.HTTP, r.conditions, r.metrics, r.log); err != nil {
		return fmt.Errorf("CDC_HTTP: %w", err)
	}
	r.closers = append(r.closers, func() { r.logged("close http", r.http.Close()) })
	if err := r.connect(ctx); err != nil {
		var mistake *stream.ConfigError
		if errors.As(err, &mistake) {
			return config.Mistake(err)
		}
		return err
	}
	r.jetstream, err = jetstream.New(r.nats)
	return err
}

func (r *run) connect(ctx context.Context) (err error) {
	cfg := streamConfig(r.settings.NATS)
	options := []stream.Option{
		stream.OnState(func(ok bool, reason string) { r.conditions.Set("nats", ok, reason) }), stream.Metrics(r.metrics),
	}
	if !cfg.Embedded() {
		r.limits = cfg
		r.nats, err = stream.Connect(ctx, cfg, "cdc", r.log, options...)
	} else {
		err = r.embed(ctx, cfg, options)
	}
	if err == nil {
		r.closers = append(r.closers, r.nats.Close)
	}
	return err
}

func (r *run) embed(ctx context.Context, cfg stream.Config, options []stream.Option) (err error) {
	if r.embedded, err = stream.StartEmbedded(cfg, r.log); err != nil {
		return err
	}
	r.closers = append(r.closers, func() { r.logged("close embedded nats server", r.embedded.Close()) })
	var lowered bool
	if r.limits, lowered, err = r.embedded.Fit(cfg); err != nil {
		return err
	}
	if lowered {
		r.log.Warn("the disk is smaller than STREAM_MAX_BYTES, the stream is limited to what fits", zap.Int64("bytes", r.limits.MaxBytes))
	}
	r.nats, err = r.embedded.Connect(ctx, "cdc", r.log, options...)
	return err
}

func streamConfig(n config.NATS) stream.Config {
	return stream.Config{
		URL: n.URL.Reveal(), Listen: n.Listen, Store: n.Store, Creds: n.Creds, NKey: n.NKey, CA: n.CA, Cert: n.Cert, Key: n.Key,
		MaxBytes: int64(n.MaxBytes), MaxAge: n.MaxAge, Replicas: n.Replicas,
	}
}

// ensure makes the streams. What differs from what was promised is the operator's to decide.
func (r *run) ensure(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	streams, err := stream.Ensure(ctx, r.jetstream, r.limits)
	if err != nil {
		var unfit *stream.UnfitError
		if errors.As(err, &unfit) {
			return time.Time{}, &source.PermanentError{Err: err}
		}
		return time.Time{}, err
	}
	for _, kept := range streams.Kept {
		r.log.Warn("a limit was not set: it would drop messages", zap.String("limit", kept))
	}
	r.once.Do(func() { close(r.ensured) })
	return streams.Changes.Created, nil
}

// stream runs the source until ctx ends.
func (r *run) stream(ctx context.Context) error {
	cfg := relay.Config{Source: r.program.Source(), Budget: budget, Log: r.log, Metrics: r.metrics}
	if r.embedded != nil {
		cfg.Trail = 2 * stream.SyncInterval
	}
	relayed, err := relay.New(r.nats, cfg)
	if err != nil {
		return err
	}
	r.closers = append(r.closers, relayed.Close)
	database := source.New(r.sourceConfig(), relayed)
	r.http.Register("source", func() any {
		return map[string]any{"name": r.program.Source(), "relay": relayed.Status(), "slot": database.Slot()}
	})
	group, parts := errgroup.WithContext(ctx)
	parts, stop := context.WithCancel(parts)
	group.Go(func() error {
		defer stop()
		return mistaken(database.Run(ctx))
	})
	group.Go(func() error { r.tidy(parts); return nil })
	group.Go(func() error { r.watch(parts, relayed); return nil })
	return group.Wait()
}

func (r *run) sourceConfig() source.Config {
	s := r.settings
	return source.Config{
		URL: s.DatabaseURL.Reveal(), Slot: s.Slot, Publication: s.Publication, Setup: s.CDC.Setup == "auto",
		ColumnLists: s.ColumnLists == "on", Trust: s.FirstStart == "trust", TrustCrash: s.EpochOnCrash == "never", Heartbeat: s.Heartbeat,
		Program: r.program, Log: r.log, Metrics: r.metrics,
		Ready:     func(ok bool, reason string) { r.conditions.Set("postgres", ok, config.Redact(reason)) },
		JetStream: r.jetstream, Ensure: r.ensure,
	}
}

// tidy keeps room in the stream, from when there is one.
func (r *run) tidy(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-r.ensured:
		stream.NewJanitor(r.jetstream, stream.JanitorOptions{Log: r.log, Metrics: r.metrics}).Run(ctx)
	}
}

// watch tells whether publishing goes well.
func (r *run) watch(ctx context.Context, relayed *relay.Relay) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		failing := relayed.Status().Failing
		r.conditions.Set("publishing", failing == "", failing)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *run) logged(what string, err error) {
	if err != nil {
		r.log.Warn("closing", zap.String("what", what), zap.Error(err))
	}
}
