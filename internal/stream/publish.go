package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// Message is one message to publish.
type Message struct {
	Subject string
	ID      string // Nats-Msg-Id; none if empty
	Body    []byte
	Done    func(Ack) // called once, when the stream has it, from the goroutine that reads acks; must not block; may be nil
}

// Ack is the stream's word that it has a message.
type Ack struct {
	Seq       uint64 // where it stands
	Duplicate bool   // it was there already
	// Stamp is what PublisherOptions.Stamp returned for what now stands in the stream; 0 if that is not known, because an
	// earlier attempt was stored.
	Stamp uint64
}

// PublisherOptions are the settings of a Publisher.
type PublisherOptions struct {
	Window  int           // messages in flight; 0 is 4096
	Timeout time.Duration // without an ack, after which a message counts as not stored; 0 is 5 s
	// Header is set on every message at the moment it is sent, with the value that Stamp returns. The number that Stamp
	// returns with it comes back in the ack.
	Header string
	Stamp  func() (value string, stamp uint64)
	Log    *zap.Logger
	// Retried is called for every attempt that was given up; may be nil.
	Retried func()
}

// Publisher publishes to JetStream in order, with many messages in flight. Where one of them fails it stops, lets what is
// in flight come back, and goes on from the oldest message without an ack, for ever: nothing is dropped. What was in
// flight behind a message that a full stream refused may be stored before it. Its methods are safe for concurrent use.
//
// It counts acks on one inbox of its own: nats.go's PublishAsync sends again from a timer, which changes the order.
type Publisher struct {
	nc    *nats.Conn
	opt   PublisherOptions
	inbox string // prefix of reply subjects, ends with a dot
	sub   *nats.Subscription
	wake  chan struct{}
	stop  context.CancelFunc
	done  chan struct{}

	mu     sync.Mutex
	queue  []*pending // ring; index i stands at i & (len-1)
	head   uint64     // oldest without an ack
	next   uint64     // next to send: head <= next <= tail
	tail   uint64
	flying int // sent in this attempt, and neither acked nor refused
	bytes  int // in the queue
	try    uint64
	err    error     // why this attempt failed; nil while it goes well
	failed time.Time // when the first failure since the last success was
	newest Receipt
	doubt  Receipt
	// flushes wait for the head to get where each of them wants it, soonest first.
	flushes []flush
}

type flush struct {
	upTo uint64
	done chan struct{}
}

type pending struct {
	m     *Message
	sent  time.Time
	try   uint64
	stamp uint64
	acked bool
}

// NewPublisher starts a publisher on nc. [Publisher.Close] ends it.
func NewPublisher(nc *nats.Conn, opt PublisherOptions) (*Publisher, error) {
	if opt.Window == 0 {
		opt.Window = 4096
	}
	if opt.Timeout == 0 {
		opt.Timeout = 5 * time.Second
	}
	if opt.Log == nil {
		opt.Log = zap.NewNop()
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Publisher{
		nc: nc, opt: opt, inbox: nc.NewInbox() + ".", wake: make(chan struct{}, 1), stop: stop, done: make(chan struct{}),
		queue: make([]*pending, 1024),
	}
	sub, err := nc.Subscribe(p.inbox+"*", p.reply)
	if err != nil {
		stop()
		return nil, fmt.Errorf("subscribe to acks: %w", err)
	}
	// Acks must not be dropped as a slow consumer's: the window bounds how many there can be.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		stop()
		return nil, fmt.Errorf("lift limits of ack subscription: %w", err)
	}
	p.sub = sub
	go p.run(ctx)
	return p, nil
}

// Send queues a message. It never blocks; who calls it bounds what is queued, see [Publisher.Queued].
func (p *Publisher) Send(m *Message) {
	p.mu.Lock()
	if p.tail-p.head == uint64(len(p.queue)) {
		p.grow()
	}
	*p.at(p.tail) = &pending{m: m}
	p.tail++
	p.bytes += len(m.Body)
	p.mu.Unlock()
	p.signal()
}

// Queued returns how many messages have no ack yet, their bytes, and since when and why publishing has been failing.
func (p *Publisher) Queued() (messages, size int, failing time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(p.tail - p.head), p.bytes, p.failed, p.err
}

// Flush waits until everything that was sent before the call has an ack and its Done has returned, or until ctx ends.
func (p *Publisher) Flush(ctx context.Context) error {
	p.mu.Lock()
	if p.head == p.tail {
		p.mu.Unlock()
		return nil
	}
	f := flush{upTo: p.tail, done: make(chan struct{})}
	p.flushes = append(p.flushes, f)
	p.mu.Unlock()
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for acks: %w", context.Cause(ctx))
	}
}

// Close stops publishing. What has no ack is given up; its Done is never called.
func (p *Publisher) Close() {
	p.stop()
	<-p.done
	_ = p.sub.Unsubscribe() // fails only where the connection is gone, and the subscription with it
}

func (p *Publisher) at(i uint64) **pending { return &p.queue[i&uint64(len(p.queue)-1)] }

func (p *Publisher) grow() {
	bigger := make([]*pending, 2*len(p.queue))
	for i := p.head; i != p.tail; i++ {
		bigger[i&uint64(len(bigger)-1)] = *p.at(i)
	}
	p.queue = bigger
}

func (p *Publisher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run sends, and starts over after a failure.
func (p *Publisher) run(ctx context.Context) {
	defer close(p.done)
	pause := backoff.NewExponentialBackOff(backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(2*time.Second),
		backoff.WithMaxElapsedTime(0))
	tick := time.NewTicker(p.opt.Timeout / 10)
	defer tick.Stop()
	status := p.nc.StatusChanged(nats.RECONNECTING, nats.CONNECTED)
	defer p.nc.RemoveStatusListener(status)
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-tick.C:
			p.expire()
		case s := <-status:
			p.disconnected(s)
		}
		if p.send(pause) {
			continue
		}
		if !p.recover(ctx, pause.NextBackOff(), status) {
			return
		}
	}
}

var errDisconnected = errors.New("the connection was lost")

// disconnected ends the attempt: no ack will come for what was in flight.
func (p *Publisher) disconnected(s nats.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s == nats.RECONNECTING && p.head != p.next {
		p.flying = 0
		p.note(errDisconnected)
	}
}

// send sends what the window lets through, and reports whether the attempt still goes well.
func (p *Publisher) send(pause *backoff.ExponentialBackOff) bool {
	msg := nats.Msg{Header: nats.Header{}}
	for {
		p.mu.Lock()
		if p.err != nil {
			p.mu.Unlock()
			return false
		}
		for p.next != p.tail && (*p.at(p.next)).acked {
			p.next++ // by an ack that came late
		}
		if p.next == p.tail || p.flying >= p.opt.Window {
			if p.failed.IsZero() {
				pause.Reset()
			}
			p.mu.Unlock()
			return true
		}
		item, index := *p.at(p.next), p.next
		p.next++
		p.flying++
		item.sent, item.try = time.Now(), p.try
		try := p.try
		p.mu.Unlock()
		if err := p.publish(&msg, item, index, try); err != nil {
			p.fail(item, try, err)
		}
	}
}

func (p *Publisher) publish(msg *nats.Msg, item *pending, index, try uint64) error {
	msg.Subject, msg.Data = item.m.Subject, item.m.Body
	reply := append(make([]byte, 0, 64), p.inbox...)
	reply = strconv.AppendUint(reply, index, 36)
	msg.Reply = string(strconv.AppendUint(append(reply, '-'), try, 36))
	if item.m.ID != "" {
		setHeader(msg.Header, nats.MsgIdHdr, item.m.ID)
	}
	if p.opt.Stamp != nil {
		value, stamp := p.opt.Stamp()
		setHeader(msg.Header, p.opt.Header, value)
		p.mu.Lock()
		item.stamp = stamp
		p.mu.Unlock()
	}
	return p.nc.PublishMsg(msg)
}

// setHeader keeps the slice that is there.
func setHeader(h nats.Header, name, value string) {
	if v := h[name]; v != nil {
		v[0] = value
		return
	}
	h[name] = []string{value}
}

// fail ends the attempt, unless the message belongs to an earlier one.
func (p *Publisher) fail(item *pending, try uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if item.acked || item.try != p.try || try != p.try {
		return
	}
	p.flying--
	item.try = p.try - 1 // it no longer flies
	p.note(err)
}

func (p *Publisher) note(err error) {
	if p.err == nil {
		p.err = err
	}
	if p.failed.IsZero() {
		p.failed = time.Now()
		p.opt.Log.Warn("publishing stalls and will be retried", zap.Error(err), zap.Uint64("waiting", p.tail-p.head))
	}
}

// expire fails the attempt when its oldest message has had no ack for too long.
func (p *Publisher) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := p.head; i != p.next; i++ {
		item := *p.at(i)
		if item.acked || item.try != p.try {
			continue
		}
		if time.Since(item.sent) > p.opt.Timeout {
			p.note(fmt.Errorf("no ack within %s", p.opt.Timeout))
		}
		return
	}
}

// recover waits for what is in flight, pauses, and starts the next attempt from the oldest message without an ack.
func (p *Publisher) recover(ctx context.Context, pause time.Duration, status <-chan nats.Status) bool {
	deadline := time.NewTimer(p.opt.Timeout)
	defer deadline.Stop()
	for waiting := true; waiting && p.inFlight(); {
		select {
		case <-ctx.Done():
			return false
		case <-deadline.C:
			waiting = false
		case <-status:
			waiting = false
		case <-p.wake:
		}
	}
	again := time.NewTimer(pause)
	defer again.Stop()
	for waiting := true; waiting || !p.nc.IsConnected(); {
		select {
		case <-ctx.Done():
			return false
		case <-status:
		case <-again.C:
			waiting = false
			again.Reset(p.opt.Timeout)
		}
	}
	p.mu.Lock()
	p.try++
	p.next, p.flying, p.err = p.head, 0, nil
	p.mu.Unlock()
	if p.opt.Retried != nil {
		p.opt.Retried()
	}
	p.signal()
	return true
}

func (p *Publisher) inFlight() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flying > 0 && p.nc.IsConnected()
}
