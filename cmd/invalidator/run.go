package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/apply"
	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/ops"
	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/mapping"
)

// The conditions of readiness that concern NATS. Package apply has more.
const (
	conditionNATS   = "nats"
	conditionStream = "stream"
)

type runCommand struct {
	DryRun bool `name:"dry-run" help:"Show and count what would be done to changes from now on, and touch nothing."`

	ruleSettings       `embed:""`
	config.NATS        `embed:"" group:"NATS"`
	config.Invalidator `embed:"" group:"Invalidator"`
	config.Log         `embed:"" group:"Log"`
}

// service is a running invalidator.
type service struct {
	workers    int
	nats       stream.Config
	program    *mapping.Program
	caches     []apply.Cache
	log        *zap.Logger
	registry   *prometheus.Registry
	conditions *ops.Conditions
	server     *ops.Server
}

// Run applies invalidations until ctx ends. Then it finishes the batches in hand.
func (c *runCommand) Run(ctx context.Context, env *config.Env) (err error) {
	log, err := ops.NewLogger(c.Log, env.Stderr)
	if err != nil {
		return config.Mistake(err)
	}
	redis.LogTo(log)
	s := &service{
		workers: c.Workers, nats: streamConfig(c.NATS), log: log,
		registry: ops.NewRegistry("invalidator"), conditions: ops.NewConditions(conditionNATS, conditionStream, apply.ConditionEpoch),
	}
	if s.program, err = c.load(env); err != nil {
		return err
	}
	if c.DryRun {
		return c.dryRun(ctx, env, s.program, log)
	}
	if err = refuse(s.program); err != nil {
		return config.Mistake(err)
	}
	if s.caches, err = openCaches(s.program); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeCaches(s.caches)) }()
	if s.server, err = ops.Serve(c.HTTP, s.conditions, s.registry, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.server.Close()) }()
	log.Info("invalidator starts", zap.Stringer("version", ops.ThisBuild()), zap.String("source", s.program.Source()),
		zap.Int("rules", len(s.program.Rules())), zap.Int("workers", s.workers))
	err = ended(ctx, s.run(ctx))
	log.Info("invalidator stops", zap.Error(err))
	return err
}

// run connects, for as long as that takes, and works until ctx ends.
func (s *service) run(ctx context.Context) error {
	nc, err := stream.Connect(ctx, s.nats, "invalidator", s.log, stream.Metrics(s.registry),
		stream.OnState(func(ok bool, reason string) { s.conditions.Set(conditionNATS, ok, reason) }))
	if err != nil {
		return mistaken(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	if err := s.awaitStreams(ctx, js); err != nil {
		return err
	}
	feed, err := stream.NewPublisher(nc, stream.PublisherOptions{Log: s.log.With(zap.String("subject", "invalidations"))})
	if err != nil {
		return fmt.Errorf("open feed: %w", err)
	}
	defer feed.Close()
	s.work(ctx, nc, js, feed)
	return nil
}

// awaitStreams waits until cdc has set up JetStream. It may never have been there.
func (s *service) awaitStreams(ctx context.Context, js jetstream.JetStream) error {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(2*time.Second),
		backoff.WithMaxElapsedTime(0))
	logged, attempt := time.Time{}, 0
	return backoff.RetryNotify(func() error {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := stream.Open(asking, js)
		return err
	}, backoff.WithContext(wait, ctx), func(err error, _ time.Duration) {
		attempt++
		s.conditions.Set(conditionStream, false, err.Error())
		if time.Since(logged) >= time.Minute {
			logged = time.Now()
			s.log.Warn("streams are not there, waiting for cdc", zap.Int("attempt", attempt), zap.Error(err))
		}
	})
}

// work applies what the consumer brings until ctx ends. The applier outlives the consumer: batches in hand need it.
func (s *service) work(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, feed *stream.Publisher) {
	applier := apply.New(apply.Options{
		Program: s.program, Caches: s.caches, Feed: feed, Letters: js, Ready: s.conditions.Set, Log: s.log, Metrics: s.registry,
	})
	s.server.Register("applied", func() any { return applier.Status() })
	consumer := stream.NewConsumer(js, stream.ConsumerOptions{
		Source: s.program.Source(), Workers: s.workers, Gap: applier.Gap, Log: s.log, Metrics: s.registry,
		State: func(ok bool, reason string) { s.conditions.Set(conditionStream, ok, reason) },
	})
	applying, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { applier.Run(applying) })
	consumer.Run(ctx, applier.Handle)
	stop()
	wg.Wait()
}
