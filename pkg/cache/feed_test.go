package cache_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

// stage is a feed with Redis and NATS, where the test is the invalidator.
type stage struct {
	redis  *redis.Client
	server *testkit.NATSServer
	js     jetstream.JetStream
	feed   *cache.Feed
	epoch  uint64
}

func newStage(t testing.TB, opt cache.FeedOptions) *stage {
	s := &stage{redis: testkit.Redis(t).Client(t), server: testkit.NATS(t), epoch: 1}
	s.js = s.server.JetStream(t)
	_, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "INVALIDATIONS", Subjects: []string{"invalidations.>"}})
	require.NoError(t, err)
	opt.Cache = "main"
	s.feed, err = cache.OpenFeed(s.server.Conn(t), opt)
	require.NoError(t, err)
	t.Cleanup(s.feed.Close)
	s.awaitLive(t)
	return s
}

func (s *stage) awaitLive(t testing.TB) {
	eventually(t, func() bool { live, _ := s.feed.Live(); return live }, "feed is not live")
}

func openFeed(t testing.TB) (*cache.Feed, *redis.Client) {
	s := newStage(t, cache.FeedOptions{})
	return s.feed, s.redis
}

// tell publishes what an invalidator would.
func (s *stage) tell(t testing.TB, i events.Invalidation) {
	i.Version, i.Source, i.Cache, i.Epoch = events.Version, "shop", "main", s.epoch
	body, err := json.Marshal(i)
	require.NoError(t, err)
	_, err = s.js.Publish(t.Context(), events.InvalidationSubject("main", i.Tenant), body)
	require.NoError(t, err)
}

// invalidate removes from Redis first and tells then.
func (s *stage) invalidate(t testing.TB, key string) {
	require.NoError(t, s.redis.Unlink(t.Context(), key, cache.GuardKey(key)).Err())
	s.tell(t, events.Invalidation{Tenant: "7", Keys: []string{key}})
}

// get reads, and returns how often the cache has hit locally by then.
func get(t testing.TB, c *cache.Cache[string], key, loaded string) (string, uint64) {
	got, err := c.Get(t.Context(), key, func(context.Context) (string, error) { return loaded, nil })
	require.NoError(t, err)
	return got, c.Stats().LocalHits
}

func TestLocalHitsNeedNothingElse(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	c := open[string](t, s.redis, cache.Options{}, cache.WithFeed(s.feed))
	get(t, c, "k", "v")
	require.NoError(t, s.redis.FlushAll(t.Context()).Err())
	got, hits := get(t, c, "k", "other")
	require.Equal(t, "v", got)
	require.EqualValues(t, 1, hits)
}

func TestAnInvalidationRemovesWhatIsLocal(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	tests := map[string]events.Invalidation{
		"key":     {Keys: []string{"tenant:7:user:1"}},
		"pattern": {Patterns: []events.Pattern{{"tenant:7:user:", ""}}},
		"all":     {All: true},
	}
	for name, told := range tests {
		t.Run(name, func(t *testing.T) {
			c := open[string](t, s.redis, cache.Options{}, cache.WithFeed(s.feed))
			require.NoError(t, s.redis.FlushAll(t.Context()).Err())
			get(t, c, "tenant:7:user:1", "old")
			get(t, c, "tenant:8:user:1", "other")
			require.NoError(t, s.redis.Unlink(t.Context(), "tenant:7:user:1").Err())
			s.tell(t, told)
			eventually(t, func() bool { got, _ := get(t, c, "tenant:7:user:1", "new"); return got == "new" }, "still old")
			_, before := get(t, c, "tenant:8:user:1", "other")
			if name != "all" {
				_, after := get(t, c, "tenant:8:user:1", "other")
				require.Equal(t, before+1, after, "what is not meant stays")
			}
		})
	}
}

func TestALoadUnderWayWhenItsKeyIsInvalidatedIsNotKept(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	for _, told := range []events.Invalidation{
		{Keys: []string{"k"}}, {Patterns: []events.Pattern{{"k"}}}, {All: true},
	} {
		c := open[string](t, s.redis, cache.Options{}, cache.WithFeed(s.feed))
		other := open[string](t, s.redis, cache.Options{}, cache.WithFeed(s.feed))
		require.NoError(t, s.redis.FlushAll(t.Context()).Err())
		// the guard stays, so that only the local cache is in question
		got, err := c.Get(t.Context(), "k", func(context.Context) (string, error) {
			get(t, other, "probe", "v")
			s.tell(t, told)
			s.tell(t, events.Invalidation{Keys: []string{"probe"}})
			eventually(t, func() bool {
				before := other.Stats().LocalHits
				_, after := get(t, other, "probe", "v")
				return after == before
			}, "not told")
			return "old", nil
		})
		require.NoError(t, err)
		require.Equal(t, "old", got)
		_, hits := get(t, c, "k", "")
		require.Zero(t, hits)
	}
}

func TestWhatWasReadFromRedisBeforeAnInvalidationIsNotKept(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	c := open[string](t, s.redis, cache.Options{Timeout: patience}, cache.WithFeed(s.feed))
	require.NoError(t, s.redis.Set(t.Context(), "k", `"old"`, time.Minute).Err())
	require.NoError(t, s.redis.Do(t.Context(), "CLIENT", "PAUSE", "500", "ALL").Err())
	done := make(chan string)
	go func() { // its question waits in Redis' queue
		got, _ := c.Get(t.Context(), "k", func(context.Context) (string, error) { return "", nil })
		done <- got
	}()
	s.tell(t, events.Invalidation{Keys: []string{"k"}})
	require.Equal(t, "old", <-done)
	_, hits := get(t, c, "k", "")
	require.Zero(t, hits)
}

func TestARepeatedInvalidationDoesNoHarm(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	c := open[string](t, s.redis, cache.Options{}, cache.WithFeed(s.feed))
	get(t, c, "k", "v")
	for range 3 {
		s.invalidate(t, "k")
	}
	eventually(t, func() bool { got, _ := get(t, c, "k", "new"); return got == "new" }, "still old")
	eventually(t, func() bool { _, a := get(t, c, "k", ""); _, b := get(t, c, "k", ""); return b == a+1 }, "no local hits any more")
}

func TestAnEpochDropsEverything(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	c := open[string](t, s.redis, cache.Options{}, cache.WithFeed(s.feed))
	s.tell(t, events.Invalidation{Keys: []string{"x"}})
	get(t, c, "k", "old")
	require.NoError(t, s.redis.FlushAll(t.Context()).Err())
	s.epoch = 2
	s.tell(t, events.Invalidation{Keys: []string{"y"}})
	eventually(t, func() bool { got, _ := get(t, c, "k", "new"); return got == "new" }, "still old")
}

func TestWhileTheFeedIsAwayNothingIsLocal(t *testing.T) {
	s := newStage(t, cache.FeedOptions{MaxStale: 300 * time.Millisecond})
	c := open[string](t, s.redis, cache.Options{}, cache.WithFeed(s.feed))
	get(t, c, "k", "old")
	s.server.Stop()
	require.NoError(t, s.redis.FlushAll(t.Context()).Err())
	eventually(t, func() bool { got, _ := get(t, c, "k", "new"); return got == "new" }, "still old")
	_, before := get(t, c, "k", "")
	_, after := get(t, c, "k", "")
	require.Equal(t, before, after)
	require.NoError(t, s.server.Start())
	s.awaitLive(t)
	require.NoError(t, s.redis.FlushAll(t.Context()).Err())
	got, _ := get(t, c, "k", "newer")
	require.Equal(t, "newer", got, "what was local before is gone")
}

func TestLocalEntriesEnd(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	c := open[string](t, s.redis, cache.Options{LocalTTL: 100 * time.Millisecond}, cache.WithFeed(s.feed))
	get(t, c, "k", "old")
	require.NoError(t, s.redis.FlushAll(t.Context()).Err())
	eventually(t, func() bool { got, _ := get(t, c, "k", "new"); return got == "new" }, "still old")
}

func TestInvalidateRemovesWhatIsLocal(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	c := open[string](t, s.redis, cache.Options{}, cache.WithFeed(s.feed))
	get(t, c, "k", "old")
	require.NoError(t, c.Invalidate(t.Context(), "k"))
	got, _ := get(t, c, "k", "new")
	require.Equal(t, "new", got)
}

func TestNotFoundIsLocalToo(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	c := open[string](t, s.redis, cache.Options{}, cache.WithFeed(s.feed))
	l := loads[string]{err: cache.ErrNotFound}
	for range 3 {
		_, err := c.Get(t.Context(), "k", l.load)
		require.ErrorIs(t, err, cache.ErrNotFound)
	}
	require.EqualValues(t, 2, c.Stats().LocalHits)
	require.Equal(t, 1, l.calls)
}

func TestGetManyKeepsAndFindsLocally(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	c := open[string](t, s.redis, cache.Options{}, cache.WithFeed(s.feed))
	load := func(_ context.Context, keys []string) (map[string]string, error) {
		return map[string]string{"a": "1", "b": "2"}, nil
	}
	for range 2 {
		got, err := c.GetMany(t.Context(), []string{"a", "b", "none"}, load)
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "1", "b": "2"}, got)
	}
	require.EqualValues(t, 3, c.Stats().LocalHits)
}
