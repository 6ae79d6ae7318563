package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

// ledger is a handler that remembers what it was given, and how it was gathered.
type ledger struct {
	mu      sync.Mutex
	bodies  []int
	batches []int
	fail    func(batch []*nats.Msg) error
}

func (l *ledger) handle(_ context.Context, batch []*nats.Msg) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches = append(l.batches, len(batch))
	for _, m := range batch {
		n, err := strconv.Atoi(string(m.Data))
		if err != nil {
			return err
		}
		l.bodies = append(l.bodies, n)
	}
	if l.fail != nil {
		return l.fail(batch)
	}
	return nil
}

func (l *ledger) seen() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.bodies)
}

// await waits until every number from first to last was handed over.
func (l *ledger) await(t *testing.T, first, last int) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		seen := l.seen()
		for i := first; i <= last; i++ {
			if !slices.Contains(seen, i) {
				return fmt.Errorf("%d of %d to %d was not handed over", i, first, last)
			}
		}
		return nil
	})
}

// run runs a consumer until the test ends, or the returned function is called.
func run(t *testing.T, js jetstream.JetStream, opt ConsumerOptions, h Handler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	if opt.Log == nil {
		opt.Log = testLog(t)
	}
	c := NewConsumer(js, opt)
	go func() {
		defer close(done)
		c.Run(ctx, h)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// until waits for a signal, or for the end of a test that failed.
func until(ctx context.Context, signal <-chan struct{}) error {
	select {
	case <-signal:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gaps remembers the reasons of gaps.
type gaps struct {
	mu      sync.Mutex
	reasons []string
	fail    error // returned once
}

func (g *gaps) add(_ context.Context, reason string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reasons = append(g.reasons, reason)
	err := g.fail
	g.fail = nil
	return err
}

func (g *gaps) all() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.reasons)
}

func (g *gaps) await(t *testing.T, n int, text string) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		if all := g.all(); len(all) < n {
			return fmt.Errorf("gaps so far: %q", all)
		}
		return nil
	})
	require.Len(t, g.all(), n)
	require.Contains(t, g.all()[n-1], text)
}

func TestEveryMessageIsHandledAndAcknowledgedOnce(t *testing.T) {
	_, js := changes(t)
	publish(t, js, 1, 500)
	var l ledger
	run(t, js, ConsumerOptions{}, l.handle)
	publish(t, js, 501, 1000)
	awaitFloor(t, js, 1000)
	seen := l.seen()
	slices.Sort(seen)
	require.Len(t, seen, 1000)
	require.Len(t, slices.Compact(seen), 1000)
}

func TestBatchIsWhatWaitsAndIsBounded(t *testing.T) {
	_, js := changes(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var l ledger
	run(t, js, ConsumerOptions{Workers: 1, BatchMessages: 40}, func(ctx context.Context, batch []*nats.Msg) error {
		once.Do(func() {
			close(entered)
			_ = until(ctx, release)
		})
		return l.handle(ctx, batch)
	})
	publish(t, js, 1, 1)
	<-entered // an idle worker takes one message at once
	publish(t, js, 2, 101)
	testkit.Eventually(t, patience, func() error {
		consumer, err := js.Consumer(t.Context(), Changes, Invalidator)
		if err == nil && consumer.CachedInfo().NumPending > 0 {
			err = errors.New("not all sent")
		}
		return err
	})
	require.NoError(t, js.Conn().Flush()) // all have arrived
	close(release)
	awaitFloor(t, js, 101)
	require.Equal(t, []int{1, 40, 40, 20}, l.batches)
}

func TestMessageThatFailedComesAgain(t *testing.T) {
	_, js := changes(t)
	var l ledger
	left := 3
	l.fail = func([]*nats.Msg) error {
		if left--; left >= 0 {
			return errAway
		}
		return nil
	}
	run(t, js, ConsumerOptions{Workers: 1, Log: transcriptLog()}, l.handle)
	publish(t, js, 1, 1)
	awaitFloor(t, js, 1)
	require.Equal(t, []int{1, 1, 1, 1}, l.seen())
}

func TestNothingIsAcknowledgedBeforeItIsHandled(t *testing.T) {
	_, js := changes(t)
	entered, release := make(chan struct{}, 1), make(chan struct{})
	run(t, js, ConsumerOptions{Workers: 1}, func(ctx context.Context, _ []*nats.Msg) error {
		entered <- struct{}{}
		return until(ctx, release)
	})
	publish(t, js, 1, 1)
	<-entered
	require.NoError(t, js.Conn().Flush())
	have, err := floor(t.Context(), js)
	require.NoError(t, err)
	require.Zero(t, have)
	close(release)
	awaitFloor(t, js, 1)
}

func TestLongWorkIsNotHandedToSomebodyElse(t *testing.T) {
	_, js := changes(t)
	var l ledger
	began := make(chan struct{}, 10)
	run(t, js, ConsumerOptions{Workers: 2, AckWait: time.Second}, func(ctx context.Context, batch []*nats.Msg) error {
		began <- struct{}{}
		<-time.After(3 * time.Second) // three times what the server waits for news
		return l.handle(ctx, batch)
	})
	publish(t, js, 1, 1)
	awaitFloor(t, js, 1)
	require.Len(t, began, 1)
}

func TestStopFinishesWhatIsInHandAndGivesBackTheRest(t *testing.T) {
	_, js := changes(t)
	entered, release := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewConsumer(js, ConsumerOptions{Workers: 1, BatchMessages: 1}).Run(ctx, func(ctx context.Context, _ []*nats.Msg) error {
			close(entered) // a second batch would panic
			return until(ctx, release)
		})
	}()
	publish(t, js, 1, 50)
	<-entered
	cancel()
	close(release)
	<-done
	awaitFloor(t, js, 1)

	var l ledger
	began := time.Now()
	run(t, js, ConsumerOptions{}, l.handle)
	l.await(t, 2, 50)
	require.Less(t, time.Since(began), 10*time.Second, "what was given back must not wait for AckWait")
	require.NotContains(t, l.seen(), 1)
}

func TestHandlerThatOverstaysIsCancelledAndItsWorkComesAgain(t *testing.T) {
	_, js := changes(t)
	entered := make(chan struct{})
	stop := run(t, js, ConsumerOptions{Grace: 50 * time.Millisecond, Log: transcriptLog()}, func(ctx context.Context, _ []*nats.Msg) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	})
	publish(t, js, 1, 1)
	<-entered
	stop()
	var l ledger
	run(t, js, ConsumerOptions{}, l.handle)
	l.await(t, 1, 1)
}

func TestProcessesShareTheWork(t *testing.T) {
	server, js := changes(t)
	var a, b ledger
	meet := make(chan struct{}) // each takes a message and holds it until the other has one
	both := func(l *ledger) Handler {
		var once sync.Once
		return func(ctx context.Context, batch []*nats.Msg) error {
			once.Do(func() {
				select {
				case meet <- struct{}{}:
				case <-meet:
				case <-ctx.Done():
				}
			})
			return l.handle(ctx, batch)
		}
	}
	run(t, js, ConsumerOptions{BatchMessages: 10, Workers: 1}, both(&a))
	run(t, connect(t, server.URL), ConsumerOptions{BatchMessages: 10, Workers: 1}, both(&b))
	publish(t, js, 1, 200)
	awaitFloor(t, js, 200)
	require.Len(t, append(a.seen(), b.seen()...), 200)
	require.NotEmpty(t, a.seen())
	require.NotEmpty(t, b.seen())
}

func TestSourceTakesOnlyItsOwnEvents(t *testing.T) {
	_, js := changes(t)
	var l ledger
	run(t, js, ConsumerOptions{Source: "shop"}, l.handle)
	_, err := js.Publish(t.Context(), "changes.other.public.items", []byte("7"))
	require.NoError(t, err)
	publish(t, js, 1, 1)
	l.await(t, 1, 1)
	require.Equal(t, []int{1}, l.seen())

	var state states
	run(t, js, ConsumerOptions{Source: "other", State: state.set, Log: transcriptLog()}, l.handle)
	state.await(t, false, `its consumer invalidator takes "changes.shop.>"`)
}
