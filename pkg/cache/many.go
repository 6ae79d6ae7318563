package cache

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// LoadMany reads values from where they really are, like [Load]. A key that it leaves out has no value.
type LoadMany[T any] = func(ctx context.Context, keys []string) (map[string]T, error)

// chunk is how many keys one round trip of GetMany asks for, and one call of its loader gets: one answer should not keep
// Redis or a database from others for long.
const chunk = 500

// GetMany returns the values under keys: those in the process's own memory, then in one round trip (one per server of a
// Cluster, and one per 500 keys) those in Redis, and what is missing from one call of load, stored in one more. A key without a
// value is not in the result. Unlike Get it does not wait for others that load the same keys.
func (c *Cache[T]) GetMany(ctx context.Context, keys []string, load LoadMany[T]) (map[string]T, error) {
	values := make(map[string]T, len(keys))
	asked := make(map[string]bool, len(keys))
	m := many[T]{c: c, values: values, load: load}
	for _, key := range keys {
		if asked[key] {
			continue
		}
		asked[key] = true
		if err := CheckKey(key); err != nil {
			return nil, err
		}
		if c.local != nil {
			if e := c.local.get(key); e != nil {
				c.stats.localHits.add()
				m.found(key, e.entry)
				continue
			}
		}
		m.keys = append(m.keys, key)
	}
	for len(m.keys) > 0 {
		n := min(len(m.keys), chunk)
		if err := m.read(ctx, m.keys[:n]); err != nil {
			return nil, err
		}
		m.keys = m.keys[n:]
	}
	return values, nil
}

// Load warms the cache: it makes sure that keys are cached, and loads those that are not, in parts.
func (c *Cache[T]) Load(ctx context.Context, load LoadMany[T], keys ...string) error {
	_, err := c.GetMany(ctx, keys, load)
	return err
}

// many is one call of GetMany.
type many[T any] struct {
	c      *Cache[T]
	keys   []string
	values map[string]T
	load   LoadMany[T]
}

// missing is a key that is to be loaded.
type missing[T any] struct {
	flightKey
	leader bool
	seen   sight
	loaded entry[T]
}

// found takes what is known of a key.
func (m *many[T]) found(key string, e entry[T]) {
	if e.err == nil {
		m.values[key] = e.value
	}
}

func (m *many[T]) read(ctx context.Context, keys []string) error {
	seen := make([]sight, len(keys))
	for i, key := range keys {
		if m.c.local != nil {
			seen[i] = m.c.local.see(key)
		}
	}
	ids := make([]string, len(keys))
	answers, err := m.ask(ctx, keys, ids)
	if err != nil {
		return m.withoutRedis(ctx, keys, err)
	}
	var absent []missing[T]
	for i, key := range keys {
		f, err := understandResult(answers[i], ids[i])
		if err != nil {
			return m.withoutRedis(ctx, keys, err)
		}
		if !m.take(ctx, key, f, seen[i]) {
			absent = append(absent, missing[T]{flightKey: flightKey{key, f.guard}, leader: f.leader, seen: seen[i]})
		}
	}
	if len(absent) == 0 {
		return nil
	}
	return m.fill(ctx, absent)
}

// ask runs the miss script for all keys; without fills, a plain read.
func (m *many[T]) ask(ctx context.Context, keys, ids []string) (answers []*redis.Cmd, err error) {
	err = m.c.redis.call(ctx, keys[0], func(ctx context.Context) error {
		answers = pipeline(ctx, m.c.redis.client, missScript, len(keys), func(i int) ([]string, []any) {
			ids[i] = newGuard()
			return []string{keys[i], GuardKey(keys[i])}, []any{ids[i], m.c.opt.GuardTTL.Milliseconds()}
		})
		for _, a := range answers {
			if err := a.Err(); err != nil && outage(err) {
				return err
			}
		}
		return nil
	})
	return answers, err
}

func understandResult(cmd *redis.Cmd, id string) (found, error) {
	reply, err := cmd.Result()
	if err != nil {
		return found{}, err
	}
	return understand(reply, id)
}

// take takes a value that is there and can be served. What is stale is, while it is loaded again by whoever reads it alone.
func (m *many[T]) take(ctx context.Context, key string, f found, seen sight) bool {
	if !f.hit {
		m.c.stats.misses.Add(1)
		return false
	}
	left := f.left - m.c.opt.grace()
	e, err := m.c.decode(key, f.value)
	switch {
	case err != nil:
		m.c.stats.undecodable.Add(1)
		return false
	case f.left >= 0 && left <= -m.c.opt.Stale:
		return false
	case f.left >= 0 && left <= m.c.opt.RefreshBefore:
		m.c.refresh(ctx, key, m.alone(key))
	}
	m.c.stats.hits.Add(1)
	m.found(key, e)
	if m.c.local != nil && (f.left < 0 || left > 0) {
		m.c.local.put(key, seen, e, left)
	}
	return true
}

// alone loads one key.
func (m *many[T]) alone(key string) Load[T] {
	return func(ctx context.Context) (T, error) {
		values, err := m.load(ctx, []string{key})
		value, ok := values[key]
		if err == nil && !ok {
			err = ErrNotFound
		}
		return value, err
	}
}

// fill loads what is absent, and stores it.
func (m *many[T]) fill(ctx context.Context, absent []missing[T]) error {
	settled := false
	defer func() {
		if !settled {
			m.release(ctx, absent)
		}
	}()
	miss := &Miss{applied: m.c.applied}
	if withoutFill(ctx) {
		miss.Refuse()
	}
	m.guardReplaced(ctx, absent)
	if err := m.call(ctx, miss, absent); err != nil {
		return err
	}
	if reason := miss.refusal(m.c.opt.Replica); reason != "" {
		m.c.stats.refuse(reason)
		return nil
	}
	if err := m.store(ctx, absent); err != nil {
		return err
	}
	settled = true
	return nil
}

// guardReplaced takes the guards of keys whose values cannot be served: no miss has taken them.
func (m *many[T]) guardReplaced(ctx context.Context, absent []missing[T]) {
	for i, a := range absent {
		if a.guard == "" && !withoutFill(ctx) {
			absent[i].guard, absent[i].leader, _ = m.c.takeGuard(ctx, a.key) // without one, nothing is stored
		}
	}
}

// call loads what is absent.
func (m *many[T]) call(ctx context.Context, miss *Miss, absent []missing[T]) error {
	keys := make([]string, len(absent))
	for i, a := range absent {
		keys[i] = a.key
	}
	var values map[string]T
	_, err := m.c.callLoad(ctx, miss, func(ctx context.Context) (none T, err error) {
		values, err = m.load(ctx, keys)
		return none, err
	})
	if err != nil {
		return err
	}
	for i, key := range keys {
		e := entry[T]{err: ErrNotFound}
		if value, ok := values[key]; ok {
			e = entry[T]{value: value}
		}
		absent[i].loaded = e
		m.found(key, e)
	}
	return nil
}

// store fills all in one round trip. Only an error of encoding is returned.
func (m *many[T]) store(ctx context.Context, absent []missing[T]) error {
	var fills []missing[T]
	var args [][]any
	for _, a := range absent {
		notFound := a.loaded.err != nil
		if a.guard == "" || notFound && m.c.opt.NotFoundTTL < 0 {
			continue
		}
		stored, err := m.c.encode(a.key, a.loaded.value, notFound)
		if err != nil {
			return fmt.Errorf("key %q: %w", a.key, err)
		}
		fills = append(fills, a)
		args = append(args, []any{a.guard, stored, m.c.lifetime(notFound).Milliseconds()})
	}
	if len(fills) == 0 {
		return nil
	}
	results := m.run(ctx, fillScript, fills, func(i int) ([]string, []any) { return []string{fills[i].key, GuardKey(fills[i].key)}, args[i] })
	for i, r := range results {
		switch ok, err := r.Bool(); {
		case err != nil:
			m.c.stats.failed.Add(1)
		case !ok:
			m.c.stats.refuse(refusedGuard)
		default:
			m.c.stats.filled.Add(1)
			if m.c.local != nil {
				ttl := time.Duration(args[i][2].(int64))*time.Millisecond - m.c.opt.grace()
				m.c.local.put(fills[i].key, fills[i].seen, fills[i].loaded, ttl)
			}
		}
	}
	return nil
}

// run runs a script for each key in one round trip, also when the caller leaves meanwhile.
func (m *many[T]) run(ctx context.Context, script *redis.Script, of []missing[T], call func(i int) ([]string, []any)) (results []*redis.Cmd) {
	_ = m.c.redis.call(context.WithoutCancel(ctx), of[0].key, func(ctx context.Context) error {
		results = pipeline(ctx, m.c.redis.client, script, len(of), call)
		return results[0].Err()
	})
	return results
}

func (m *many[T]) release(ctx context.Context, absent []missing[T]) {
	var led []missing[T]
	for _, a := range absent {
		if a.leader {
			led = append(led, a)
		}
	}
	if len(led) > 0 {
		m.run(ctx, releaseScript, led, func(i int) ([]string, []any) { return []string{GuardKey(led[i].key)}, []any{led[i].guard} })
	}
}

// withoutRedis loads all and stores nothing.
func (m *many[T]) withoutRedis(ctx context.Context, keys []string, cause error) error {
	r := read[T]{c: m.c, key: strings.Join(keys, " "), load: func(ctx context.Context) (T, error) {
		var none T
		values, err := m.load(ctx, keys)
		for _, key := range keys {
			if value, ok := values[key]; ok {
				m.values[key] = value
			}
		}
		return none, err
	}}
	_, err := r.withoutRedis(ctx, cause)
	return err
}
