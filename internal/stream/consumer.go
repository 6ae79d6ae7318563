package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Invalidator is the name of the durable consumer that all invalidators share.
const Invalidator = "invalidator"

// Handler does the work of one batch: messages of CHANGES in no particular order, perhaps handed over before. It may keep
// the messages but not the slice, and must not acknowledge them. If it returns nil all are acknowledged; with a [Later]
// all but some; else all come again later.
// It is called by several goroutines at once. ctx ends some seconds after the consumer's, so that work in hand is finished.
type Handler func(ctx context.Context, batch []*nats.Msg) error

// ConsumerOptions is how a [Consumer] works. Zero values have defaults.
type ConsumerOptions struct {
	Stream  string // Changes
	Name    string // Invalidator
	Source  string // takes only this source's events; every process that shares the name must want the same
	Workers int    // GOMAXPROCS
	// A batch is what is waiting, up to these bounds; it never waits to fill.
	BatchMessages int // 512
	BatchBytes    int // 512 KiB; one message may exceed it
	// AckWait is how long the server waits for news of a message before it hands it to somebody else: 5 s. While the
	// handler works the server is told so.
	AckWait time.Duration
	Grace   time.Duration // for work in hand when Run is asked to end: 5 s

	// Gap is called before anything newer is taken when messages may have been lost before they were handled: the whole
	// caches are to be invalidated. It is called again until it returns nil.
	Gap func(ctx context.Context, reason string) error
	// State is called with whether messages can arrive, and why not. It must not block.
	State func(ok bool, reason string)

	Log     *zap.Logger
	Metrics prometheus.Registerer
}

func (o ConsumerOptions) withDefaults() ConsumerOptions {
	o.Stream = cmp.Or(o.Stream, Changes)
	o.Name = cmp.Or(o.Name, Invalidator)
	o.Workers = cmp.Or(o.Workers, runtime.GOMAXPROCS(0))
	o.BatchMessages = cmp.Or(o.BatchMessages, 512)
	o.BatchBytes = cmp.Or(o.BatchBytes, 512<<10)
	o.AckWait = cmp.Or(o.AckWait, 5*time.Second)
	o.Grace = cmp.Or(o.Grace, 5*time.Second)
	if o.Gap == nil {
		o.Gap = func(context.Context, string) error { return nil }
	}
	if o.State == nil {
		o.State = func(bool, string) {}
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

// Consumer hands the messages of a durable pull consumer to workers. Its memory is bounded: two pulls' bytes and what the
// workers have in hand.
type Consumer struct {
	js      jetstream.JetStream
	nc      *nats.Conn
	opt     ConsumerOptions
	metrics consumerMetrics

	intake  atomic.Pointer[intake]
	workers []*worker
	later   postponed
	trouble chan error // what a worker read that needs a rebuild; holds one

	// seen is the highest ack floor that was read while the stream still held everything after it. Only the goroutine of
	// Run uses it.
	seen uint64
}

// NewConsumer returns a consumer that takes nothing yet.
func NewConsumer(js jetstream.JetStream, opt ConsumerOptions) *Consumer {
	opt = opt.withDefaults()
	c := &Consumer{
		js: js, nc: js.Conn(), opt: opt, metrics: newConsumerMetrics(opt.Metrics),
		trouble: make(chan error, 1),
	}
	c.intake.Store(newIntake(identity{}))
	for range opt.Workers {
		c.workers = append(c.workers, &worker{c: c})
	}
	return c
}

// Run creates or updates the durable consumer, and hands its messages to handler until ctx ends. Whatever happens to the
// connection, the consumer or the stream, it goes on once they are back. Then it finishes the batches in hand within
// the grace, gives back what it had not begun, and returns. It may be called once.
func (c *Consumer) Run(ctx context.Context, handler Handler) {
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(c.opt.Grace, cancel) })
	defer stop()

	var workers, keeper sync.WaitGroup
	for _, w := range c.workers {
		workers.Go(func() { w.run(ctx, working, handler) })
	}
	done := make(chan struct{})
	keeper.Go(func() { c.keep(done) })
	c.supervise(ctx)
	workers.Wait()
	c.later.waits.Wait()
	close(done)
	keeper.Wait()
	c.giveBack()
}

// keep tells the server about batches that take long, so that it does not hand them to somebody else.
func (c *Consumer) keep(done <-chan struct{}) {
	tick := time.NewTicker(c.opt.AckWait / 3)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			for _, w := range c.workers {
				w.inProgress()
			}
			c.laterInProgress()
		}
	}
}

// giveBack returns what had arrived and nobody began, so that another process gets it at once and not after AckWait.
func (c *Consumer) giveBack() {
	in := c.intake.Load()
	for {
		select {
		case m := <-in.messages:
			if m.Reply != "" {
				c.answer(in, m, nak)
			}
		default:
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := c.nc.FlushWithContext(ctx); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
				c.opt.Log.Warn("acks may be lost, their messages will be handled again", zap.Error(err))
			}
			return
		}
	}
}

var (
	ack        = []byte("+ACK")
	nak        = []byte("-NAK")
	inProgress = []byte("+WPI")
)

func nakWithDelay(d time.Duration) []byte {
	return fmt.Appendf(nil, `-NAK {"delay": %d}`, d.Nanoseconds())
}

// answer tells the server what became of a message, unless it belongs to a consumer that is no more: the same numbers may
// mean other messages now. An answer that is lost means that the message is handled again.
func (c *Consumer) answer(in *intake, m *nats.Msg, what []byte) {
	if in == c.intake.Load() {
		_ = c.nc.Publish(m.Reply, what)
	}
}
