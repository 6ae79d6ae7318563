package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/ops"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// shadow shows what the rules would do to changes as they come, and touches nothing: neither a cache, nor the feed, nor the
// consumer whose messages the invalidators share.
type shadow struct {
	program *mapping.Program
	out     io.Writer
	log     *zap.Logger
	would   *prometheus.CounterVec
	events  prometheus.Counter
	scratch mapping.Result
}

// dryRun follows the stream from now on, until ctx ends.
func (c *runCommand) dryRun(ctx context.Context, env *config.Env, p *mapping.Program, log *zap.Logger) (err error) {
	registry, conditions := ops.NewRegistry("invalidator"), ops.NewConditions(conditionNATS)
	server, err := ops.Serve(c.HTTP, conditions, registry, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	nc, err := stream.Connect(ctx, streamConfig(c.NATS), "invalidator dry run", log,
		stream.OnState(func(ok bool, reason string) { conditions.Set(conditionNATS, ok, reason) }))
	if err != nil {
		return ended(ctx, mistaken(err))
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	return ended(ctx, newShadow(p, env.Stdout, log, registry).follow(ctx, js))
}

func newShadow(p *mapping.Program, out io.Writer, log *zap.Logger, r prometheus.Registerer) *shadow {
	s := &shadow{
		program: p, out: out, log: log,
		would: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walfence_dry_run_total", Help: "What the rules would have done, each once per event.",
		}, []string{"rule", "action"}),
		events: prometheus.NewCounter(prometheus.CounterOpts{Name: "walfence_dry_run_events_total", Help: "Events evaluated."}),
	}
	r.MustRegister(s.would, s.events)
	return s
}

// follow evaluates one event after the other. Interruptions are mended by the consumer itself.
func (s *shadow) follow(ctx context.Context, js jetstream.JetStream) error {
	consumer, err := js.OrderedConsumer(ctx, stream.Changes, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{strings.TrimSuffix(events.SourceSubject(s.program.Source()), "_._") + ">"},
		DeliverPolicy:  jetstream.DeliverNewPolicy,
	})
	if err != nil {
		return fmt.Errorf("follow stream %s: %w", stream.Changes, err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("follow stream %s: %w", stream.Changes, err)
	}
	defer messages.Stop()
	s.log.Info("dry run follows the stream, and touches nothing", zap.String("source", s.program.Source()))
	var e events.Event
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow stream %s: %w", stream.Changes, err)
		}
		if err := events.Decode(m.Data(), &e); err != nil {
			s.log.Warn("event cannot be decoded, all that it may concern would be swept", zap.String("subject", m.Subject()), zap.Error(err))
			continue
		}
		if err := s.show(&e); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
}

// show counts and prints what one event would lead to.
func (s *shadow) show(e *events.Event) error {
	if e.Kind == events.KindHeartbeat {
		return nil
	}
	s.events.Inc()
	would := effects(s.program, e, &s.scratch)
	var b strings.Builder
	b.WriteString(eventLine(e) + "\n")
	if s.scratch.Whole {
		fmt.Fprintf(&b, "  everything is invalidated: %s\n", printable(s.scratch.Cause))
	}
	for i, what := range slices.Sorted(maps.Keys(would)) {
		action, _, _ := strings.Cut(what, " ")
		s.would.WithLabelValues(would[what], action).Inc()
		switch {
		case i < shownEffects:
			fmt.Fprintf(&b, "  %s (%s)\n", what, would[what])
		case i == shownEffects:
			fmt.Fprintf(&b, "  and %d more\n", len(would)-i)
		}
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}

// shownEffects is how many effects of one event a dry run lists.
const shownEffects = 20
