package cache_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type user struct{ Name string }

// everyForm runs one contract against each form of Redis, for keys with and without a hash tag.
func everyForm(t *testing.T, contract func(t *testing.T, client redis.UniversalClient, key string)) {
	single := testkit.Redis(t).Client(t)
	var addrs []string
	for _, node := range testkit.RedisCluster(t) {
		addrs = append(addrs, node.Addr)
	}
	many := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { require.NoError(t, many.Close()) })
	for form, client := range map[string]redis.UniversalClient{"single": single, "cluster": many} {
		for _, key := range []string{"tenant:7:user:1", "tenant:{7}:user:1"} {
			t.Run(form+" "+key, func(t *testing.T) { contract(t, client, key) })
		}
	}
}

func open(t *testing.T, client redis.UniversalClient) *cache.Cache[user] {
	t.Helper()
	c, err := cache.New[user](client, cache.Options{TTL: time.Minute})
	require.NoError(t, err)
	return c
}

func invalidate(ctx context.Context, client redis.UniversalClient, key string) error {
	return client.Unlink(ctx, key, cache.GuardKey(key)).Err()
}

func loads(name string) func(context.Context) (user, error) {
	return func(context.Context) (user, error) { return user{name}, nil }
}

func TestGetLoadsOnceAndThenHitsUntilInvalidated(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient, key string) {
		users := open(t, client)
		for range 3 {
			got, err := users.Get(t.Context(), key, loads("ann"))
			require.NoError(t, err)
			require.Equal(t, user{"ann"}, got)
		}
		require.Equal(t, cache.Stats{Hits: 2, Misses: 1, Filled: 1}, users.Stats())
		require.InDelta(t, time.Minute, client.PTTL(t.Context(), key).Val(), float64(10*time.Second))
		require.Zero(t, client.Exists(t.Context(), cache.GuardKey(key)).Val(), "a fill removes its guard")
		require.NoError(t, invalidate(t.Context(), client, key))
		got, err := users.Get(t.Context(), key, loads("eve"))
		require.NoError(t, err)
		require.Equal(t, user{"eve"}, got)
	})
}

func TestAFillIsRefusedWhenTheKeyWasInvalidatedAfterItsMiss(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient, key string) {
		users := open(t, client)
		got, err := users.Get(t.Context(), key, func(ctx context.Context) (user, error) {
			return user{"old"}, invalidate(ctx, client, key)
		})
		require.NoError(t, err)
		require.Equal(t, user{"old"}, got, "the caller asked before the change")
		require.EqualValues(t, 1, users.Stats().Refused)
		require.Zero(t, client.Exists(t.Context(), key).Val())
	})
}

func TestAFillIsRefusedWhenAnotherMissCameAfterTheInvalidation(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient, key string) {
		users := open(t, client)
		_, err := users.Get(t.Context(), key, func(ctx context.Context) (user, error) {
			if err := invalidate(ctx, client, key); err != nil {
				return user{}, err
			}
			_, err := users.Get(ctx, key, loads("new")) // its guard is another one
			return user{"old"}, err
		})
		require.NoError(t, err)
		got, err := users.Get(t.Context(), key, loads("not called"))
		require.NoError(t, err)
		require.Equal(t, user{"new"}, got)
	})
}

func TestAFillIsRefusedWhenRedisLostEverythingBetween(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	users := open(t, client)
	_, err := users.Get(t.Context(), "k", func(ctx context.Context) (user, error) {
		return user{"old"}, client.FlushAll(ctx).Err()
	})
	require.NoError(t, err)
	require.Zero(t, client.DBSize(t.Context()).Val())
	require.EqualValues(t, 1, users.Stats().Refused)
}

func TestAFillIsRefusedWhenItsGuardHasExpired(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	users, err := cache.New[user](client, cache.Options{TTL: time.Minute, GuardTTL: 20 * time.Millisecond})
	require.NoError(t, err)
	_, err = users.Get(t.Context(), "k", func(ctx context.Context) (user, error) {
		testkit.Eventually(t, 5*time.Second, func() error {
			if client.Exists(ctx, cache.GuardKey("k")).Val() == 1 {
				return errors.New("the guard still stands")
			}
			return nil
		})
		return user{"late"}, nil
	})
	require.NoError(t, err)
	require.Zero(t, client.DBSize(t.Context()).Val())
}

func TestReadersThatMissTogetherShareAGuardAndOneFills(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	users := open(t, client)
	const readers = 20
	var missed, done sync.WaitGroup
	missed.Add(readers)
	for range readers {
		done.Go(func() {
			if _, err := users.Get(t.Context(), "k", func(context.Context) (user, error) {
				missed.Done()
				missed.Wait()
				return user{"ann"}, nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	require.Equal(t, cache.Stats{Misses: readers, Filled: 1, Refused: readers - 1}, users.Stats())
}

func TestErrorsAreNoMisses(t *testing.T) {
	server := testkit.Redis(t)
	client := server.Client(t)
	users := open(t, client)
	never := func(context.Context) (user, error) { panic("loaded") }

	_, err := users.Get(t.Context(), "a{b}{c}", never)
	require.ErrorIs(t, err, cache.ErrKey)
	require.NoError(t, client.SAdd(t.Context(), "set", 1).Err())
	_, err = users.Get(t.Context(), "set", never)
	require.ErrorContains(t, err, "WRONGTYPE")
	require.NoError(t, client.Set(t.Context(), "damaged", "{", 0).Err())
	_, err = users.Get(t.Context(), "damaged", never)
	require.ErrorContains(t, err, "decode cached value")
	failure := errors.New("database is away")
	_, err = users.Get(t.Context(), "k", func(context.Context) (user, error) { return user{}, failure })
	require.ErrorIs(t, err, failure)
	require.Zero(t, client.Exists(t.Context(), "k").Val())
	require.NoError(t, server.Kill())
	_, err = users.Get(t.Context(), "k", never)
	require.ErrorContains(t, err, "read cache")

	for _, opt := range []cache.Options{{}, {TTL: time.Microsecond}, {TTL: time.Second, GuardTTL: -1}} {
		_, err := cache.New[user](client, opt)
		require.Error(t, err)
	}
}

func TestAValueThatRedisDoesNotTakeIsStillReturned(t *testing.T) {
	server := testkit.Redis(t)
	users := open(t, server.Client(t))
	got, err := users.Get(t.Context(), "k", func(context.Context) (user, error) { return user{"ann"}, server.Kill() })
	require.NoError(t, err)
	require.Equal(t, user{"ann"}, got)
	require.EqualValues(t, 1, users.Stats().Failed)
}

// TestNoStaleValueSurvivesRacingWritersAndReaders has readers that are slow between reading the row and filling, and writers
// whose invalidations follow their commits.
func TestNoStaleValueSurvivesRacingWritersAndReaders(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	versions, err := cache.New[int](client, cache.Options{TTL: time.Minute})
	require.NoError(t, err)
	const keys, writes, readers = 5, 400, 8
	var mu sync.Mutex
	rows := make([]int, keys)
	read := func(i int) int {
		mu.Lock()
		defer mu.Unlock()
		return rows[i]
	}
	name := func(i int) string { return fmt.Sprintf("row:%d", i) }
	var writing, reading sync.WaitGroup
	stop := make(chan struct{})
	for r := range readers {
		reading.Go(func() {
			for n := r; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				i := n % keys
				if _, err := versions.Get(t.Context(), name(i), func(ctx context.Context) (int, error) {
					row := read(i)
					return row, client.Ping(ctx).Err() // time for an invalidation to pass
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range keys {
		writing.Go(func() {
			for range writes {
				mu.Lock()
				rows[i]++
				mu.Unlock()
				if err := invalidate(t.Context(), client, name(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
	for i := range keys {
		got, err := versions.Get(t.Context(), name(i), func(context.Context) (int, error) { return read(i), nil })
		require.NoError(t, err)
		require.Equal(t, writes, got)
	}
	require.Positive(t, versions.Stats().Refused, "the test is too weak: no fill was late")
	require.Positive(t, versions.Stats().Hits)
}

func BenchmarkGet(b *testing.B) {
	client := testkit.Redis(b).Client(b)
	text, err := cache.New[string](client, cache.Options{TTL: time.Minute})
	require.NoError(b, err)
	value := strings.Repeat("x", 200)
	load := func(context.Context) (string, error) { return value, nil }
	b.Run("hit", func(b *testing.B) {
		for b.Loop() {
			_, err := text.Get(b.Context(), "k", load)
			require.NoError(b, err)
		}
	})
	b.Run("plain GET", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, client.Get(b.Context(), "k").Err())
		}
	})
	b.Run("miss and fill", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			_, err := text.Get(b.Context(), fmt.Sprint("miss:", n), load)
			require.NoError(b, err)
		}
	})
}
