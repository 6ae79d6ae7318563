package redis_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

var users = events.Pattern{"tenant:7:user:", ":profile"}

func TestSweepDeletesWhatTheTemplatesCanHaveRenderedAndNothingElse(t *testing.T) {
	everyForm(t, func(t *testing.T, s server) {
		var mine []string
		for i := range 3000 {
			mine = append(mine, fmt.Sprintf("tenant:7:user:%d:profile", i))
		}
		mine = append(mine, "tenant:{7}:a*b", "settings")
		others := []string{
			"tenant:77:user:1:profile", "tenant:7:user:1:profile:x", "tenant:7:user:1:2:profile", "xtenant:7:user:1:profile",
			"tenant:7:user:1:profil", "tenant:{7}:axb", "settings2",
		}
		s.fill(t, append(mine, others...)...)
		patterns := []events.Pattern{users, {"tenant:{7}:a*b"}, {"settings"}}

		dry, err := s.under.Sweep(t.Context(), redis.Sweep{Patterns: patterns, DryRun: true})
		require.NoError(t, err)
		require.EqualValues(t, len(mine), dry.Keys)
		require.Len(t, s.names(t), 2*(len(mine)+len(others)))

		done, err := s.under.Sweep(t.Context(), redis.Sweep{Patterns: patterns})
		require.NoError(t, err)
		require.EqualValues(t, len(mine), done.Keys)
		require.EqualValues(t, len(mine), done.Guards)
		require.Zero(t, done.Restarts)
		var left []string
		for _, key := range others {
			left = append(left, key, cache.GuardKey(key))
		}
		require.ElementsMatch(t, left, s.names(t))
	})
}

func TestAFillWhoseMissCameBeforeASweepIsRefused(t *testing.T) {
	s := open(t, testkit.Redis(t).URL(0))
	values, err := cache.New[string](s.plain, cache.Options{TTL: time.Minute})
	require.NoError(t, err)
	_, err = values.Get(t.Context(), "tenant:7:user:1:profile", func(ctx context.Context) (string, error) {
		_, err := s.under.Sweep(ctx, redis.Sweep{Patterns: []events.Pattern{users}})
		return "old", err
	})
	require.NoError(t, err)
	require.Empty(t, s.names(t))
}

func TestAFillBetweenTheTwoPassesOfASweepIsDeleted(t *testing.T) {
	s := open(t, testkit.Redis(t).URL(0))
	s.fill(t, "tenant:7:user:1:profile")
	var once sync.Once
	_, err := s.under.Sweep(t.Context(), redis.Sweep{
		Patterns: []events.Pattern{users},
		Progress: func(p redis.Progress) {
			require.Equal(t, p.Keys > 0, p.Pass == 2, "guards go before values")
			once.Do(func() { s.fill(t, "tenant:7:user:2:profile") })
		},
	})
	require.NoError(t, err)
	require.NotContains(t, s.names(t), "tenant:7:user:2:profile")
}

func TestBothPassesStartAgainWhenTheServerDid(t *testing.T) {
	r := testkit.Redis(t, "--save", "3600 1")
	s := open(t, r.URL(0))
	s.fill(t, "tenant:7:user:1:profile")
	var once sync.Once
	done, err := s.under.Sweep(t.Context(), redis.Sweep{
		Patterns: []events.Pattern{users},
		Progress: func(redis.Progress) {
			once.Do(func() { // after the guards' pass: what comes back with the new server is a guard as well
				s.fill(t, "tenant:7:user:2:profile")
				require.NoError(t, r.Restart())
			})
		},
	})
	require.NoError(t, err)
	require.Equal(t, 1, done.Restarts)
	require.Empty(t, s.names(t))
}

// A key that moves from a primary that is still to be walked to one that was is missed by a single walk. Which primary is
// first is chance; over twelve slots it is the wrong one often enough.
func TestSweepMeetsAKeyThatMovesMeanwhile(t *testing.T) {
	nodes := testkit.RedisCluster(t)
	s := openCluster(t, nodes)
	for i := range 12 {
		tag := fmt.Sprintf("{%d}", i)
		s.fill(t, tag+":1:x", tag+":2:x", tag+":3:x")
		m := moveSlot(t, s, nodes, tag)
		m.migrate(t, tag+":1:x", cache.GuardKey(tag+":2:x"))
		var once sync.Once
		done, err := s.under.Sweep(t.Context(), redis.Sweep{
			Patterns: []events.Pattern{{tag + ":", ":x"}},
			Progress: func(p redis.Progress) {
				if p.Pass == 2 {
					once.Do(func() { m.migrate(t, tag+":3:x") })
				}
			},
		})
		require.NoError(t, err)
		require.Empty(t, s.names(t))
		require.Zero(t, done.Restarts)
		m.finish(t)
	}
}

func TestSweepStartsAgainWhenASlotWasHandedOver(t *testing.T) {
	nodes := testkit.RedisCluster(t)
	s := openCluster(t, nodes)
	s.fill(t, "{tag}:1:x")
	m := moveSlot(t, s, nodes, "{tag}")
	var once sync.Once
	done, err := s.under.Sweep(t.Context(), redis.Sweep{
		Patterns: []events.Pattern{{"{tag}:", ":x"}},
		Progress: func(redis.Progress) {
			once.Do(func() {
				m.migrate(t, "{tag}:1:x", cache.GuardKey("{tag}:1:x")) // a slot with keys left is not handed over
				m.finish(t)
			})
		},
	})
	require.NoError(t, err)
	require.Positive(t, done.Restarts)
	require.Empty(t, s.names(t))
}

func TestSweepKeepsToItsRate(t *testing.T) {
	s := open(t, testkit.Redis(t).URL(0))
	var keys []string
	for i := range 4000 {
		keys = append(keys, fmt.Sprintf("other:%d", i))
	}
	s.fill(t, keys...)
	start := time.Now()
	_, err := s.under.Sweep(t.Context(), redis.Sweep{Patterns: []events.Pattern{users}, Rate: 40_000})
	require.NoError(t, err)
	require.Greater(t, time.Since(start), 200*time.Millisecond, "8,000 names, twice, at 40,000 a second")
}
