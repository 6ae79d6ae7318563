package redis

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/pkg/cache"
)

const (
	// commandKeys is how many keys, each with its guard, one UNLINK names: Redis serves nobody else for its duration.
	commandKeys = 128
	// pipelineKeys is how many keys one round trip removes.
	pipelineKeys = 2048
)

// removal is the memory of one round trip, used again and again.
type removal struct {
	arena  []byte   // all guards, one after another
	ends   []int    // of the guards in arena
	guards []string // by key
	args   []any    // of all commands
	cmds   []*redis.IntCmd
}

// Remove deletes keys together with their guards, and returns nil once Redis has answered for all of them. After an error
// some may be deleted. Every key must pass [cache.CheckKey].
func (c *Client) Remove(ctx context.Context, keys []string) error {
	r := c.scratch.Get().(*removal)
	defer c.scratch.Put(r)
	for len(keys) > 0 {
		n := min(len(keys), pipelineKeys)
		r.name(keys[:n])
		var err error
		if c.cluster != nil {
			err = r.perKey(ctx, c.cluster, keys[:n])
		} else {
			err = r.together(ctx, c.rdb, keys[:n])
		}
		if err != nil {
			return fmt.Errorf("remove keys: %w", err)
		}
		keys = keys[n:]
	}
	return nil
}

// name sets the guards of keys, all in one allocation.
func (r *removal) name(keys []string) {
	r.arena, r.ends, r.guards, r.args, r.cmds = r.arena[:0], r.ends[:0], r.guards[:0], r.args[:0], r.cmds[:0]
	for _, key := range keys {
		r.arena = cache.AppendGuardKey(r.arena, key)
		r.ends = append(r.ends, len(r.arena))
	}
	all, from := string(r.arena), 0
	for _, end := range r.ends {
		r.guards = append(r.guards, all[from:end])
		from = end
	}
}

// unlink queues one command over the arguments from position from. They stand as pointers to strings, which the driver
// writes as they are, and which cost no allocation.
func (r *removal) unlink(ctx context.Context, pipe redis.Pipeliner, from int) {
	cmd := redis.NewIntCmd(ctx, r.args[from:len(r.args):len(r.args)]...)
	r.cmds = append(r.cmds, cmd)
	queue(ctx, pipe, cmd)
}

// once is a command whose batch the driver does not send again by itself. On Cluster it would: if the first command of a
// node's batch fails for the moment, all of the batch goes out again, those too that it is taking to another node just
// then. Two goroutines would write one command's answer, and a failure could pass for a success. Redirects are followed as
// ever, and all else is tried again by the caller.
type once struct{ *redis.IntCmd }

// NoRetry is what the driver asks.
func (once) NoRetry() bool { return true }

// queue adds a command to a pipeline; errors come from Exec.
func queue(ctx context.Context, pipe redis.Pipeliner, cmd *redis.IntCmd) {
	_ = pipe.Process(ctx, once{cmd})
}

// together removes many pairs with each command: keys of one server need not share a slot.
func (r *removal) together(ctx context.Context, rdb redis.UniversalClient, keys []string) error {
	pipe := rdb.Pipeline()
	from := 0
	for i := range keys {
		if i%commandKeys == 0 {
			if i > 0 {
				r.unlink(ctx, pipe, from)
			}
			from = len(r.args)
			r.args = append(r.args, "unlink")
		}
		r.args = append(r.args, &keys[i], &r.guards[i])
	}
	r.unlink(ctx, pipe, from)
	_, err := pipe.Exec(ctx)
	return err
}

// perKey removes each pair with a command of its own: a key and its guard share a slot, two keys need not.
func (r *removal) perKey(ctx context.Context, rdb *redis.ClusterClient, keys []string) error {
	pipe := rdb.Pipeline()
	for i := range keys {
		from := len(r.args)
		r.args = append(r.args, "unlink", &keys[i], &r.guards[i])
		r.unlink(ctx, pipe, from)
	}
	if _, err := pipe.Exec(ctx); err == nil {
		return nil
	}
	var split []int
	for i, cmd := range r.cmds {
		switch err := cmd.Err(); {
		case err == nil:
		case onTheMove(err):
			split = append(split, i)
		default:
			return err
		}
	}
	return r.guardsThenKeys(ctx, rdb, keys, split)
}

// onTheMove tells whether a pair's slot is moving. The driver follows ASK to where the slot is going, is told to TRYAGAIN if
// only half of the pair has arrived, and gives up with either.
func onTheMove(err error) bool {
	_, ask := redis.IsAskError(err)
	return ask || redis.IsTryAgainError(err)
}

// guardsThenKeys removes pairs of a slot that is on the move between two servers, where one may have the guard and the
// other the key. In this order: a fill that the guard still admits is over before its value is removed.
func (r *removal) guardsThenKeys(ctx context.Context, rdb *redis.ClusterClient, keys []string, which []int) error {
	for _, names := range [2][]string{r.guards, keys} {
		pipe := rdb.Pipeline()
		for _, i := range which {
			queue(ctx, pipe, redis.NewIntCmd(ctx, "unlink", names[i]))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}
