package cache

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// outcome is how waiting for another reader ended.
type outcome int

const (
	askAgain outcome = iota // something happened to the key, or the caller left
	told                    // a reader in this process has the value
	loadToo                 // waited long enough, or cannot be told
)

// await waits for whoever loads what this reader missed. Nobody polls: who follows is told within the process, and the one
// that watches is told by Redis.
func (r *read[T]) await(ctx context.Context, f *flight[T], role role) outcome {
	limit := time.NewTimer(time.Until(r.until))
	defer limit.Stop()
	w := watching{ctx: ctx, done: f.done, limit: limit.C}
	var how outcome
	if role == follow {
		how = w.wait(nil)
	} else {
		defer r.c.flights.abandon(f)
		how = r.watch(w, f.key)
	}
	if how == told && f.got == nil {
		return askAgain
	}
	return how
}

// watch waits for another process. It subscribes first, then says so in the guard: from there on a fill tells.
func (r *read[T]) watch(w watching, k flightKey) outcome {
	if r.c.opt.Wait < 0 {
		return loadToo
	}
	s := r.c.waker.join(w.ctx, GuardKey(k.key))
	defer r.c.waker.leave(s)
	if how := w.wait(s.ready); how != askAgain || w.ctx.Err() != nil {
		return how
	}
	if s.failed() {
		return loadToo
	}
	left, err := r.c.announceWait(w.ctx, k, r.stale != nil)
	if err != nil || left == 0 {
		return askAgain // an error comes again, and is dealt with there
	}
	expiry := time.NewTimer(left)
	defer expiry.Stop()
	w.expiry = expiry.C
	if how := w.wait(s.woken); how != askAgain || !s.failed() {
		return how
	}
	return loadToo
}

// watching is what ends any wait.
type watching struct {
	ctx    context.Context
	done   <-chan struct{}  // somebody in this process has the value
	limit  <-chan time.Time // waited long enough
	expiry <-chan time.Time // the guard is gone, perhaps with its leader
}

// wait waits for a signal; nil never comes.
func (w *watching) wait(signal <-chan struct{}) outcome {
	select {
	case <-signal:
		return askAgain
	case <-w.expiry:
		return askAgain
	case <-w.ctx.Done():
		return askAgain
	case <-w.done:
		return told
	case <-w.limit:
		return loadToo
	}
}

// wakerIdle is how long the connection that tells of fills stays open when nobody waits.
const wakerIdle = 10 * time.Second

// waker tells readers of fills by other processes, over one connection that exists while it is needed.
type waker struct {
	client redis.UniversalClient

	mu       sync.Mutex
	pubsub   *redis.PubSub
	channels map[string]*channel
	idle     *time.Timer
	closed   bool
	reading  sync.WaitGroup
}

// channel is what some readers of this process wait for.
type channel struct {
	name   string
	users  int
	ready  chan struct{} // closed once subscribed, or when that failed
	woken  chan struct{} // closed by a message, or when the connection is lost
	err    error         // set before either is closed
	subbed bool
	over   bool
}

func newWaker(client redis.UniversalClient) *waker {
	return &waker{client: client, channels: map[string]*channel{}}
}

// join subscribes. The caller leaves.
func (w *waker) join(ctx context.Context, name string) *channel {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch := w.channels[name]; ch != nil && !ch.over {
		ch.users++
		return ch
	}
	ch := &channel{name: name, users: 1, ready: make(chan struct{}), woken: make(chan struct{})}
	if w.closed {
		ch.end(redis.ErrClosed)
		return ch
	}
	w.channels[name] = ch
	if w.pubsub == nil {
		w.open()
	}
	if w.idle != nil {
		w.idle.Stop()
	}
	pubsub := w.pubsub
	w.reading.Go(func() { // may dial, which nobody else should wait for
		if err := pubsub.Subscribe(context.WithoutCancel(ctx), name); err != nil {
			w.lost(pubsub, err)
		}
	})
	return ch
}

// open starts a connection and its reader. w.mu is held.
func (w *waker) open() {
	pubsub := w.client.Subscribe(context.Background())
	w.pubsub = pubsub
	w.reading.Go(func() { w.read(pubsub) })
}

// leave gives up a channel.
func (w *waker) leave(ch *channel) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch.users--; ch.users > 0 || w.channels[ch.name] != ch {
		return
	}
	delete(w.channels, ch.name)
	if w.pubsub == nil {
		return
	}
	pubsub := w.pubsub
	w.reading.Go(func() { _ = pubsub.Unsubscribe(context.Background(), ch.name) }) // an error shows in reading
	if len(w.channels) == 0 {
		w.idle = time.AfterFunc(wakerIdle, func() { w.hangUp(pubsub) })
	}
}

// hangUp closes the connection if still nobody waits.
func (w *waker) hangUp(pubsub *redis.PubSub) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pubsub == pubsub && len(w.channels) == 0 {
		w.pubsub = nil
		_ = pubsub.Close()
	}
}

// read hands messages over until the connection breaks or is closed.
func (w *waker) read(pubsub *redis.PubSub) {
	for {
		m, err := pubsub.Receive(context.Background())
		if err != nil {
			w.lost(pubsub, err)
			return
		}
		w.take(m)
	}
}

func (w *waker) take(m any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch m := m.(type) {
	case *redis.Subscription:
		if ch := w.channels[m.Channel]; ch != nil && m.Kind == "subscribe" && !ch.subbed {
			ch.subbed = true
			close(ch.ready)
		}
	case *redis.Message:
		if ch := w.channels[m.Channel]; ch != nil {
			ch.end(nil)
		}
	}
}

// lost tells all who wait that nothing will come over this connection.
func (w *waker) lost(pubsub *redis.PubSub, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = pubsub.Close()
	if w.pubsub != pubsub {
		return
	}
	w.pubsub = nil
	for name, ch := range w.channels {
		ch.end(err)
		delete(w.channels, name)
	}
}

func (w *waker) close() {
	w.mu.Lock()
	w.closed = true
	pubsub := w.pubsub
	if w.idle != nil {
		w.idle.Stop()
	}
	w.mu.Unlock()
	if pubsub != nil {
		w.lost(pubsub, redis.ErrClosed)
	}
	w.reading.Wait()
}

// end closes what is open. The waker's mutex is held.
func (ch *channel) end(err error) {
	if ch.over {
		return
	}
	ch.over, ch.err = true, err
	if !ch.subbed {
		ch.subbed = true
		close(ch.ready)
	}
	close(ch.woken)
}

// failed tells, once a signal came, whether it was one of failure.
func (ch *channel) failed() bool {
	select {
	case <-ch.woken:
		return ch.err != nil
	default:
		return false
	}
}
