package cache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// everyForm runs one contract against each form of Redis.
func everyForm(t *testing.T, contract func(t *testing.T, client redis.UniversalClient)) {
	t.Run("single", func(t *testing.T) { contract(t, testkit.Redis(t).Client(t)) })
	t.Run("cluster", func(t *testing.T) { contract(t, clusterClient(t, testkit.RedisCluster(t))) })
	t.Run("sentinel", func(t *testing.T) {
		s := testkit.RedisSentinel(t)
		client := redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: s.Name, SentinelAddrs: []string{s.Watcher.Addr}, ContextTimeoutEnabled: true,
		})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		contract(t, client)
	})
}

func clusterClient(t testing.TB, nodes []*testkit.RedisServer) *redis.ClusterClient {
	opt := &redis.ClusterOptions{ContextTimeoutEnabled: true}
	for _, node := range nodes {
		opt.Addrs = append(opt.Addrs, node.Addr)
	}
	client := redis.NewClusterClient(opt)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// open makes a cache that is closed with the test.
func open[T any](t testing.TB, client redis.UniversalClient, opt cache.Options, options ...cache.Option) *cache.Cache[T] {
	t.Helper()
	if opt.TTL == 0 {
		opt.TTL = time.Minute
	}
	c, err := cache.New[T](client, opt, options...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// loads is a loader that says how often it was called.
type loads[T any] struct {
	calls int
	value T
	err   error
}

func (l *loads[T]) load(context.Context) (T, error) {
	l.calls++
	return l.value, l.err
}

// eventually waits until check returns true.
func eventually(t testing.TB, check func() bool, format string, args ...any) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		if check() {
			return nil
		}
		return fmt.Errorf(format, args...)
	})
}
