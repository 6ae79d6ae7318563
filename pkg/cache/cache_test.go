package cache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

func TestGetLoadsOnceAndThenHits(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient) {
		c := open[string](t, client, cache.Options{})
		for _, key := range []string{"plain", "with:{tag}:in", "{tag}", everyByte(), strings.Repeat("long", 1000)} {
			l := loads[string]{value: "value"}
			for range 3 {
				got, err := c.Get(t.Context(), key, l.load)
				require.NoError(t, err)
				require.Equal(t, l.value, got)
			}
			require.Equal(t, 1, l.calls, "key %q", key)
			require.Zero(t, client.Exists(t.Context(), cache.GuardKey(key)).Val(), "a fill removes the guard")
		}
		require.EqualValues(t, 5, c.Stats().Filled)
	})
}

// everyByte is a key that holds every byte but braces, and these as one tag.
func everyByte() string {
	var b strings.Builder
	for i := range 256 {
		if i != '{' && i != '}' {
			b.WriteByte(byte(i))
		}
	}
	return "{" + b.String() + "}"
}

func TestAFillThatBeganBeforeAnInvalidationIsRefused(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient) {
		c := open[string](t, client, cache.Options{})
		got, err := c.Get(t.Context(), "k", func(ctx context.Context) (string, error) {
			require.NoError(t, client.Unlink(ctx, "k", cache.GuardKey("k")).Err())
			return "old", nil
		})
		require.NoError(t, err)
		require.Equal(t, "old", got)
		require.Zero(t, client.Exists(t.Context(), "k").Val())
		require.EqualValues(t, 1, c.Stats().Refused)
	})
}

func TestAFillUnderAnotherGuardIsRefused(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{})
	_, err := c.Get(t.Context(), "k", func(ctx context.Context) (string, error) {
		require.NoError(t, client.FlushAll(ctx).Err())
		l := loads[string]{value: "new"}
		_, err := c.Get(ctx, "k", func(ctx context.Context) (string, error) {
			return l.load(ctx)
		})
		return "old", err
	})
	require.NoError(t, err)
	require.Equal(t, `"new"`, client.Get(t.Context(), "k").Val())
}

func TestNullAndEmptyAreValuesAndNotFoundIsRemembered(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	null := open[*string](t, client, cache.Options{})
	n := loads[*string]{}
	for range 2 {
		got, err := null.Get(t.Context(), "null", n.load)
		require.NoError(t, err)
		require.Nil(t, got)
	}
	require.Equal(t, 1, n.calls)

	c := open[string](t, client, cache.Options{NotFoundTTL: time.Second})
	missing := loads[string]{err: errors.Join(errors.New("row"), cache.ErrNotFound)}
	for range 3 {
		_, err := c.Get(t.Context(), "missing", missing.load)
		require.ErrorIs(t, err, cache.ErrNotFound)
	}
	require.Equal(t, 1, missing.calls)
	require.Equal(t, cache.NotFoundValue, client.Get(t.Context(), "missing").Val())
	require.LessOrEqual(t, client.PTTL(t.Context(), "missing").Val(), time.Second)
}

func TestNotFoundIsNotRememberedWhereThatIsOff(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{NotFoundTTL: -1})
	missing := loads[string]{err: cache.ErrNotFound}
	for range 2 {
		_, err := c.Get(t.Context(), "missing", missing.load)
		require.ErrorIs(t, err, cache.ErrNotFound)
	}
	require.Equal(t, 2, missing.calls)
	require.Zero(t, client.DBSize(t.Context()).Val(), "no guard stays behind")
}

func TestAnErrorOrPanicOfALoaderGivesTheGuardUp(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{})
	broken := errors.New("broken")
	_, err := c.Get(t.Context(), "k", func(context.Context) (string, error) { return "", broken })
	require.ErrorIs(t, err, broken)
	require.Zero(t, client.DBSize(t.Context()).Val())
	require.PanicsWithValue(t, "loader", func() {
		_, _ = c.Get(t.Context(), "k", func(context.Context) (string, error) { panic("loader") })
	})
	require.Zero(t, client.DBSize(t.Context()).Val())
	l := loads[string]{value: "v"}
	got, err := c.Get(t.Context(), "k", l.load)
	require.NoError(t, err)
	require.Equal(t, "v", got)
}

func TestWithoutFillStoresNothing(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{})
	l := loads[string]{value: "uncommitted"}
	_, err := c.Get(cache.WithoutFill(t.Context()), "k", l.load)
	require.NoError(t, err)
	require.Zero(t, client.DBSize(t.Context()).Val())

	refuse := func(ctx context.Context) (string, error) {
		cache.MissOf(ctx).Refuse()
		return "uncommitted", nil
	}
	_, err = c.Get(t.Context(), "k", refuse)
	require.NoError(t, err)
	require.Zero(t, client.DBSize(t.Context()).Val())
}

func TestLifetimesAreShortenedByJitterOnly(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{TTL: time.Hour, Jitter: 0.5})
	shortest, longest := time.Hour, time.Duration(0)
	for i := range 50 {
		key := string(rune('a'+i%26)) + string(rune('a'+i/26))
		l := loads[string]{value: "v"}
		_, err := c.Get(t.Context(), key, l.load)
		require.NoError(t, err)
		ttl := client.PTTL(t.Context(), key).Val()
		shortest, longest = min(shortest, ttl), max(longest, ttl)
	}
	require.Greater(t, shortest, 29*time.Minute)
	require.LessOrEqual(t, longest, time.Hour)
	require.Greater(t, longest-shortest, 10*time.Minute)
}

func TestOptionsThatCannotBeKeptAreRefused(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	for _, opt := range []cache.Options{
		{}, {TTL: time.Microsecond}, {TTL: time.Second, Jitter: 1}, {TTL: time.Second, Timeout: -1}, {TTL: time.Second, Replica: true},
	} {
		_, err := cache.New[string](client, opt)
		require.Error(t, err, "%+v", opt)
	}
	for _, opt := range []*redis.ClusterOptions{{Addrs: []string{"h:1"}}, {Addrs: []string{"h:1"}, ContextTimeoutEnabled: true, ReadOnly: true}} {
		cluster := redis.NewClusterClient(opt)
		_, err := cache.New[string](cluster, cache.Options{TTL: time.Second})
		require.Error(t, err)
		require.NoError(t, cluster.Close())
	}
}

func TestUnusableKeysAreRefused(t *testing.T) {
	c := open[string](t, testkit.Redis(t).Client(t), cache.Options{})
	l := loads[string]{}
	_, err := c.Get(t.Context(), "a{b", l.load)
	require.ErrorIs(t, err, cache.ErrKey)
	require.Zero(t, l.calls)
}
