package cache_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

func TestAHotValueIsRefreshedBeforeItsEnd(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{TTL: time.Minute, RefreshBefore: 10 * time.Second})
	var calls atomic.Int32
	load := func(context.Context) (string, error) {
		if calls.Add(1) == 1 {
			return "first", nil
		}
		return "second", nil
	}
	for range 3 {
		got, err := c.Get(t.Context(), "k", load)
		require.NoError(t, err)
		require.Equal(t, "first", got)
	}
	require.NoError(t, client.PExpire(t.Context(), "k", 9*time.Second).Err())
	got, err := c.Get(t.Context(), "k", load)
	require.NoError(t, err)
	require.Equal(t, "first", got, "nobody waits for a refresh")
	eventually(t, func() bool { return client.Get(t.Context(), "k").Val() == `"second"` }, "not refreshed")
	require.EqualValues(t, 2, calls.Load())
}

func TestAStaleValueIsServedWhileOneReaderLoads(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{TTL: time.Minute, Stale: 30 * time.Second, Jitter: -1})
	l := loads[string]{value: "old"}
	_, err := c.Get(t.Context(), "k", l.load)
	require.NoError(t, err)
	require.Greater(t, client.PTTL(t.Context(), "k").Val(), 80*time.Second)
	require.NoError(t, client.PExpire(t.Context(), "k", 20*time.Second).Err()) // ten seconds past its TTL
	s := newSlowLoad()
	for range 5 {
		got, err := c.Get(t.Context(), "k", s.load)
		require.NoError(t, err)
		require.Equal(t, "old", got)
	}
	close(s.release)
	eventually(t, func() bool { return client.Get(t.Context(), "k").Val() == `"loaded"` }, "not loaded again")
	require.EqualValues(t, 1, s.calls.Load())
	require.EqualValues(t, 5, c.Stats().Stale)
}

func TestARefreshFromBeforeAnInvalidationIsRefused(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{TTL: time.Minute, Stale: 30 * time.Second, Jitter: -1})
	l := loads[string]{value: "old"}
	_, err := c.Get(t.Context(), "k", l.load)
	require.NoError(t, err)
	require.NoError(t, client.PExpire(t.Context(), "k", 20*time.Second).Err())
	s := newSlowLoad()
	_, err = c.Get(t.Context(), "k", s.load)
	require.NoError(t, err)
	<-s.entered
	require.NoError(t, client.Unlink(t.Context(), "k", cache.GuardKey("k")).Err())
	close(s.release)
	eventually(t, func() bool { return c.Stats().Refused == 1 }, "not refused")
	require.Zero(t, client.DBSize(t.Context()).Val(), "what is invalidated is never served stale")
}

func TestAStaleValueIsServedWhereLoadingFailsButNotForEver(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{TTL: time.Minute, StaleOnError: time.Hour, Jitter: -1})
	l := loads[string]{value: "old"}
	_, err := c.Get(t.Context(), "k", l.load)
	require.NoError(t, err)
	require.LessOrEqual(t, client.PTTL(t.Context(), "k").Val(), time.Hour+time.Minute, "the limit is Redis' own")
	require.NoError(t, client.PExpire(t.Context(), "k", 59*time.Minute).Err())
	l.err = errors.New("database away")
	got, err := c.Get(t.Context(), "k", l.load)
	require.NoError(t, err)
	require.Equal(t, "old", got)
	require.EqualValues(t, 1, c.Stats().StaleOnError)
	l.err, l.value = nil, "new"
	got, err = c.Get(t.Context(), "k", l.load)
	require.NoError(t, err)
	require.Equal(t, "new", got)
	require.Equal(t, `"new"`, client.Get(t.Context(), "k").Val())
}

func TestCloseEndsWhatRunsInTheBackground(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c, err := cache.New[string](client, cache.Options{TTL: time.Minute, Stale: 30 * time.Second, Jitter: -1})
	require.NoError(t, err)
	l := loads[string]{value: "old"}
	_, err = c.Get(t.Context(), "k", l.load)
	require.NoError(t, err)
	require.NoError(t, client.PExpire(t.Context(), "k", 20*time.Second).Err())
	s := newSlowLoad()
	_, err = c.Get(t.Context(), "k", s.load)
	require.NoError(t, err)
	<-s.entered
	c.Close() // cancels the load, and waits
	require.Zero(t, client.Exists(t.Context(), cache.GuardKey("k")).Val())
}
