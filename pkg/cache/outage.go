package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

const (
	// tripAfter is how many calls in a row must fail before Redis is given a rest.
	tripAfter = 5
	// restFor is how long it rests, until one call tries again.
	restFor = time.Second
	// shardBits divides the slots of a Cluster among breakers, so that one server that is away does not cut off the others.
	shardBits = 4
)

// outlet is how a cache calls Redis: each call bounded in time, and none while Redis rests.
type outlet struct {
	client   redis.UniversalClient
	timeout  time.Duration
	breakers []*gobreaker.CircuitBreaker[struct{}]
}

func newOutlet(client redis.UniversalClient, timeout time.Duration, stats *counters) (*outlet, error) {
	o := &outlet{client: client, timeout: timeout}
	n := 1
	switch client := client.(type) {
	case *redis.Client:
		if !client.Options().ContextTimeoutEnabled {
			o.client = client.WithTimeout(timeout)
		}
	case *redis.ClusterClient:
		opt := client.Options()
		if opt.ReadOnly {
			return nil, errors.New("the client must read from primaries: a replica still has what was removed")
		}
		if !opt.ContextTimeoutEnabled && opt.ReadTimeout > timeout {
			return nil, errors.New("the client needs ContextTimeoutEnabled, or a ReadTimeout of at most Options.Timeout")
		}
		n = 1 << shardBits
	}
	for range n {
		o.breakers = append(o.breakers, gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:      restFor,
			ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= tripAfter },
			IsSuccessful: func(err error) bool { return !outage(err) },
			OnStateChange: func(_ string, _, to gobreaker.State) {
				if to == gobreaker.StateOpen {
					stats.tripped.Add(1)
				}
			},
		}))
	}
	return o, nil
}

// call calls Redis for a key.
func (o *outlet) call(ctx context.Context, key string, do func(ctx context.Context) error) error {
	breaker := o.breakers[0]
	if len(o.breakers) > 1 {
		breaker = o.breakers[slot(key)>>(slotBits-shardBits)]
	}
	_, err := breaker.Execute(func() (struct{}, error) {
		bounded, cancel := context.WithTimeout(ctx, o.timeout)
		defer cancel()
		err := do(bounded)
		if err != nil && ctx.Err() != nil {
			err = &callerError{ctx.Err()}
		}
		return struct{}{}, err
	})
	return err
}

// callerError is what comes of a call whose caller has left: it says nothing of Redis.
type callerError struct{ cause error }

func (e *callerError) Error() string { return e.cause.Error() }
func (e *callerError) Unwrap() error { return e.cause }

// outage tells whether an error shows that Redis cannot serve. What it answers about one key or one command is none.
func outage(err error) bool {
	var left *callerError
	if err == nil || errors.Is(err, redis.Nil) || errors.As(err, &left) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	word, _, _ := strings.Cut(reply.Error(), " ")
	return word == "LOADING" || word == "CLUSTERDOWN" || word == "MASTERDOWN"
}

// unavailableError is ErrUnavailable with what Redis did.
type unavailableError struct{ cause error }

func (e *unavailableError) Error() string { return fmt.Sprintf("%v: %v", ErrUnavailable, e.cause) }

func (e *unavailableError) Unwrap() []error { return []error{ErrUnavailable, e.cause} }

// Limiter bounds how many loads run at once. It is safe for concurrent use, and meant to be shared by all caches that
// load from the same database.
type Limiter struct{ slots chan struct{} }

// NewLimiter returns a limiter that lets n loads run at once.
func NewLimiter(n int) *Limiter { return &Limiter{slots: make(chan struct{}, n)} }

func (l *Limiter) acquire(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Limiter) release() { <-l.slots }
