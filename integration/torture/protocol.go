package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// protocol is a way of keeping a cache in step. Values are versions.
type protocol interface {
	// get reads a key; where it is missing, it loads and fills, and reports whether it filled.
	get(ctx context.Context, key string, src *source) (filled bool, err error)
	// invalidate is told of a committed change as soon as PostgreSQL streams it, and queues what is to be done; pkg/cache has
	// its own programs for that.
	invalidate(ctx context.Context, pipe redis.Pipeliner, key string, lsn uint64)
	// settle waits for what is still to be done.
	settle()
	close()
}

// valueTTL is longer than any round: a value that is wrong stays wrong.
const valueTTL = time.Hour

// deletion is SET and DEL: cache-aside as everybody writes it first.
type deletion struct{ client *redis.Client }

func (p *deletion) get(ctx context.Context, key string, src *source) (bool, error) {
	if hit, err := exists(ctx, p.client, key); hit || err != nil {
		return false, err
	}
	ver, err := src.load(ctx)
	if err != nil {
		return false, err
	}
	return true, p.client.Set(ctx, key, ver, valueTTL).Err()
}

func (*deletion) invalidate(ctx context.Context, pipe redis.Pipeliner, key string, _ uint64) {
	pipe.Unlink(ctx, key)
}

func (*deletion) settle() {}
func (*deletion) close()  {}

func exists(ctx context.Context, client *redis.Client, key string) (bool, error) {
	n, err := client.Exists(ctx, key).Result()
	return n > 0, err
}

// doubleDeletion deletes again later, to catch fills that were late.
type doubleDeletion struct {
	deletion
	after   time.Duration
	pending sync.WaitGroup
}

func (p *doubleDeletion) invalidate(ctx context.Context, pipe redis.Pipeliner, key string, _ uint64) {
	pipe.Unlink(ctx, key)
	p.pending.Add(1)
	time.AfterFunc(p.after, func() {
		defer p.pending.Done()
		_ = p.client.Unlink(context.WithoutCancel(ctx), key).Err() // Redis is up, or the comparison fails too
	})
}

func (p *doubleDeletion) settle() { p.pending.Wait() }

// lease is what memcached at Facebook made known: a fill needs the lease that its miss was given, and an invalidation takes
// it away. It is the guard without the gate.
type lease struct{ client *redis.Client }

var leaseFill = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', 3600)
redis.call('DEL', KEYS[2])
return 1`)

func (p *lease) get(ctx context.Context, key string, src *source) (bool, error) {
	if hit, err := exists(ctx, p.client, key); hit || err != nil {
		return false, err
	}
	id := rand.Text()
	if err := p.client.SetArgs(ctx, key+":lease", id, redis.SetArgs{Mode: "NX", TTL: 10 * time.Second}).Err(); err != nil {
		if err == redis.Nil {
			err = nil // another has it
		}
		return false, err
	}
	ver, err := src.load(ctx)
	if err != nil {
		return false, err
	}
	return leaseFill.Run(ctx, p.client, []string{key, key + ":lease"}, id, ver).Bool()
}

func (*lease) invalidate(ctx context.Context, pipe redis.Pipeliner, key string, _ uint64) {
	pipe.Unlink(ctx, key, key+":lease")
}

func (*lease) settle() {}
func (*lease) close()  {}

// fence lets a fill in if the server's LSN, read before the row, had passed every commit that the key was told of.
type fence struct{ client *redis.Client }

var (
	fenceFill = redis.NewScript(`
local told = redis.call('GET', KEYS[2])
if told and told > ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', 3600)
return 1`)
	fenceRaise = redis.NewScript(`
local told = redis.call('GET', KEYS[2])
if not told or told < ARGV[1] then redis.call('SET', KEYS[2], ARGV[1]) end
return redis.call('DEL', KEYS[1])`)
)

func (p *fence) get(ctx context.Context, key string, src *source) (bool, error) {
	if hit, err := exists(ctx, p.client, key); hit || err != nil {
		return false, err
	}
	lsn, err := src.position(ctx)
	if err != nil {
		return false, err
	}
	ver, err := src.load(ctx)
	if err != nil {
		return false, err
	}
	return fenceFill.Run(ctx, p.client, []string{key, key + ":fence"}, hex(lsn), ver).Bool()
}

func (*fence) invalidate(ctx context.Context, pipe redis.Pipeliner, key string, lsn uint64) {
	fenceRaise.Eval(ctx, pipe, []string{key, key + ":fence"}, hex(lsn))
}

func (*fence) settle() {}
func (*fence) close()  {}

// hex makes LSNs compare as text.
func hex(lsn uint64) string { return fmt.Sprintf("%016x", lsn) }

// parseVersion reads a stored value of any protocol.
func parseVersion(text string) (int64, error) { return strconv.ParseInt(text, 10, 64) }
