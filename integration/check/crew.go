package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// A round that takes so long is given up: whoever it waits for is not there.
	roundPatience = 30 * time.Second
	retryPause    = 50 * time.Millisecond
)

// Work is one round of what a crew does. After an error the crew goes on with another connection.
type Work func(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error

// Crew does the same work in several goroutines, each with a connection of its own, whatever happens to the database.
type Crew struct {
	// Rounds and Failed count the rounds that succeeded and that failed.
	Rounds, Failed atomic.Uint64

	url      string
	every    time.Duration
	work     Work
	stopping chan struct{}
	stop     sync.Once
	done     sync.WaitGroup
	mu       sync.Mutex
	last     error
}

// StartCrew starts size goroutines that each begin a round as often as every says, or as often as they can if it is 0. They end
// with Stop, after the round in hand, or with ctx.
func StartCrew(ctx context.Context, url string, size int, every time.Duration, seed uint64, work Work) *Crew {
	c := &Crew{url: url, every: every, work: work, stopping: make(chan struct{})}
	for i := range size {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		c.done.Go(func() { c.run(ctx, rng) })
	}
	return c
}

// Stop lets everyone finish the round in hand, and waits. It may be called again.
func (c *Crew) Stop() {
	c.stop.Do(func() { close(c.stopping) })
	c.done.Wait()
}

// Err is why the newest failed round failed, or nil.
func (c *Crew) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *Crew) run(ctx context.Context, rng *rand.Rand) {
	due := time.NewTimer(0)
	defer due.Stop()
	for c.wait(ctx, due.C) {
		err := c.session(ctx, rng)
		if err != nil && ctx.Err() == nil {
			c.Failed.Add(1)
			c.mu.Lock()
			c.last = err
			c.mu.Unlock()
		}
		due.Reset(retryPause)
	}
}

// wait returns false when it is time to end.
func (c *Crew) wait(ctx context.Context, due <-chan time.Time) bool {
	select {
	case <-c.stopping:
		return false
	case <-ctx.Done():
		return false
	case <-due:
		return true
	}
}

// session works on one connection until a round fails or it is time to end.
func (c *Crew) session(ctx context.Context, rng *rand.Rand) error {
	connecting, cancel := context.WithTimeout(ctx, roundPatience)
	conn, err := pgx.Connect(connecting, c.url)
	cancel()
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(closing) // the server may be gone
	}()
	round := make(chan time.Time, 1)
	round <- time.Now()
	for next := (<-chan time.Time)(round); c.wait(ctx, next); {
		began := time.Now()
		if err := c.round(ctx, conn, rng); err != nil {
			return err
		}
		c.Rounds.Add(1)
		if c.every == 0 {
			round <- began
			continue
		}
		next = time.After(time.Until(began.Add(c.every)))
	}
	return nil
}

func (c *Crew) round(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, roundPatience)
	defer cancel()
	return c.work(ctx, conn, rng)
}
