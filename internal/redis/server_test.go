package redis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is one form of Redis: the client under test, and a plain one to look with.
type server struct {
	url   string
	under *redis.Client
	plain goredis.UniversalClient
}

// everyForm runs one contract against each form of Redis.
func everyForm(t *testing.T, contract func(t *testing.T, s server)) {
	t.Run("single", func(t *testing.T) { contract(t, open(t, testkit.Redis(t).URL(0))) })
	t.Run("cluster", func(t *testing.T) { contract(t, openCluster(t, testkit.RedisCluster(t))) })
	t.Run("sentinel", func(t *testing.T) { contract(t, openSentinel(t, testkit.RedisSentinel(t))) })
}

func open(t *testing.T, url string) server {
	opt, err := goredis.ParseURL(url)
	require.NoError(t, err)
	opt.ContextTimeoutEnabled = true // pkg/cache wants it
	return opened(t, url, goredis.NewClient(opt))
}

func openCluster(t *testing.T, nodes []*testkit.RedisServer) server {
	var addrs []string
	for _, node := range nodes {
		addrs = append(addrs, node.Addr)
	}
	return opened(t, "redis-cluster://"+strings.Join(addrs, ","),
		goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true}))
}

func openSentinel(t *testing.T, s *testkit.Sentinel) server {
	return opened(t, fmt.Sprintf("redis-sentinel://%s/%s/0", s.Watcher.Addr, s.Name),
		goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: s.Name, SentinelAddrs: []string{s.Watcher.Addr}, ContextTimeoutEnabled: true,
		}))
}

func opened(t *testing.T, url string, plain goredis.UniversalClient) server {
	under, err := redis.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, under.Close())
		require.NoError(t, plain.Close())
	})
	return server{url: url, under: under, plain: plain}
}

// fill stores keys, each with its guard.
func (s server) fill(t *testing.T, keys ...string) {
	t.Helper()
	pipe := s.plain.Pipeline()
	for _, key := range keys {
		pipe.Set(t.Context(), key, "value", 0)
		pipe.Set(t.Context(), cache.GuardKey(key), "id", 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
}

// names returns every key there is, with guards.
func (s server) names(t *testing.T) []string {
	t.Helper()
	var names []string
	collect := func(ctx context.Context, node *goredis.Client) error {
		found, err := node.Keys(ctx, "*").Result()
		names = append(names, found...)
		return err
	}
	if c, ok := s.plain.(*goredis.ClusterClient); ok {
		for _, addr := range c.Options().Addrs {
			node := goredis.NewClient(&goredis.Options{Addr: addr})
			require.NoError(t, collect(t.Context(), node))
			require.NoError(t, node.Close())
		}
		return names
	}
	require.NoError(t, collect(t.Context(), s.plain.(*goredis.Client)))
	return names
}
