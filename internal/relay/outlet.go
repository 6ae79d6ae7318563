package relay

import (
	"sync"
	"time"

	"github.com/walfence/walfence/internal/gate"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/pkg/events"
)

// perMessage is what a message costs in memory besides its body.
const perMessage = 512

// outlet hands events to the publisher, at once or when their transaction is visible.
type outlet struct {
	publisher *stream.Publisher
	confirmer *confirmer
	budget    *budget

	mu    sync.Mutex
	aside map[*aside]struct{} // transactions that are not visible yet
}

func newOutlet(p *stream.Publisher, c *confirmer, b *budget) *outlet {
	return &outlet{publisher: p, confirmer: c, budget: b, aside: map[*aside]struct{}{}}
}

// aside holds the events of a transaction that is not visible yet, so that later ones need not wait for it. It is a
// gate.Waiter.
type aside struct {
	out *outlet

	mu       sync.Mutex
	visible  bool
	messages []*stream.Message
}

// admit returns nil for a transaction that is visible, or where its events will wait.
func (o *outlet) admit(g *gate.Gate, xid uint64) *aside {
	if g.Visible(xid) {
		return nil
	}
	s := &aside{out: o}
	o.mu.Lock()
	o.aside[s] = struct{}{}
	o.mu.Unlock()
	if g.Admit(xid, s) {
		o.forget(s)
		return nil
	}
	return s
}

func (o *outlet) forget(s *aside) {
	o.mu.Lock()
	delete(o.aside, s)
	o.mu.Unlock()
}

// Release publishes what waits, and lets what still comes pass. It is part of gate.Waiter.
func (s *aside) Release() {
	s.mu.Lock()
	s.visible = true
	for _, m := range s.messages {
		s.out.publisher.Send(m)
	}
	s.messages = nil
	s.mu.Unlock()
	s.out.forget(s)
}

// send publishes an event or puts it aside. Done is called when the stream has it.
func (o *outlet) send(s *aside, subject, id string, body []byte, done func()) {
	size := int64(len(body) + perMessage)
	o.budget.take(size)
	m := &stream.Message{Subject: subject, ID: id, Body: body, Done: func(a stream.Ack) {
		o.budget.free(size)
		if done != nil {
			done()
		}
		o.confirmer.note(events.LSN(a.Stamp), time.Now())
	}}
	if s == nil {
		o.publisher.Send(m)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.visible {
		o.publisher.Send(m)
		return
	}
	s.messages = append(s.messages, m)
}

// abandon gives up what is not visible: it will be read again. The gate must have stopped.
func (o *outlet) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.aside {
		s.mu.Lock()
		for _, m := range s.messages {
			o.budget.free(int64(len(m.Body) + perMessage))
		}
		s.messages = nil
		s.mu.Unlock()
	}
	clear(o.aside)
}
