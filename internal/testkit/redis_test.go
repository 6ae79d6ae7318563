package testkit

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestRedisForgetsByDefaultAndKeepsItsAddress(t *testing.T) {
	r := Redis(t)
	c := r.Client(t)
	require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
	addr := r.Addr
	require.NoError(t, r.Restart())
	require.Equal(t, addr, r.Addr)
	require.ErrorIs(t, c.Get(t.Context(), "k").Err(), redis.Nil)
}

func TestRedisKeepsItsFilesOverKill(t *testing.T) {
	r := Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	c := r.Client(t)
	require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, r.Kill())
	require.Error(t, c.Ping(t.Context()).Err())
	require.NoError(t, r.Start())
	require.Equal(t, "v", c.Get(t.Context(), "k").Val())
}

func TestRedisTakesArgumentsAndASocket(t *testing.T) {
	r := Redis(t, "--requirepass", "secret")
	require.ErrorContains(t, r.Client(t).Ping(t.Context()).Err(), "NOAUTH")
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: r.Socket, Password: "secret"})
	defer c.Close()
	require.NoError(t, c.Ping(t.Context()).Err())
}

func TestRedisClusterServesAllSlots(t *testing.T) {
	nodes := RedisCluster(t)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].Addr}})
	defer c.Close()
	for i := range 50 {
		require.NoError(t, c.Set(t.Context(), fmt.Sprint("key", i), i, 0).Err())
	}
	for _, node := range nodes {
		require.NotZero(t, node.Client(t).DBSize(t.Context()).Val())
	}
}

func TestSentinelFailsOver(t *testing.T) {
	s := RedisSentinel(t)
	before, err := s.Primary()
	require.NoError(t, err)
	require.Equal(t, s.Servers[0].Addr, before)
	require.NoError(t, s.Servers[0].Kill())
	Eventually(t, 30*time.Second, func() error {
		if now, err := s.Primary(); err != nil || now != s.Servers[1].Addr {
			return fmt.Errorf("primary is %s: %w", now, err)
		}
		return s.Servers[1].Client(t).Set(t.Context(), "k", "v", 0).Err()
	})
}
