package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

// slowLoad is a loader that waits to be let go, and counts.
type slowLoad struct {
	calls   atomic.Int32
	entered chan struct{}
	release chan struct{}
}

func newSlowLoad() *slowLoad {
	return &slowLoad{entered: make(chan struct{}, 1000), release: make(chan struct{})}
}

func (s *slowLoad) load(ctx context.Context) (string, error) {
	s.calls.Add(1)
	s.entered <- struct{}{}
	select {
	case <-s.release:
		return "loaded", nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func TestAThousandMissesOfOneKeyLoadOnce(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient) {
		// two caches stand for two processes: they share nothing but Redis
		a, b := open[string](t, client, cache.Options{Timeout: patience}), open[string](t, client, cache.Options{Timeout: patience})
		s := newSlowLoad()
		var readers sync.WaitGroup
		errs := make(chan error, 1000)
		for i := range 1000 {
			c := a
			if i%2 == 1 {
				c = b
			}
			readers.Go(func() {
				got, err := c.Get(t.Context(), "hot", s.load)
				if err == nil && got != "loaded" {
					err = fmt.Errorf("got %q", got)
				}
				errs <- err
			})
		}
		eventually(t, func() bool { return a.Stats().Waits+b.Stats().Waits == 999 }, "not all wait")
		close(s.release)
		readers.Wait()
		for range 1000 {
			require.NoError(t, <-errs)
		}
		require.EqualValues(t, 1, s.calls.Load())
	})
}

func TestFollowersAreToldAndDoNotWaitForAnyTimer(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	opt := cache.Options{GuardTTL: time.Hour} // no guard expires in this test
	a, b := open[string](t, client, opt), open[string](t, client, opt)
	s := newSlowLoad()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = a.Get(t.Context(), "k", s.load) })
	<-s.entered
	wg.Go(func() {
		got, err := b.Get(t.Context(), "k", s.load)
		require.NoError(t, err)
		require.Equal(t, "loaded", got)
	})
	eventually(t, func() bool { return waitAnnounced(t, client, "k") }, "nobody waits")
	close(s.release)
	wg.Wait()
	require.EqualValues(t, 1, s.calls.Load())
}

// waitAnnounced tells whether somebody has asked to be told of a fill.
func waitAnnounced(t *testing.T, client redis.UniversalClient, key string) bool {
	guard := client.Get(t.Context(), cache.GuardKey(key)).Val()
	return guard != "" && guard[len(guard)-1] == '+'
}

func TestAFollowerTakesOverWhenTheLeaderFails(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	opt := cache.Options{GuardTTL: time.Hour}
	a, b := open[string](t, client, opt), open[string](t, client, opt)
	entered, fail := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := a.Get(t.Context(), "k", func(context.Context) (string, error) {
			close(entered)
			<-fail
			return "", errors.New("broken")
		})
		require.Error(t, err)
	})
	<-entered
	wg.Go(func() {
		got, err := b.Get(t.Context(), "k", func(context.Context) (string, error) { return "second", nil })
		require.NoError(t, err)
		require.Equal(t, "second", got)
	})
	eventually(t, func() bool { return waitAnnounced(t, client, "k") }, "nobody waits")
	close(fail)
	wg.Wait()
}

func TestALeaderThatDiedIsReplacedWhenItsGuardExpires(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	require.NoError(t, client.Set(t.Context(), cache.GuardKey("k"), "of one that died", 200*time.Millisecond).Err())
	c := open[string](t, client, cache.Options{Wait: time.Hour})
	l := loads[string]{value: "v"}
	got, err := c.Get(t.Context(), "k", l.load)
	require.NoError(t, err)
	require.Equal(t, "v", got)
	require.Equal(t, `"v"`, client.Get(t.Context(), "k").Val())
}

func TestWaitingIsBounded(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	for _, wait := range []time.Duration{20 * time.Millisecond, -1} {
		require.NoError(t, client.FlushAll(t.Context()).Err())
		require.NoError(t, client.Set(t.Context(), cache.GuardKey("k"), "of one that is slow", time.Hour).Err())
		c := open[string](t, client, cache.Options{Wait: wait})
		l := loads[string]{value: "v"}
		got, err := c.Get(t.Context(), "k", l.load)
		require.NoError(t, err)
		require.Equal(t, "v", got)
		require.Equal(t, `"v"`, client.Get(t.Context(), "k").Val(), "who holds the guard's id may fill")
	}
}

func TestAnInvalidationEndsSharing(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{})
	s := newSlowLoad()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = c.Get(t.Context(), "k", s.load) })
	<-s.entered
	require.NoError(t, client.Unlink(t.Context(), "k", cache.GuardKey("k")).Err())
	got, err := c.Get(t.Context(), "k", func(context.Context) (string, error) { return "new", nil })
	require.NoError(t, err)
	require.Equal(t, "new", got, "a load from before the invalidation is not shared")
	close(s.release)
	wg.Wait()
	require.Equal(t, `"new"`, client.Get(t.Context(), "k").Val())
}

func TestFollowersOutliveACancelledLeader(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{})
	s := newSlowLoad()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.Get(ctx, "k", s.load)
		require.ErrorIs(t, err, context.Canceled)
	})
	<-s.entered
	for range 20 {
		wg.Go(func() {
			got, err := c.Get(t.Context(), "k", s.load)
			require.NoError(t, err)
			require.Equal(t, "loaded", got)
		})
	}
	eventually(t, func() bool { return c.Stats().Waits == 20 }, "not all wait")
	cancel()
	<-s.entered
	close(s.release)
	wg.Wait()
	require.EqualValues(t, 2, s.calls.Load())
}

func TestACancelledFollowerLeavesAtOnce(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	require.NoError(t, client.Set(t.Context(), cache.GuardKey("k"), "of another", time.Hour).Err())
	c := open[string](t, client, cache.Options{Wait: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := c.Get(ctx, "k", func(context.Context) (string, error) { return "", nil })
		done <- err
	}()
	eventually(t, func() bool { return c.Stats().Waits == 1 }, "does not wait")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestWithoutRightsToTheChannelReadersLoadThemselves(t *testing.T) {
	server := testkit.Redis(t)
	admin := server.Client(t)
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">secret", "resetchannels", "~*",
		"-@all", "+get", "+set", "+del", "+unlink", "+pttl", "+exists", "+eval", "+evalsha", "+ping", "+hello", "+publish").Err())
	client := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "app", Password: "secret", ContextTimeoutEnabled: true, DisableIdentity: true})
	defer client.Close()
	a, b := open[string](t, client, cache.Options{GuardTTL: time.Hour}), open[string](t, client, cache.Options{GuardTTL: time.Hour})
	s := newSlowLoad()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = a.Get(t.Context(), "k", s.load) })
	<-s.entered
	got, err := b.Get(t.Context(), "k", func(context.Context) (string, error) { return "own", nil })
	require.NoError(t, err)
	require.Equal(t, "own", got)
	close(s.release)
	wg.Wait()
	require.EqualValues(t, 2, a.Stats().Filled+b.Stats().Filled+a.Stats().Refused)
}
