package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
// in flight come back, and goes on from the oldest message without an ack, for ever: nothing is dropped, and nothing
// overtakes. Its methods are safe for concurrent use.
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

// Receipt is a message that the stream has acked.
type Receipt struct {
	Seq uint64
	ID  string
}

// Newest returns the highest sequence that the stream has acked, with its message.
func (p *Publisher) Newest() Receipt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest
}

// Doubt returns a message that the stream acked and may have lost since: after it, another one was stored at no higher a
// sequence. It is told of once; Seq is 0 where there is none.
func (p *Publisher) Doubt() Receipt {
	p.mu.Lock()
	defer p.mu.Unlock()
	doubt := p.doubt
	p.doubt = Receipt{}
	return doubt
}

// Forget makes [Publisher.Newest] and [Publisher.Doubt] start over: the stream is another one.
func (p *Publisher) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newest, p.doubt = Receipt{}, Receipt{}
}

// receive books where a message stands. Acks of different leaders of a cluster may overtake one another: a sequence that
// does not grow is a reason for doubt, and no proof.
func (p *Publisher) receive(ack Ack, id string) {
	if ack.Duplicate {
		return
	}
	if ack.Seq <= p.newest.Seq && p.doubt.Seq == 0 {
		p.doubt = p.newest
	}
	p.newest = Receipt{Seq: ack.Seq, ID: id}
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
	connected := p.nc.StatusChanged(nats.CONNECTED)
	defer p.nc.RemoveStatusListener(connected)
	for {
		select {
		case <-ctx.Done():
			return
		case <-connected:
			p.reconnected()
		case <-p.wake:
		case <-tick.C:
			p.expire()
		}
		if p.send(pause) {
			continue
		}
		if !p.recover(ctx, connected, pause.NextBackOff()) {
			return
		}
	}
}

// reconnected fails the attempt if anything is in flight: neither it nor its ack comes over a connection that is gone.
func (p *Publisher) reconnected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flying > 0 {
		p.note(errReconnected)
		p.flying = 0
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

// recover waits for what is in flight, pauses, and starts the next attempt from the oldest message without an ack. After a
// reconnect there is nothing to wait for.
func (p *Publisher) recover(ctx context.Context, connected <-chan nats.Status, pause time.Duration) bool {
	deadline := time.NewTimer(p.opt.Timeout)
	defer deadline.Stop()
	for settled := false; !settled; {
		p.mu.Lock()
		settled = p.flying <= 0
		p.mu.Unlock()
		if settled || !p.nc.IsConnected() {
			break
		}
		select {
		case <-ctx.Done():
			return false
		case <-deadline.C:
			settled = true
		case <-connected:
			settled = true
		case <-p.wake:
		}
	}
	select {
	case <-ctx.Done():
		return false
	case <-connected:
	case <-time.After(pause):
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

// reply takes one ack, or one refusal.
func (p *Publisher) reply(msg *nats.Msg) {
	index, try, err := p.parseReply(msg.Subject)
	if err != nil {
		p.opt.Log.Error("ack on an unknown subject", zap.Error(err))
		return
	}
	ack, refused := parseAck(msg)
	p.mu.Lock()
	if index < p.head || index >= p.tail {
		p.mu.Unlock()
		return // acked before, by the answer to another attempt
	}
	item := *p.at(index)
	if item.acked {
		p.mu.Unlock()
		return
	}
	if refused != nil {
		p.mu.Unlock()
		p.fail(item, try, refused)
		p.signal()
		return
	}
	if try == item.try && !ack.Duplicate {
		ack.Stamp = item.stamp
	}
	p.receive(ack, item.m.ID)
	p.settle(item)
	p.mu.Unlock()
	if item.m.Done != nil {
		item.m.Done(ack)
	}
	p.advance()
}

// settle books an ack. It counts whichever attempt it answers: the stream has the message.
func (p *Publisher) settle(item *pending) {
	item.acked = true
	if item.try == p.try {
		p.flying--
	}
	if !p.failed.IsZero() && p.err == nil {
		p.opt.Log.Info("publishing goes on", zap.Duration("waited", time.Since(p.failed)))
		p.failed = time.Time{}
	}
}

// advance moves the head over what is acked. It comes after Done, so that Flush returns after every Done.
func (p *Publisher) advance() {
	p.mu.Lock()
	full := p.flying+1 >= p.opt.Window
	for p.head != p.tail && (*p.at(p.head)).acked {
		p.bytes -= len((*p.at(p.head)).m.Body)
		*p.at(p.head) = nil
		p.head++
	}
	p.next = max(p.next, p.head)
	for len(p.flushes) > 0 && p.flushes[0].upTo <= p.head {
		close(p.flushes[0].done)
		p.flushes = p.flushes[1:]
	}
	wake := full || p.err != nil
	p.mu.Unlock()
	if wake {
		p.signal()
	}
}

func (p *Publisher) parseReply(subject string) (index, try uint64, err error) {
	a, b, ok := strings.Cut(strings.TrimPrefix(subject, p.inbox), "-")
	if !ok {
		return 0, 0, fmt.Errorf("parse reply subject %q", subject)
	}
	index, err1 := strconv.ParseUint(a, 36, 64)
	try, err2 := strconv.ParseUint(b, 36, 64)
	return index, try, errors.Join(err1, err2)
}

// parseAck reads a PubAck. The usual one is read without a JSON decoder: there is one for every message.
func parseAck(msg *nats.Msg) (Ack, error) {
	if len(msg.Data) == 0 {
		if msg.Header.Get("Status") == "503" {
			return Ack{}, nats.ErrNoResponders
		}
		return Ack{}, errors.New("empty ack")
	}
	if seq, ok := plainAck(msg.Data); ok {
		return Ack{Seq: seq}, nil
	}
	var body struct {
		Seq       uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &body); err != nil {
		return Ack{}, fmt.Errorf("parse ack: %w", err)
	}
	if body.Error != nil {
		return Ack{}, fmt.Errorf("stream refused the message: %s (%d)", body.Error.Description, body.Error.Code)
	}
	return Ack{Seq: body.Seq, Duplicate: body.Duplicate}, nil
}

// plainAck reads {"stream":"NAME","seq":N} and nothing else.
func plainAck(data []byte) (uint64, bool) {
	rest, ok := bytes.CutPrefix(data, []byte(`{"stream":"`))
	if !ok {
		return 0, false
	}
	_, rest, ok = bytes.Cut(rest, []byte(`","seq":`))
	if !ok || len(rest) < 2 || rest[len(rest)-1] != '}' {
		return 0, false
	}
	var seq uint64
	for _, c := range rest[:len(rest)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		seq = seq*10 + uint64(c-'0')
	}
	return seq, true
}
