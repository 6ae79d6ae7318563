package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

func at(epoch, lsn uint64) events.Position {
	return events.Position{Epoch: epoch, LSN: events.LSN(lsn)}
}

func highest(p events.Position) func(context.Context) (events.Position, error) {
	return func(context.Context) (events.Position, error) { return p, nil }
}

// flush empties all primaries.
func flush(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	if c, ok := client.(*redis.ClusterClient); ok {
		require.NoError(t, c.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error { return node.FlushAll(ctx).Err() }))
		return
	}
	require.NoError(t, client.FlushAll(t.Context()).Err())
}

func TestAnAppliedRecordOnlyRises(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient) {
		a := cache.NewApplied(client, "shop")
		require.NoError(t, a.Restore(t.Context(), highest(at(1, 10))))
		for _, step := range []struct{ raise, want events.Position }{
			{at(1, 20), at(1, 20)}, {at(1, 15), at(1, 20)}, {at(1, 1<<63), at(1, 1<<63)}, {at(2, 5), at(2, 5)}, {at(1, 9), at(2, 5)},
		} {
			usable, err := a.Raise(t.Context(), step.raise)
			require.NoError(t, err)
			require.True(t, usable)
			got, known, err := a.Read(t.Context())
			require.NoError(t, err)
			require.True(t, known)
			require.Equal(t, step.want, got)
		}
	})
}

func TestAMissingAppliedRecordIsNoneUntilItIsRestored(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient) {
		a := cache.NewApplied(client, "shop")
		unknown := func() {
			_, known, err := a.Read(t.Context())
			require.NoError(t, err)
			require.False(t, known)
		}
		unknown()
		usable, err := a.Raise(t.Context(), at(1, 100))
		require.NoError(t, err)
		require.False(t, usable)
		unknown()
		require.NoError(t, a.Restore(t.Context(), highest(at(1, 90))))
		got, known, err := a.Read(t.Context())
		require.NoError(t, err)
		require.True(t, known)
		require.Equal(t, at(1, 100), got, "what was raised while it was pending counts")
		flush(t, client)
		unknown()
	})
}

func TestARecordThatGoesMissingDuringItsRestorationStaysMissing(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	a := cache.NewApplied(client, "shop")
	err := a.Restore(t.Context(), func(ctx context.Context) (events.Position, error) {
		// read from the stream, then a later event is applied, and all is lost again
		_, err := a.Raise(ctx, at(1, 100))
		require.NoError(t, err)
		require.NoError(t, client.FlushAll(ctx).Err())
		_, err = a.Raise(ctx, at(1, 80))
		return at(1, 90), err
	})
	require.Error(t, err)
	_, known, err := a.Read(t.Context())
	require.NoError(t, err)
	require.False(t, known, "90 would be below the 100 that was applied")
}

func TestWithoutMemoryTheRecordIsDeletedAndRemovalsGoOn(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	a := cache.NewApplied(client, "shop")
	require.NoError(t, a.Restore(t.Context(), highest(at(1, 10))))
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	usable, err := a.Raise(t.Context(), at(1, 20))
	require.NoError(t, err)
	require.False(t, usable)
	_, known, err := a.Read(t.Context())
	require.NoError(t, err)
	require.False(t, known)
}

func TestEveryPartOfAClusterHasAnAppliedRecordPerSource(t *testing.T) {
	client := clusterClient(t, testkit.RedisCluster(t))
	seen := map[int64]bool{}
	for _, key := range cache.AppliedKeys("a b{") {
		require.NoError(t, cache.CheckKey(key))
		slot, err := client.ClusterKeySlot(t.Context(), key).Result()
		require.NoError(t, err)
		seen[slot/1024] = true
	}
	require.Len(t, seen, 16)
	require.NotEqual(t, cache.AppliedKeys("a"), cache.AppliedKeys("b"))
}

// fillFromReplica reads a key of a cache whose loader says that the replica is at an LSN, and returns whether it was stored.
func fillFromReplica(t *testing.T, client redis.UniversalClient, replayed func(context.Context) (events.LSN, bool, error)) bool {
	t.Helper()
	c := open[string](t, client, cache.Options{Source: "shop", Replica: true})
	require.NoError(t, c.Invalidate(t.Context(), "k"))
	_, err := c.Get(t.Context(), "k", func(ctx context.Context) (string, error) {
		if replayed == nil {
			return "v", nil
		}
		return "v", cache.MissOf(ctx).Prove(ctx, replayed)
	})
	require.NoError(t, err)
	return c.Stats().Filled == 1
}

func TestAFillFromAReplicaNeedsToBeBeyondWhatIsApplied(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient) {
		lsn := func(n uint64, replica bool) func(context.Context) (events.LSN, bool, error) {
			return func(context.Context) (events.LSN, bool, error) { return events.LSN(n), replica, nil }
		}
		require.False(t, fillFromReplica(t, client, lsn(1000, true)), "no record")
		a := cache.NewApplied(client, "shop")
		require.NoError(t, a.Restore(t.Context(), highest(at(1, 100))))
		require.False(t, fillFromReplica(t, client, nil), "no evidence")
		require.False(t, fillFromReplica(t, client, lsn(99, true)))
		require.False(t, fillFromReplica(t, client, lsn(100, true)), "the record starts there")
		require.True(t, fillFromReplica(t, client, lsn(101, true)))
		require.False(t, fillFromReplica(t, client, lsn(101, false)), "NULL: not a replica")
		calls := uint64(90)
		require.True(t, fillFromReplica(t, client, func(context.Context) (events.LSN, bool, error) {
			calls += 5
			return events.LSN(calls), true, nil
		}), "it may catch up")
	})
}

func TestARefusedFillFromAReplicaLeavesNoGuard(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	began := time.Now()
	require.False(t, fillFromReplica(t, client, nil))
	require.Zero(t, client.DBSize(t.Context()).Val())
	require.Less(t, time.Since(began), time.Second)
}

func TestRefuseOutlivesProof(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	require.NoError(t, cache.NewApplied(client, "shop").Restore(t.Context(), highest(at(1, 1))))
	c := open[string](t, client, cache.Options{Source: "shop"})
	_, err := c.Get(t.Context(), "k", func(ctx context.Context) (string, error) {
		cache.MissOf(ctx).Refuse()
		return "v", cache.MissOf(ctx).Prove(ctx, func(context.Context) (events.LSN, bool, error) { return 9, true, nil })
	})
	require.NoError(t, err)
	require.Zero(t, c.Stats().Filled)
}

// The record against a model: whatever the order of raising, losing and restoring, a record that can be used is not below
// anything that was raised before, if each restoration is given at least the highest that was raised before it began.
func TestAUsableRecordIsNeverTooLow(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	rapid.Check(t, func(rt *rapid.T) {
		require.NoError(t, client.FlushAll(t.Context()).Err())
		a := cache.NewApplied(client, "shop")
		raised := uint64(1)
		step := func(ctx context.Context, kinds []string) {
			switch rapid.SampledFrom(kinds).Draw(rt, "step") {
			case "raise":
				lsn := rapid.Uint64Range(1, 50).Draw(rt, "lsn")
				_, err := a.Raise(ctx, at(1, lsn))
				require.NoError(t, err)
				raised = max(raised, lsn)
			case "lose":
				require.NoError(t, client.FlushAll(ctx).Err())
			}
			if p, known, err := a.Read(ctx); known || err != nil {
				require.NoError(t, err)
				require.GreaterOrEqual(t, uint64(p.LSN), raised)
			}
		}
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "restore") {
				_ = a.Restore(t.Context(), func(ctx context.Context) (events.Position, error) {
					p := at(1, raised) // the stream has everything that was raised before
					for range rapid.IntRange(0, 3).Draw(rt, "meanwhile") {
						step(ctx, []string{"raise", "lose"})
					}
					return p, nil
				})
			}
			step(t.Context(), []string{"raise", "lose"})
		}
	})
}
