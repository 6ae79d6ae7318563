package cache

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// pipeline runs a script n times in one round trip, or one per server of a Cluster; where servers do not know the script yet,
// in two. Each result has its own error.
func pipeline(ctx context.Context, client redis.UniversalClient, script *redis.Script, n int, call func(i int) (keys []string, args []any)) []*redis.Cmd {
	results := make([]*redis.Cmd, n)
	pipe := client.Pipeline()
	for i := range results {
		keys, args := call(i)
		results[i] = script.EvalSha(ctx, pipe, keys, args...)
	}
	_, _ = pipe.Exec(ctx) // each result has its error
	var unknown []int
	for i, r := range results {
		if redis.HasErrorPrefix(r.Err(), "NOSCRIPT") {
			unknown = append(unknown, i)
		}
	}
	if len(unknown) == 0 {
		return results
	}
	pipe = client.Pipeline()
	for _, i := range unknown {
		keys, args := call(i)
		results[i] = script.Eval(ctx, pipe, keys, args...)
	}
	_, _ = pipe.Exec(ctx)
	return results
}
