package redis_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

func TestRemoveDeletesKeysOfAnyTypeWithTheirGuardsAndNothingElse(t *testing.T) {
	everyForm(t, func(t *testing.T, s server) {
		var keys []string
		for i := range 5000 {
			keys = append(keys, fmt.Sprintf("tenant:%d:user:%d", i%7, i), fmt.Sprintf("tenant:{%d}:order:%d", i%7, i))
		}
		s.fill(t, keys...)
		require.NoError(t, s.plain.SAdd(t.Context(), "set", 1, 2).Err())
		require.NoError(t, s.plain.HSet(t.Context(), "hash", 1, 2).Err())
		s.fill(t, "other")

		require.NoError(t, s.under.Remove(t.Context(), append(keys, "set", "hash", "was never there")))
		require.ElementsMatch(t, []string{"other", cache.GuardKey("other")}, s.names(t))
		require.NoError(t, s.under.Remove(t.Context(), keys), "again")
		require.NoError(t, s.under.Remove(t.Context(), nil))
	})
}

func TestAFillWhoseMissCameBeforeRemoveIsRefused(t *testing.T) {
	everyForm(t, func(t *testing.T, s server) {
		values, err := cache.New[string](s.plain, cache.Options{TTL: time.Minute})
		require.NoError(t, err)
		got, err := values.Get(t.Context(), "k", func(ctx context.Context) (string, error) {
			return "old", s.under.Remove(ctx, []string{"k"})
		})
		require.NoError(t, err)
		require.Equal(t, "old", got)
		require.Empty(t, s.names(t))
	})
}

func TestRemoveOnASlotThatMovesDeletesBothHalvesOfAPair(t *testing.T) {
	nodes := testkit.RedisCluster(t)
	s := openCluster(t, nodes)
	for _, tag := range []string{"{a}", "{b}", "{c}"} { // on different primaries
		s.fill(t, tag+"1", tag+"2", tag+"3")
		m := moveSlot(t, s, nodes, tag)
		m.migrate(t, tag+"1", cache.GuardKey(tag+"2"), tag+"3", cache.GuardKey(tag+"3"))
		require.NoError(t, s.under.Remove(t.Context(), []string{tag + "1", tag + "2", tag + "3", "elsewhere"}))
		require.Empty(t, s.names(t))
		m.finish(t)
	}
}

func TestRemoveWorksAgainAfterAFailover(t *testing.T) {
	pair := testkit.RedisSentinel(t)
	s := openSentinel(t, pair)
	s.fill(t, "k")
	require.NoError(t, s.under.Remove(t.Context(), []string{"k"}))
	require.NoError(t, pair.Servers[0].Kill())
	s.awaitRemoval(t, "k")
	s.fill(t, "k")
	s.awaitRemoval(t, "k")
	require.Empty(t, s.names(t))
}

func (s server) awaitRemoval(t *testing.T, key string) {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, func() error {
		err := s.under.Remove(t.Context(), []string{key})
		if redis.Permanent(err) {
			return errors.Join(errors.New("called permanent"), err)
		}
		return err
	})
}

func TestErrorsSayWhetherWaitingHelps(t *testing.T) {
	r := testkit.Redis(t, "--requirepass", "sesame")
	remove := func(url string) error {
		c, err := redis.Open(url)
		require.NoError(t, err)
		defer c.Close()
		return c.Remove(t.Context(), []string{"k"})
	}
	require.NoError(t, remove("redis://:sesame@"+r.Addr))
	for _, url := range []string{r.URL(0), "redis://:wrong@" + r.Addr, "redis://:sesame@" + r.Addr + "/99"} {
		err := remove(url)
		require.Error(t, err)
		require.True(t, redis.Permanent(err), err)
		require.Equal(t, "denied", redis.Cause(err))
		require.NotContains(t, err.Error(), "wrong@")
	}
	require.NoError(t, r.Kill())
	err := remove("redis://:sesame@" + r.Addr)
	require.True(t, redis.Retryable(err), err)
	require.Equal(t, "network", redis.Cause(err))
}

func TestAReadOnlyReplicaIsNamedAndRetryable(t *testing.T) {
	pair := testkit.RedisSentinel(t)
	c, err := redis.Open(pair.Servers[1].URL(0))
	require.NoError(t, err)
	defer c.Close()
	err = c.Remove(t.Context(), []string{"k"})
	require.True(t, redis.Retryable(err), err)
	require.Equal(t, "readonly", redis.Cause(err))
}

func TestRemoveEndsWithItsContext(t *testing.T) {
	r := testkit.Redis(t)
	s := open(t, r.URL(0))
	require.NoError(t, s.plain.Do(t.Context(), "client", "pause", 60_000, "all").Err())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := s.under.Remove(ctx, []string{"k"})
	require.Equal(t, "timeout", redis.Cause(err), err)
	require.Error(t, ctx.Err())
}

func BenchmarkRemove(b *testing.B) {
	r := testkit.Redis(b)
	c, err := redis.Open(r.URL(0))
	require.NoError(b, err)
	defer c.Close()
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("tenant:%d:item:%d", i%50, i)
	}
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, c.Remove(b.Context(), keys))
	}
	b.ReportMetric(float64(b.N*len(keys))/b.Elapsed().Seconds(), "keys/s")
}
