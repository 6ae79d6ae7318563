package cache

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/pkg/events"
)

// Scope returns the name of a scope as rules.yaml writes it: "tenant:{tenant}:name", with the tenant escaped.
func Scope(tenant, name string) string {
	return string(append(events.AppendKeyPart([]byte("tenant:"), tenant), ":"+name...))
}

// GenerationKey returns where in Redis the generation of a scope is. To delete it is to bump the scope.
func GenerationKey(scope string) string { return scope + generationSuffix }

const generationSuffix = ":walfence-generation"

// Scopes makes the names of keys that can be invalidated together. It is safe for concurrent use.
type Scopes struct {
	redis *outlet
	ttl   time.Duration
	local *local[string]
	stats counters
}

// ScopesOptions configure [Scopes].
type ScopesOptions struct {
	// TTL is how long a generation lives that nobody reads; it must be longer than the TTL of any key in a scope, or such keys
	// are forgotten early. Zero means a day.
	TTL time.Duration
	// Timeout bounds each call to Redis. Zero means [DefaultTimeout].
	Timeout time.Duration
	// LocalSize and LocalTTL are as in [Options].
	LocalSize int
	LocalTTL  time.Duration
}

// NewScopes returns scopes on the client that the keys' caches are on. Of the options only [WithFeed] means anything: with
// it, a generation is read once and then kept in step.
func NewScopes(client redis.UniversalClient, opt ScopesOptions, options ...Option) (*Scopes, error) {
	orDefault(&opt.TTL, 24*time.Hour)
	orDefault(&opt.Timeout, DefaultTimeout)
	orDefault(&opt.LocalSize, DefaultLocalSize)
	orDefault(&opt.LocalTTL, DefaultLocalTTL)
	s := &Scopes{ttl: opt.TTL}
	var err error
	if s.redis, err = newOutlet(client, opt.Timeout, &s.stats); err != nil {
		return nil, fmt.Errorf("make scopes: %w", err)
	}
	var a attached
	for _, option := range options {
		option(&a)
	}
	if a.feed != nil {
		s.local = newLocal[string](a.feed, opt.LocalSize, opt.LocalTTL)
	}
	return s, nil
}

// Close leaves the feed.
func (s *Scopes) Close() {
	if s.local != nil {
		s.local.close()
	}
}

// generationScript returns the generation, which is new if there is none, and lets it live on. KEYS: generation. ARGV: new
// id, lifetime in ms.
var generationScript = redis.NewScript(`
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return ARGV[1] end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('GET', KEYS[1])
`)

// Key returns the name that a key has at present in a scope: "<scope>:<generation>:<name>". Ask for it before each read: once
// the scope was bumped, the name is another one. The error is that of Redis.
func (s *Scopes) Key(ctx context.Context, scope, name string) (string, error) {
	generation, err := s.generation(ctx, GenerationKey(scope))
	if err != nil {
		return "", fmt.Errorf("read generation: %w", err)
	}
	return scope + ":" + generation + ":" + name, nil
}

func (s *Scopes) generation(ctx context.Context, key string) (generation string, err error) {
	var seen sight
	if s.local != nil {
		if e := s.local.get(key); e != nil {
			return e.value, nil
		}
		seen = s.local.see(key)
	}
	err = s.redis.call(ctx, key, func(ctx context.Context) error {
		generation, err = generationScript.Run(ctx, s.redis.client, []string{key}, rand.Text(), s.ttl.Milliseconds()).Text()
		return err
	})
	if err == nil && s.local != nil {
		s.local.put(key, seen, entry[string]{value: generation}, -1)
	}
	return generation, err
}
