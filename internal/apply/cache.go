package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/redis"
)

const (
	// tripAfter is how many failures in a row open the breaker: then only one caller at a time tries, once a probeEvery.
	tripAfter  = 3
	probeEvery = 500 * time.Millisecond
	retryFirst = 10 * time.Millisecond
	retryMost  = time.Second
	logEvery   = time.Minute
	// watchEvery is how often a cache is asked for a sign of life, so that readiness is true also when nothing changes.
	watchEvery = 5 * time.Second
)

// cacheState is one cache, with what is known of its health.
type cacheState struct {
	Cache
	index    int
	alone    bool // there is no other cache that would have to wait
	a        *Applier
	breaker  *gobreaker.CircuitBreaker[struct{}]
	sweeper  *sweeper
	repeater *repeater

	mu       sync.Mutex
	since    time.Time // of the first failure since the last success; zero: all is well
	reason   string
	failures int
	logged   time.Time
}

func newCacheState(a *Applier, c Cache, rate int) *cacheState {
	s := &cacheState{Cache: c, a: a, index: len(a.caches), alone: len(a.program.Caches()) == 1}
	s.sweeper, s.repeater = newSweeper(s, rate), newRepeater(s)
	s.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: c.Name, Timeout: probeEvery,
		ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= tripAfter },
		IsSuccessful: func(err error) bool { return err == nil || errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			a.metrics.breaker.WithLabelValues(c.Name).Set(float64(to))
		},
	})
	a.metrics.breaker.WithLabelValues(c.Name).Set(float64(gobreaker.StateClosed))
	a.ready(s.condition(), false, "no answer from redis yet")
	return s
}

func (s *cacheState) condition() string { return "cache " + s.Name }

func (s *cacheState) remove(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	return s.retry(ctx, func(ctx context.Context) error { return s.Client.Remove(ctx, keys) })
}

// watch asks for a sign of life until ctx ends.
func (s *cacheState) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		_ = s.retryUntil(ctx, s.Client.Ping, never) // what fails shows in readiness
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// retry does the work until it succeeds. It gives up when ctx ends, or when the breaker is open and other caches would
// have to wait for this one: then the messages come again, and the others have theirs meanwhile.
func (s *cacheState) retry(ctx context.Context, do func(context.Context) error) error {
	return s.retryUntil(ctx, do, func() bool { return !s.alone && s.breaker.State() == gobreaker.StateOpen })
}

func (s *cacheState) retryUntil(ctx context.Context, do func(context.Context) error, enough func() bool) error {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(retryFirst), backoff.WithMaxInterval(retryMost),
		backoff.WithMaxElapsedTime(0))
	err := backoff.Retry(func() error {
		_, err := s.breaker.Execute(func() (struct{}, error) { return struct{}{}, do(ctx) })
		switch {
		case err == nil:
			s.well()
			return nil
		case ctx.Err() != nil:
			return backoff.Permanent(context.Cause(ctx))
		case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		default:
			s.failed(err)
		}
		if enough() {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(wait, ctx))
	if err != nil {
		return fmt.Errorf("cache %s: %w", s.Name, err)
	}
	return nil
}

// well notes a success.
func (s *cacheState) well() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures > 0 {
		s.a.log.Info("cache answers again", zap.String("cache", s.Name), zap.Int("attempt", s.failures+1),
			zap.Duration("waited", time.Since(s.since)))
	}
	if s.failures > 0 || s.reason == "" {
		s.a.ready(s.condition(), true, "")
	}
	s.since, s.reason, s.failures, s.logged = time.Time{}, answered, 0, time.Time{}
}

// answered is the reason while there is none to be unready.
const answered = "ok"

// failed notes a failure: the first is logged, and then one a minute. A single one does not make unready.
func (s *cacheState) failed(err error) {
	s.a.metrics.retries.WithLabelValues(s.Name, redis.Cause(err)).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures++; s.failures == 1 {
		s.since = time.Now()
	}
	s.reason = err.Error()
	if s.failures >= tripAfter || redis.Permanent(err) {
		s.a.ready(s.condition(), false, s.reason)
	}
	if time.Since(s.logged) >= logEvery {
		s.logged = time.Now()
		s.a.log.Warn("cache does not take invalidations, they wait", zap.String("cache", s.Name),
			zap.Int("attempt", s.failures), zap.Error(err))
	}
}
