package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 30 * time.Second

	backlogBegins = 10_000 // messages per second that one worker takes
	backlogEnds   = 5_000
	backlogWait   = 5 * time.Millisecond
	rateWindow    = 20 * time.Millisecond
)

// worker takes batches, one after the other.
type worker struct {
	c *Consumer

	busy   bool      // many messages come
	window time.Time // since when those that were taken are counted
	taken  int

	mu    sync.Mutex
	batch []*nats.Msg // in hand; its slots are written only by run, while it is not handed to the handler
	from  *intake
	since time.Time // when the handler got it; zero: it has not
}

func (w *worker) run(ctx, working context.Context, handler Handler) {
	failures := 0
	for ctx.Err() == nil {
		in := w.c.intake.Load()
		select {
		case <-ctx.Done():
			continue
		case <-in.over:
			continue
		case m := <-in.messages:
			w.linger(ctx)
			if w.gather(in, m); len(w.batch) == 0 {
				continue
			}
		}
		if w.handle(working, handler) {
			failures = 0
			continue
		}
		failures++
		pause(ctx, retryDelay(failures))
	}
}

// linger lets more messages come while many do. Handling each as it comes costs several times as much, at both ends and in
// between; below the rate at which this begins nothing waits.
func (w *worker) linger(ctx context.Context) {
	if w.busy {
		pause(ctx, backlogWait)
	}
}

// pace looks at the end of each window whether many messages come.
func (w *worker) pace(n int) {
	w.taken += n
	elapsed := time.Since(w.window)
	if elapsed < rateWindow {
		return
	}
	rate := float64(w.taken) / elapsed.Seconds()
	w.busy = rate >= backlogBegins || w.busy && rate >= backlogEnds
	w.window, w.taken = time.Now(), 0
}

// gather fills the batch with the first message and whatever waits behind it.
func (w *worker) gather(in *intake, first *nats.Msg) {
	clear(w.batch)
	runtime.Gosched() // lets the connection's reader, if it has more, bring it: larger batches, at no wait
	batch, bytes, gone := w.batch[:0], 0, 0
	for m := first; m != nil; m = next(in) {
		if m.Reply == "" { // from the server itself
			gone += w.heed(m)
			continue
		}
		batch = append(batch, m)
		if bytes += len(m.Data); len(batch) >= w.c.opt.BatchMessages || bytes >= w.c.opt.BatchBytes {
			break
		}
	}
	in.touch()
	in.pull.used(len(batch) + gone)
	w.batch, w.from = batch, in
	w.pace(len(batch))
}

func next(in *intake) *nats.Msg {
	select {
	case m := <-in.messages:
		return m
	default:
		return nil
	}
}

// heed returns how many messages that were asked for will not come.
func (w *worker) heed(m *nats.Msg) int {
	unused, err := status(m)
	if err != nil {
		select {
		case w.c.trouble <- err:
		default:
		}
	}
	return unused
}

// handle reports whether the batch was handled. Its messages are acknowledged then, and only then.
func (w *worker) handle(ctx context.Context, handler Handler) bool {
	w.hold(time.Now())
	w.c.metrics.taken(w.batch)
	err := handler(ctx, w.batch)
	w.hold(time.Time{})
	var later *Later
	if !errors.As(err, &later) {
		return w.c.conclude(w.from, w.batch, err)
	}
	kept := later.messages()
	w.batch = slices.DeleteFunc(w.batch, func(m *nats.Msg) bool { return kept[m] })
	w.c.postpone(ctx, w.from, later)
	return w.c.conclude(w.from, w.batch, nil)
}

// conclude answers for messages that were handled, or were not, and reports which.
func (c *Consumer) conclude(in *intake, messages []*nats.Msg, err error) bool {
	if err == nil {
		for _, m := range messages {
			c.answer(in, m, ack)
		}
		return true
	}
	c.metrics.failed.Inc()
	c.opt.Log.Warn("batch was not handled, it will come again", zap.Int("messages", len(messages)), zap.Error(err))
	for _, m := range messages {
		c.answer(in, m, nakWithDelay(retryDelay(attempt(m))))
	}
	return false
}

func (w *worker) hold(since time.Time) {
	w.mu.Lock()
	w.since = since
	w.mu.Unlock()
}

// inProgress tells the server that the batch is still being worked at.
func (w *worker) inProgress() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() || time.Since(w.since) < w.c.opt.AckWait/6 {
		return
	}
	for _, m := range w.batch {
		w.c.answer(w.from, m, inProgress)
	}
}

// attempt returns how often a message was handed over, this time included.
func attempt(m *nats.Msg) int {
	meta, err := m.Metadata()
	if err != nil {
		return 1
	}
	return int(meta.NumDelivered)
}

// retryDelay doubles with each attempt, and is spread so that what failed together does not come back together.
func retryDelay(attempt int) time.Duration {
	d := retryMost
	if attempt < 10 {
		d = min(retryFirst<<max(attempt-1, 0), retryMost)
	}
	return d/2 + rand.N(d)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
