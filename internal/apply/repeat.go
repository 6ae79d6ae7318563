package apply

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/walfence/walfence/pkg/events"
)

const (
	// repeatBytes bounds what waits to be removed again from one cache: about half a million keys. Above it the oldest is
	// given up, since a repeat is no part of the promise and must not cost what is: `repeat` says so.
	repeatBytes = 64 << 20
	// repeatOverhead is what a key costs beside its bytes, once in the keys and once in what the feed is told.
	repeatOverhead = 64
)

// repeater removes keys of one cache again, some time after they were removed: readers that fill without a guard may have
// stored an old value meanwhile. What waits is in memory only. When the program stops it is removed at once.
type repeater struct {
	cache *cacheState
	wake  chan struct{}

	mu     sync.Mutex
	queues map[time.Duration][]*repeat // each in the order of due
	bytes  int
	logged time.Time
}

// repeat is what is to be done again at one time.
type repeat struct {
	due      time.Time
	keys     []string
	told     []events.Invalidation
	requests []Request
	bytes    int
}

func newRepeater(c *cacheState) *repeater {
	return &repeater{cache: c, wake: make(chan struct{}, 1), queues: map[time.Duration][]*repeat{}}
}

// remove has keys removed again after a time.
func (r *repeater) remove(after time.Duration, again *removals) {
	one := &repeat{due: time.Now().Add(after), keys: again.keys}
	one.told = again.tell(r.cache.a.program.Source(), r.cache.Name, nil)
	for _, key := range one.keys {
		one.bytes += 2*len(key) + repeatOverhead
	}
	r.add(after, one)
}

// sweep has sweeps done again that concern rules which repeat.
func (r *repeater) sweep(requests []Request) {
	queued := map[time.Duration][]Request{}
	for _, request := range requests {
		if !request.Concerns(r.cache.index) {
			continue
		}
		if !request.whole() {
			for _, after := range request.Rule.Repeat {
				queued[after] = append(queued[after], request)
			}
			continue
		}
		for _, rule := range r.cache.a.program.Rules() {
			part := Request{Rule: rule, All: true, Reason: request.Reason, position: request.position, time: request.time}
			for _, after := range rule.Repeat {
				if part.Concerns(r.cache.index) {
					queued[after] = append(queued[after], part)
				}
			}
		}
	}
	for after, requests := range queued {
		r.add(after, &repeat{due: time.Now().Add(after), requests: requests, bytes: len(requests) * 4 * repeatOverhead})
	}
}

func (r *repeater) add(after time.Duration, one *repeat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queues[after] = append(r.queues[after], one)
	r.bytes += one.bytes
	for r.bytes > repeatBytes {
		r.giveUp(r.oldest())
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// oldest returns the queue whose first is due first. There must be one.
func (r *repeater) oldest() time.Duration {
	var first time.Duration
	var due time.Time
	for after, queue := range r.queues {
		if due.IsZero() || queue[0].due.Before(due) {
			first, due = after, queue[0].due
		}
	}
	return first
}

// pop takes the first of a queue.
func (r *repeater) pop(after time.Duration) *repeat {
	queue := r.queues[after]
	one := queue[0]
	queue[0] = nil
	if r.queues[after] = queue[1:]; len(queue) == 1 {
		delete(r.queues, after)
	}
	r.bytes -= one.bytes
	return one
}

func (r *repeater) giveUp(after time.Duration) {
	one := r.pop(after)
	r.cache.a.metrics.unrepeated.WithLabelValues(r.cache.Name).Add(float64(len(one.keys) + len(one.requests)))
	if time.Since(r.logged) >= logEvery {
		r.logged = time.Now()
		r.cache.a.log.Warn("too much waits to be repeated, the oldest is given up", zap.String("cache", r.cache.Name), zap.Int("bytes", repeatBytes))
	}
}

// due returns what is to be done by a time, and when there will be more; zero: nothing waits.
func (r *repeater) due(now time.Time) (all repeat, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queues) > 0 {
		after := r.oldest()
		if at := r.queues[after][0].due; at.After(now) {
			return all, at
		}
		one := r.pop(after)
		all.keys = append(all.keys, one.keys...)
		all.told = append(all.told, one.told...)
		all.requests = append(all.requests, one.requests...)
	}
	return all, time.Time{}
}

// run repeats until ctx ends, and then what still waits, at once, within stopPatience.
func (r *repeater) run(ctx context.Context) {
	var sweeps sync.WaitGroup
	defer sweeps.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		all, next := r.due(time.Now())
		if err := r.do(ctx, &all, &sweeps); err != nil {
			r.requeue(&all)
			break
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = time.Until(next)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.wake:
		}
	}
	r.finish(context.WithoutCancel(ctx))
}

// stopPatience is how long a program that stops goes on removing again what was to be removed later.
const stopPatience = 2 * time.Second

// requeue puts back what the end of ctx has interrupted.
func (r *repeater) requeue(all *repeat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all.due = time.Now()
	r.queues[-1] = append(r.queues[-1], all)
}

// finish removes at once what was to be removed later: nobody will be there then.
func (r *repeater) finish(ctx context.Context) {
	all, _ := r.due(time.Now().Add(365 * 24 * time.Hour))
	if len(all.keys) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	if err := r.cache.remove(ctx, all.keys); err != nil {
		r.cache.a.log.Warn("what was to be removed again is not", zap.String("cache", r.cache.Name), zap.Int("keys", len(all.keys)), zap.Error(err))
	}
}

// do removes, sweeps and tells again. It returns once the keys are removed; the error is the end of ctx.
func (r *repeater) do(ctx context.Context, all *repeat, sweeps *sync.WaitGroup) error {
	a := r.cache.a
	if len(all.keys) > 0 {
		err := r.cache.retryUntil(ctx, func(ctx context.Context) error { return r.cache.Client.Remove(ctx, all.keys) }, never)
		if err != nil {
			return err
		}
		a.metrics.repeated.WithLabelValues(r.cache.Name).Add(float64(len(all.keys)))
		if err := a.publish(ctx, all.told); err != nil {
			return err
		}
	}
	if run := r.cache.sweeper.join(all.requests); run != nil {
		requests := all.requests
		sweeps.Go(func() { r.tellSwept(ctx, run, requests) })
	}
	return nil
}

func never() bool { return false }

func (r *repeater) tellSwept(ctx context.Context, run *sweepRun, requests []Request) {
	select {
	case <-ctx.Done():
		return
	case <-run.done:
	}
	var told []events.Invalidation
	for _, t := range toldSweeps(r.cache.a.program, requests) {
		if t.Cache == r.cache.Name {
			told = append(told, t)
		}
	}
	_ = r.cache.a.publish(ctx, told) // fails only when ctx ends
}
