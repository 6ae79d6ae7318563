package cache_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

func TestWhileRedisIsAwayFewReadsLoadAndNoneWaitLong(t *testing.T) {
	server := testkit.Redis(t)
	client := server.Client(t)
	c := open[string](t, client, cache.Options{OutageLoads: 3, Timeout: 100 * time.Millisecond})
	require.NoError(t, server.Kill())

	var running, most, calls atomic.Int32
	load := func(context.Context) (string, error) {
		calls.Add(1)
		for n := running.Add(1); ; {
			if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		defer running.Add(-1)
		<-time.After(300 * time.Millisecond)
		return "v", nil
	}
	began := time.Now()
	var wg sync.WaitGroup
	var refused atomic.Int32
	for range 50 {
		wg.Go(func() {
			got, err := c.Get(t.Context(), "k", load)
			if errors.Is(err, cache.ErrUnavailable) {
				refused.Add(1)
			} else if err != nil || got != "v" {
				t.Errorf("got %q and %v", got, err)
			}
		})
	}
	wg.Wait()
	require.Less(t, time.Since(began), 3*time.Second)
	require.LessOrEqual(t, most.Load(), int32(3))
	require.Positive(t, calls.Load())
	require.EqualValues(t, 50-calls.Load(), refused.Load())
	require.EqualValues(t, calls.Load(), c.Stats().Bypassed)
	require.Positive(t, c.Stats().Tripped)

	require.NoError(t, server.Start())
	eventually(t, func() bool {
		_, err := c.Get(t.Context(), "k", load)
		return err == nil && c.Stats().Filled == 1
	}, "does not come back")
}

func TestWithoutOutageLoadsAnErrorIsAnError(t *testing.T) {
	server := testkit.Redis(t)
	c := open[string](t, server.Client(t), cache.Options{OutageLoads: -1})
	require.NoError(t, server.Kill())
	l := loads[string]{}
	_, err := c.Get(t.Context(), "k", l.load)
	require.ErrorIs(t, err, cache.ErrUnavailable)
	require.Zero(t, l.calls)
	_, err = c.GetMany(t.Context(), []string{"k"}, func(context.Context, []string) (map[string]string, error) { return nil, nil })
	require.ErrorIs(t, err, cache.ErrUnavailable)
}

func TestASlowRedisCostsNoMoreThanTheTimeout(t *testing.T) {
	for _, byContext := range []bool{true, false} {
		server := testkit.Redis(t)
		client := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: byContext, MaxRetries: -1})
		defer client.Close()
		c := open[string](t, client, cache.Options{Timeout: 50 * time.Millisecond})
		require.NoError(t, client.Do(t.Context(), "CLIENT", "PAUSE", "10000", "ALL").Err())
		l := loads[string]{value: "v"}
		began := time.Now()
		got, err := c.Get(t.Context(), "k", l.load)
		require.NoError(t, err)
		require.Equal(t, "v", got)
		require.Less(t, time.Since(began), time.Second)
	}
}

func TestWhatRedisRefusesIsNoMissAndNoOutage(t *testing.T) {
	server := testkit.Redis(t)
	client := server.Client(t)
	c := open[string](t, client, cache.Options{})
	refusals := map[string]func(){
		"WRONGTYPE": func() { require.NoError(t, client.LPush(t.Context(), "k", "element").Err()) },
		"OOM":       func() { require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err()) },
		"READONLY":  func() { require.NoError(t, client.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err()) },
	}
	for _, name := range []string{"WRONGTYPE", "OOM", "READONLY"} {
		require.NoError(t, client.FlushAll(t.Context()).Err())
		refusals[name]()
		l := loads[string]{value: "v"}
		for range 10 {
			got, err := c.Get(t.Context(), "k", l.load)
			require.NoError(t, err, name)
			require.Equal(t, "v", got)
		}
		require.Equal(t, 10, l.calls, name)
		if name == "OOM" {
			require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
		}
	}
	require.Zero(t, c.Stats().Misses)
	require.Zero(t, c.Stats().Tripped)
	require.EqualValues(t, 30, c.Stats().Bypassed)
}

func TestLoadsAreLimitedTogether(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	limiter := cache.NewLimiter(1)
	a, b := open[string](t, client, cache.Options{}, cache.WithLimiter(limiter)), open[string](t, client, cache.Options{}, cache.WithLimiter(limiter))
	s := newSlowLoad()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = a.Get(t.Context(), "a", s.load) })
	<-s.entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.Get(ctx, "b", s.load)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(s.release)
	wg.Wait()
	require.EqualValues(t, 1, s.calls.Load())
}

func TestALoadEndsAtItsTimeout(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{LoadTimeout: 30 * time.Millisecond})
	_, err := c.Get(t.Context(), "k", newSlowLoad().load)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Zero(t, client.DBSize(t.Context()).Val())
}

func TestOneServerThatIsAwayDoesNotCutOffTheOthers(t *testing.T) {
	nodes := testkit.RedisCluster(t, "--cluster-require-full-coverage", "no")
	c := open[string](t, clusterClient(t, nodes), cache.Options{OutageLoads: -1, Timeout: 200 * time.Millisecond})
	l := loads[string]{value: "v"}
	on := func(first, last int) string { // a key whose slot is in a range
		client := nodes[0].Client(t)
		for i := 0; ; i++ {
			key := string(rune('a'+i%26)) + string(rune('a'+i/26))
			if slot := int(client.ClusterKeySlot(t.Context(), key).Val()); slot >= first && slot < last {
				return key
			}
		}
	}
	there, away := on(0, 5000), on(11000, 16384)
	require.NoError(t, nodes[2].Kill())
	for range 20 {
		_, err := c.Get(t.Context(), away, l.load)
		require.ErrorIs(t, err, cache.ErrUnavailable)
	}
	_, err := c.Get(t.Context(), there, l.load)
	require.NoError(t, err)
	require.Equal(t, 1, l.calls)
}

func TestAReadWithoutFillNeitherReplacesNorRefreshes(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{TTL: time.Minute, Stale: time.Minute, Jitter: -1})
	for _, value := range []string{`"old"`, "not JSON"} {
		require.NoError(t, client.Set(t.Context(), "k", value, 30*time.Second).Err())
		l := loads[string]{value: "uncommitted"}
		_, err := c.Get(cache.WithoutFill(t.Context()), "k", l.load)
		require.NoError(t, err)
		c.Close() // waits for what runs in the background
		require.Equal(t, value, client.Get(t.Context(), "k").Val())
		require.EqualValues(t, 1, client.DBSize(t.Context()).Val(), "no guard either")
	}
}
