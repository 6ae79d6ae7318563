package apply_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/apply"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

func TestWhileRedisIsAwayHandleWaitsAndDoesNotSpin(t *testing.T) {
	s := setUp(t)
	require.NoError(t, s.redis.Kill())
	done := make(chan error)
	go func() { done <- s.Handle(t.Context(), []*nats.Msg{message(t, users(updated("1", "ann", "7")))}) }()
	testkit.Eventually(t, 10*time.Second, func() error {
		if why := s.unready("cache main"); !strings.Contains(why, "connection refused") {
			return fmt.Errorf("unready because of %q", why)
		}
		return nil
	})
	select {
	case err := <-done:
		t.Fatalf("handled without redis: %v", err)
	case <-time.After(2 * time.Second): // long enough to see it spin
	}
	require.Less(t, s.total(t, "walfence_cache_failures_total"), 20.0)
	require.NotEmpty(t, s.Status().Waits)

	require.NoError(t, s.redis.Start())
	s.fill(t, "tenant:7:user:1")
	require.NoError(t, <-done)
	require.Empty(t, s.unready("cache main"))
}

// total returns the sum of a counter over its labels.
func (s *bench) total(t *testing.T, name string) float64 {
	families, err := s.registry.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestHandleEndsWithItsContextAndReportsNothingAsHandled(t *testing.T) {
	s := setUp(t)
	require.NoError(t, s.redis.Kill())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, s.Handle(ctx, []*nats.Msg{message(t, users(updated("1", "ann", "7")))}))
}

func TestACacheThatIsAwayDoesNotHoldUpAnother(t *testing.T) {
	other := testkit.Redis(t)
	s := setUp(t, func(opt *apply.Options) {
		two := strings.NewReplacer("main: {redis: \"${REDIS_URL}\"}", "main: {redis: \"${REDIS_URL}\"}\n  other: {redis: \"${REDIS_URL}\"}",
			"    delete:", "    cache: [main, other]\n    delete:").Replace(rules)
		opt.Program = compile(t, two)
		opt.Caches = append(opt.Caches, apply.Cache{Name: "other", Client: openRedis(t, other.URL(0))})
	})
	require.NoError(t, other.Kill())
	for i := range 5 {
		key := fmt.Sprintf("tenant:7:user:%d", i)
		s.fill(t, key)
		err := s.Handle(t.Context(), []*nats.Msg{message(t, users(updated(fmt.Sprint(i), "ann", "7")))})
		require.ErrorContains(t, err, "cache other")
		require.Empty(t, s.left(t))
	}
	require.NoError(t, other.Start())
	testkit.Eventually(t, 10*time.Second, func() error {
		return s.Handle(t.Context(), []*nats.Msg{message(t, users(updated("1", "ann", "7")))})
	})
}

func TestAMessageOfANewerVersionWaitsAndTheOthersDoNot(t *testing.T) {
	s := setUp(t)
	s.fill(t, "tenant:7:user:1")
	newer := &nats.Msg{Subject: "changes.shop.public.users", Data: []byte(`{"v":2,"kind":"rows","rows":{"new":"form"}}`)}
	err := s.Handle(t.Context(), []*nats.Msg{newer, message(t, users(updated("1", "ann", "7")))})
	var later *stream.Later
	require.ErrorAs(t, err, &later)
	require.Error(t, later.Wait(t.Context()))
	require.Empty(t, s.left(t))
	require.Contains(t, s.unready(apply.ConditionVersion), "upgrade")
	require.Empty(t, s.stored(t, stream.DeadLetters))
}

// consume runs a consumer on CHANGES until the test ends.
func (s *bench) consume(t *testing.T, workers int) {
	c := stream.NewConsumer(s.js, stream.ConsumerOptions{Workers: workers, AckWait: time.Second, Gap: s.Gap, Metrics: s.registry})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx, s.Handle) })
	t.Cleanup(func() { stop(); wg.Wait() })
}

// acked waits until the consumer has nothing left.
func (s *bench) acked(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, func() error {
		c, err := s.js.Consumer(t.Context(), stream.Changes, stream.Invalidator)
		if err != nil {
			return err
		}
		if info := c.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
			return fmt.Errorf("%d pending, %d not acknowledged", info.NumPending, info.NumAckPending)
		}
		return nil
	})
}

func (s *bench) publish(t *testing.T, m *nats.Msg) {
	t.Helper()
	_, err := s.js.PublishMsg(t.Context(), m)
	require.NoError(t, err)
}

func TestASweepHoldsUpNoKeysAndIsAcknowledgedWhenDone(t *testing.T) {
	s := setUp(t, func(opt *apply.Options) { opt.SweepRate = 2_000 })
	pipe := s.client.Pipeline()
	for i := range 4000 {
		pipe.Set(t.Context(), fmt.Sprintf("other:%d", i), "x", 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	s.consume(t, 1)
	for range 2 {
		s.publish(t, message(t, &events.Event{Kind: events.KindTruncate, Table: events.Table{Schema: "public", Name: "settings"}}))
	}
	testkit.Eventually(t, 5*time.Second, func() error {
		if s.Status().Caches[0].Sweeping == "" {
			return errors.New("no sweep yet")
		}
		return nil
	})
	s.fill(t, "tenant:7:user:1")
	s.publish(t, message(t, users(updated("1", "ann", "7"))))
	testkit.Eventually(t, time.Second, func() error {
		if n := s.client.Exists(t.Context(), "tenant:7:user:1").Val(); n > 0 {
			return errors.New("the key is still there")
		}
		return nil
	})
	require.NotEmpty(t, s.Status().Caches[0].Sweeping, "the sweep was over before the test saw anything")
	c, err := s.js.Consumer(t.Context(), stream.Changes, stream.Invalidator)
	require.NoError(t, err)
	require.Positive(t, c.CachedInfo().NumAckPending)
	s.acked(t)
	require.EqualValues(t, 3, s.total(t, "walfence_consumer_messages_total"), "handed over again: the server was not told of the progress")
	require.LessOrEqual(t, s.total(t, "walfence_sweeps_total"), 2.0)
}

func TestWhatWasNotAppliedIsNotAcknowledged(t *testing.T) {
	s := setUp(t)
	require.NoError(t, s.redis.Kill())
	s.consume(t, 2)
	for i := range 100 {
		s.publish(t, message(t, users(updated(fmt.Sprint(i), "ann", "7"))))
	}
	testkit.Eventually(t, 5*time.Second, func() error {
		if why := s.unready("cache main"); !strings.Contains(why, "connection refused") {
			return fmt.Errorf("unready because of %q", why)
		}
		return nil
	})
	c, err := s.js.Consumer(t.Context(), stream.Changes, stream.Invalidator)
	require.NoError(t, err)
	require.Zero(t, c.CachedInfo().AckFloor.Stream)
	require.NoError(t, s.redis.Start())
	s.fill(t, "tenant:7:user:3")
	s.acked(t)
	require.Empty(t, s.left(t))
}
