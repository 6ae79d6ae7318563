package cache

import (
	"errors"
	"time"
)

// What a zero in [Options] stands for.
const (
	// DefaultGuardTTL is how long a guard stands that nobody fills or invalidates.
	DefaultGuardTTL = 10 * time.Second
	// DefaultJitter is by how much a lifetime is shortened at most.
	DefaultJitter = 0.1
	// DefaultNotFoundTTL is how long it is remembered that there is no value.
	DefaultNotFoundTTL = 10 * time.Second
	// DefaultTimeout bounds one call to Redis.
	DefaultTimeout = 500 * time.Millisecond
	// DefaultLoadTimeout bounds one call of a loader.
	DefaultLoadTimeout = 30 * time.Second
	// DefaultLoads is how many loads of one cache run at once.
	DefaultLoads = 64
	// DefaultOutageLoads is how many loads run at once while Redis does not answer.
	DefaultOutageLoads = 8
	// DefaultLocalSize is how many values a process keeps in its own memory.
	DefaultLocalSize = 10_000
	// DefaultLocalTTL is how long a process keeps a value in its own memory.
	DefaultLocalTTL = time.Minute
)

// Options configure a [Cache]. Only TTL must be set.
type Options struct {
	// Name stands in metrics and traces. It need not be unique.
	Name string

	// TTL is how long a value stays unless an invalidation removes it earlier. At least a millisecond.
	TTL time.Duration
	// Jitter shortens each lifetime at random by up to this fraction, so that values that were stored together do not
	// expire together. Zero means [DefaultJitter], negative none; less than 1.
	Jitter float64
	// NotFoundTTL is how long it is remembered that a loader returned [ErrNotFound]. Zero means [DefaultNotFoundTTL], or
	// TTL if that is shorter; negative means not at all.
	NotFoundTTL time.Duration
	// GuardTTL is how long a load may take: a fill that comes later is refused, and a process that died while it loaded is
	// replaced. Zero means [DefaultGuardTTL].
	GuardTTL time.Duration

	// RefreshBefore is how long before its end a value that is read is loaded again in the background.
	RefreshBefore time.Duration
	// Stale is how long after its TTL a value is still served, while one reader loads it again in the background. An
	// invalidation removes a value for good: what is served stale is only old, never known to be wrong.
	Stale time.Duration
	// StaleOnError is how long after its TTL a value is still served if it cannot be loaded.
	StaleOnError time.Duration

	// Wait is how long a reader that missed waits for another process that loads the same key, before it loads too.
	// Zero means GuardTTL; negative means not at all.
	Wait time.Duration
	// Timeout bounds each call to Redis. Zero means [DefaultTimeout].
	Timeout time.Duration
	// LoadTimeout bounds each call of a loader, through its context. Zero means [DefaultLoadTimeout].
	LoadTimeout time.Duration
	// Loads is how many loads run at once; more wait. Zero means [DefaultLoads]. [WithLimiter] shares it among caches.
	Loads int
	// OutageLoads is how many reads may go to their loader at once while Redis does not answer, without a fill; more fail
	// with [ErrUnavailable]. Zero means [DefaultOutageLoads], negative means none.
	OutageLoads int

	// CompressAbove is from how many bytes on a value is compressed. Zero means never.
	CompressAbove int

	// LocalSize is how many values are kept in the process's own memory where there is a [Feed].
	// Zero means [DefaultLocalSize].
	LocalSize int
	// LocalTTL is how long they are kept at most. Zero means [DefaultLocalTTL].
	LocalTTL time.Duration

	// Source is the name in rules.yaml of the database that loaders read. Only the replica rule needs it.
	Source string
	// Replica says that loaders read from a replica: a value is then stored only if its loader has shown, through
	// [OnReplica] or [Miss.Prove], that the replica was far enough.
	Replica bool
}

// An Option attaches to a [Cache] what it shares with others, or does differently from them.
type Option func(*attached)

// attached is what Options attach.
type attached struct {
	codec   Codec
	keyring *Keyring
	limiter *Limiter
	feed    *Feed
	tracer  Tracer
}

// WithCodec replaces JSON. All processes that share a key must use the same codec for it.
func WithCodec(codec Codec) Option { return func(a *attached) { a.codec = codec } }

// WithKeyring encrypts values. What is found unencrypted is loaded again.
func WithKeyring(keyring *Keyring) Option { return func(a *attached) { a.keyring = keyring } }

// WithLimiter shares a limit on concurrent loads, as of one database, among caches. Options.Loads is then not used.
func WithLimiter(limiter *Limiter) Option { return func(a *attached) { a.limiter = limiter } }

// WithFeed keeps values in the process's own memory as long as the feed tells what to remove.
func WithFeed(feed *Feed) Option { return func(a *attached) { a.feed = feed } }

// WithTracer traces what takes time: reads that are no local hits, loads, waits, fills.
func WithTracer(tracer Tracer) Option { return func(a *attached) { a.tracer = tracer } }

// complete checks options and sets what stands for zero.
func (o *Options) complete() error {
	orDefault(&o.GuardTTL, DefaultGuardTTL)
	orDefault(&o.NotFoundTTL, min(DefaultNotFoundTTL, o.TTL))
	orDefault(&o.Wait, o.GuardTTL)
	orDefault(&o.Timeout, DefaultTimeout)
	orDefault(&o.LoadTimeout, DefaultLoadTimeout)
	orDefault(&o.LocalTTL, DefaultLocalTTL)
	orDefault(&o.Jitter, DefaultJitter)
	orDefault(&o.Loads, DefaultLoads)
	orDefault(&o.OutageLoads, DefaultOutageLoads)
	orDefault(&o.LocalSize, DefaultLocalSize)
	switch {
	case o.TTL < time.Millisecond || o.GuardTTL < time.Millisecond:
		return errors.New("make cache: TTL and GuardTTL must be at least a millisecond")
	case o.Jitter >= 1:
		return errors.New("make cache: Jitter must be less than 1")
	case o.Timeout < 0 || o.LoadTimeout < 0 || o.Loads < 0 || o.LocalSize < 0 || o.LocalTTL < 0 ||
		o.RefreshBefore < 0 || o.Stale < 0 || o.StaleOnError < 0:
		return errors.New("make cache: a size or duration is negative")
	case o.Replica && o.Source == "":
		return errors.New("make cache: Replica needs Source")
	}
	return nil
}

func orDefault[N int | float64 | time.Duration](value *N, byDefault N) {
	if *value == 0 {
		*value = byDefault
	}
}

// grace is how much longer than its TTL a value stays in Redis.
func (o *Options) grace() time.Duration { return max(o.Stale, o.StaleOnError) }
