package apply

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/pkg/events"
)

// sweep has all requests done in the caches that they concern, and then tells the feed. For each that invalidates
// everything, epochBegins was called.
func (a *Applier) sweep(ctx context.Context, requests []Request) (err error) {
	for _, r := range requests {
		if r.whole() {
			defer func() { a.epochEnds(err == nil) }()
		}
	}
	var runs []*sweepRun
	for _, c := range a.caches {
		if run := c.sweeper.join(requests); run != nil {
			runs = append(runs, run)
		}
	}
	for _, run := range runs {
		select {
		case <-run.done:
		case <-ctx.Done():
			return fmt.Errorf("wait for sweep: %w", context.Cause(ctx))
		}
	}
	for _, c := range a.caches {
		c.repeater.sweep(requests)
	}
	return a.publish(ctx, toldSweeps(a.program, requests))
}

// sweeper does the sweeps of one cache, one run after another, on a goroutine of its own: workers go on meanwhile. A request
// joins the run that begins next, with all others that wait, and the same ones are done once.
type sweeper struct {
	cache *cacheState
	rate  int
	wake  chan struct{}

	mu   sync.Mutex
	next *sweepRun // nil: nothing waits
	now  string    // what is being swept, for the status
}

type sweepRun struct {
	requests map[requestKey]Request
	done     chan struct{} // closed when all is swept
}

func newSweeper(c *cacheState, rate int) *sweeper {
	return &sweeper{cache: c, rate: rate, wake: make(chan struct{}, 1)}
}

// join adds what concerns this cache to the next run, and returns it, or nil where nothing does. It is never the run that
// is under way: that one may have passed the values in question.
func (s *sweeper) join(requests []Request) *sweepRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	var joined *sweepRun
	for _, r := range requests {
		if !r.Concerns(s.cache.index) {
			continue
		}
		if s.next == nil {
			s.next = &sweepRun{requests: map[requestKey]Request{}, done: make(chan struct{})}
		}
		s.next.requests[r.key()] = r
		joined = s.next
	}
	if joined != nil {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return joined
}

func (s *sweeper) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.mu.Lock()
		run := s.next
		s.next = nil
		s.mu.Unlock()
		if run == nil {
			continue
		}
		if err := s.do(ctx, run); err != nil {
			return // ctx ended; whoever waits for the run sees the same
		}
		close(run.done)
	}
}

// patterns returns what a run sweeps: nothing twice that a wider request has already.
func (s *sweeper) patterns(run *sweepRun) []events.Pattern {
	program := s.cache.a.program
	if whole, ok := run.requests[wholeKey]; ok {
		return whole.Patterns(program, s.cache.index)
	}
	var patterns []events.Pattern
	for key, r := range run.requests {
		if _, wider := run.requests[requestKey{rule: key.rule, all: true}]; wider && !key.all {
			continue
		}
		patterns = append(patterns, r.Patterns(program, s.cache.index)...)
	}
	return patterns
}

// do sweeps until it succeeds, or ctx ends.
func (s *sweeper) do(ctx context.Context, run *sweepRun) error {
	a, began := s.cache.a, time.Now()
	sweep := redis.Sweep{Patterns: s.patterns(run), Rate: s.rate}
	log := a.log.With(zap.String("cache", s.cache.Name), zap.Int("sweeps", len(run.requests)))
	log.Info("sweep begins", zap.Int("patterns", len(sweep.Patterns)))
	s.show(fmt.Sprintf("sweeping %d patterns", len(sweep.Patterns)))
	defer s.show("")
	sweep.Progress = func(p redis.Progress) {
		s.show(fmt.Sprintf("sweeping %d patterns: pass %d, %d keys removed", len(sweep.Patterns), p.Pass, p.Keys))
	}
	var done redis.Progress
	err := s.cache.retryUntil(ctx, func(ctx context.Context) (err error) {
		done, err = s.cache.Client.Sweep(ctx, sweep)
		return err
	}, never)
	if err != nil {
		return err
	}
	a.metrics.sweeps.WithLabelValues(s.cache.Name).Inc()
	a.metrics.swept.WithLabelValues(s.cache.Name).Add(float64(done.Keys))
	log.Info("sweep done", zap.Uint64("keys", done.Keys), zap.Int("restarts", done.Restarts), zap.Duration("waited", time.Since(began)))
	return nil
}

func (s *sweeper) show(now string) {
	s.mu.Lock()
	s.now = now
	s.mu.Unlock()
}

// showing returns what is being swept and whether more waits.
func (s *sweeper) showing() (now string, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		waiting = len(s.next.requests)
	}
	return s.now, waiting
}
