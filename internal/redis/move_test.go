package redis_test

import (
	"net"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

// move is a slot on its way from one primary to another.
type move struct {
	slot     int64
	from, to *goredis.Client
	toID     string
}

// moveSlot begins to move the slot of key.
func moveSlot(t *testing.T, s server, nodes []*testkit.RedisServer, key string) move {
	t.Helper()
	slot, err := s.plain.ClusterKeySlot(t.Context(), key).Result()
	require.NoError(t, err)
	m := move{slot: slot}
	holder := int(slot) * len(nodes) / 16384
	m.from = nodes[holder].Client(t)
	m.to = nodes[(holder+1)%len(nodes)].Client(t)
	m.toID = m.id(t, m.to)
	fromID := m.id(t, m.from)
	require.NoError(t, m.to.Do(t.Context(), "cluster", "setslot", slot, "importing", fromID).Err())
	require.NoError(t, m.from.Do(t.Context(), "cluster", "setslot", slot, "migrating", m.toID).Err())
	return m
}

func (m move) id(t *testing.T, c *goredis.Client) string {
	t.Helper()
	id, err := c.Do(t.Context(), "cluster", "myid").Text()
	require.NoError(t, err)
	return id
}

// migrate moves keys of the slot.
func (m move) migrate(t *testing.T, keys ...string) {
	t.Helper()
	host, port, err := net.SplitHostPort(m.to.Options().Addr)
	require.NoError(t, err)
	args := []any{"migrate", host, port, "", 0, 5000, "keys"}
	for _, key := range keys {
		args = append(args, key)
	}
	require.NoError(t, m.from.Do(t.Context(), args...).Err())
}

// finish hands the slot over.
func (m move) finish(t *testing.T) {
	t.Helper()
	for _, c := range []*goredis.Client{m.to, m.from} {
		require.NoError(t, c.Do(t.Context(), "cluster", "setslot", m.slot, "node", m.toID).Err())
	}
}
