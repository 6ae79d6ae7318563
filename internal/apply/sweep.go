package apply

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// sweepRequest asks for all that a rule's templates can have rendered for one tenant or for all, or for the whole caches.
type sweepRequest struct {
	rule   *mapping.Rule // nil for the whole caches
	tenant string
	all    bool
	whole  bool
	reason string

	position events.Position // the highest that led to it
	time     time.Time
}

// sweepKey is what makes two requests the same.
type sweepKey struct {
	rule   *mapping.Rule
	tenant string
	all    bool
}

func (r sweepRequest) key() sweepKey {
	if r.all {
		return sweepKey{rule: r.rule, all: true}
	}
	return sweepKey{rule: r.rule, tenant: r.tenant}
}

func (r sweepRequest) level() string {
	switch {
	case r.whole:
		return levelCache
	case r.all:
		return levelRule
	}
	return levelTenant
}

// concerns tells whether the request reaches a cache.
func (r sweepRequest) concerns(cache int) bool {
	if r.whole {
		return true
	}
	for _, c := range r.rule.Caches {
		if c == cache {
			return true
		}
	}
	return false
}

// patterns returns what the request sweeps from a cache.
func (r sweepRequest) patterns(p *mapping.Program, cache int) []events.Pattern {
	if !r.whole {
		return r.rule.Patterns(r.tenant, r.all)
	}
	var patterns []events.Pattern
	for _, rule := range p.Rules() {
		if (sweepRequest{rule: rule}).concerns(cache) {
			patterns = append(patterns, rule.Patterns("", true)...)
		}
	}
	return patterns
}

// sweep has all requests done in the caches that they concern, and then tells the feed.
func (a *Applier) sweep(ctx context.Context, requests []sweepRequest) (err error) {
	for _, r := range requests {
		if r.whole {
			a.epochBegins(r.reason)
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
	return a.publish(ctx, a.toldSweeps(requests))
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
	requests map[sweepKey]sweepRequest
	done     chan struct{} // closed when all is swept
}

func newSweeper(c *cacheState, rate int) *sweeper {
	return &sweeper{cache: c, rate: rate, wake: make(chan struct{}, 1)}
}

// join adds what concerns this cache to the next run, and returns it, or nil where nothing does. It is never the run that
// is under way: that one may have passed the values in question.
func (s *sweeper) join(requests []sweepRequest) *sweepRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	var joined *sweepRun
	for _, r := range requests {
		if !r.concerns(s.cache.index) {
			continue
		}
		if s.next == nil {
			s.next = &sweepRun{requests: map[sweepKey]sweepRequest{}, done: make(chan struct{})}
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
	if whole, ok := run.requests[sweepKey{}]; ok {
		return whole.patterns(program, s.cache.index)
	}
	var patterns []events.Pattern
	for key, r := range run.requests {
		if _, wider := run.requests[sweepKey{rule: key.rule, all: true}]; wider && !key.all {
			continue
		}
		patterns = append(patterns, r.patterns(program, s.cache.index)...)
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
	}, func() bool { return false })
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
