package stream

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

// Later is the error with which a [Handler] says that its batch is handled, except for some messages that take long. The
// others are acknowledged at once, and the worker goes on.
type Later struct{ kept []*kept }

// kept are messages with one outcome.
type kept struct {
	messages []*nats.Msg
	wait     func(ctx context.Context) error
	from     *intake
}

// Keep keeps messages of the batch back. They are acknowledged once wait returned nil; if it returns an error, they come
// again. wait is called once, on a goroutine of the consumer, with a ctx that ends some seconds after the consumer's.
func (l *Later) Keep(messages []*nats.Msg, wait func(ctx context.Context) error) {
	l.kept = append(l.kept, &kept{messages: messages, wait: wait})
}

// Error is for a handler's other callers: the consumer knows what a Later is.
func (l *Later) Error() string { return "some messages are handled later" }

// Wait waits for everything that was kept back, for a caller other than a consumer, and returns the first error.
func (l *Later) Wait(ctx context.Context) error {
	for _, k := range l.kept {
		if err := k.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// messages returns what was kept back.
func (l *Later) messages() map[*nats.Msg]bool {
	m := map[*nats.Msg]bool{}
	for _, k := range l.kept {
		for _, msg := range k.messages {
			m[msg] = true
		}
	}
	return m
}

// postponed is what handlers have kept back and what is not over.
type postponed struct {
	waits sync.WaitGroup

	mu   sync.Mutex
	held map[*kept]struct{}
}

// postpone waits for what a handler kept back, on goroutines of their own.
func (c *Consumer) postpone(ctx context.Context, in *intake, later *Later) {
	p := &c.later
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = map[*kept]struct{}{}
	}
	for _, k := range later.kept {
		k.from = in
		p.held[k] = struct{}{}
		p.waits.Go(func() {
			err := k.wait(ctx)
			p.mu.Lock()
			delete(p.held, k)
			p.mu.Unlock()
			c.conclude(in, k.messages, err)
		})
	}
}

// laterInProgress tells the server that what is kept back is still being worked at.
func (c *Consumer) laterInProgress() {
	c.later.mu.Lock()
	defer c.later.mu.Unlock()
	for k := range c.later.held {
		for _, m := range k.messages {
			c.answer(k.from, m, inProgress)
		}
	}
}
