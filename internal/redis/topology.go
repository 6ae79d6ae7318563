package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// clusterSlots is into how many slots a Cluster divides its keys.
const clusterSlots = 16384

// topology is which primaries there are and what they hold. A cursor means something only while it stays the same.
type topology struct {
	primaries   []*redis.Client
	fingerprint string
	moving      bool // slots are on the move between primaries
}

func (c *Client) topology(ctx context.Context) (topology, error) {
	if c.cluster == nil {
		return topology{primaries: []*redis.Client{c.rdb.(*redis.Client)}}, nil
	}
	var (
		mu    sync.Mutex
		t     topology
		lines []string
	)
	err := c.cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		nodes, err := node.ClusterNodes(ctx).Result()
		if err != nil {
			return err
		}
		line, err := myself(nodes)
		mu.Lock()
		defer mu.Unlock()
		t.primaries, lines = append(t.primaries, node), append(lines, line)
		return err
	})
	if err != nil {
		return topology{}, fmt.Errorf("read topology: %w", err)
	}
	slices.Sort(lines)
	t.fingerprint = strings.Join(lines, "\n")
	t.moving = strings.Contains(t.fingerprint, "[")
	if n := slotsIn(t.fingerprint); n != clusterSlots {
		return topology{}, fmt.Errorf("read topology: primaries hold %d of %d slots", n, clusterSlots)
	}
	return t, nil
}

// slotsIn counts the slots that primaries say they hold. A replica that was a primary a moment ago holds none, and a
// primary that the driver has not heard of is missing in the sum.
func slotsIn(fingerprint string) int {
	n := 0
	for line := range strings.Lines(fingerprint) {
		for _, field := range strings.Fields(line)[2:] {
			first, last, isRange := strings.Cut(field, "-")
			a, err1 := strconv.Atoi(first)
			b, err2 := strconv.Atoi(last)
			switch {
			case err1 == nil && !isRange:
				n++
			case err1 == nil && err2 == nil:
				n += b - a + 1
			}
		}
	}
	return n
}

// myself returns who a node says it is and which slots it holds, sends or receives: only itself knows the latter two.
func myself(nodes string) (string, error) {
	for line := range strings.Lines(nodes) {
		f := strings.Fields(line)
		if len(f) >= 8 && strings.Contains(f[2], "myself") {
			return strings.Join(append([]string{f[0], f[2]}, f[8:]...), " "), nil
		}
	}
	return "", errors.New("no line about itself in a node's CLUSTER NODES")
}

// identity tells one life of one server from another, and a primary from a replica, in what INFO said.
func identity(info ...*redis.StringCmd) string {
	var id []string
	for _, cmd := range info {
		for line := range strings.SplitSeq(cmd.Val(), "\r\n") {
			name, value, _ := strings.Cut(line, ":")
			if name == "run_id" || name == "role" || name == "master_replid" {
				id = append(id, value)
			}
		}
	}
	return strings.Join(id, " ")
}
