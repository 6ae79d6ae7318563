package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/pkg/cache"
)

// Stale is a cached value that differs from the database.
type Stale struct {
	Key              string
	Cached, Database Value
}

func (s Stale) String() string {
	return fmt.Sprintf("%s: cached %+v, database %+v", s.Key, s.Cached, s.Database)
}

// Report is what a comparison found.
type Report struct {
	// Compared is how many cached values were compared.
	Compared int
	// Stale are those that differ from the database, in the order of their keys.
	Stale []Stale
}

// Compare compares every value in the cache with the database. There must be nothing in the cache but what readers of
// these views filled, and nothing may be written meanwhile.
func Compare(ctx context.Context, conn *pgx.Conn, client redis.UniversalClient, views []View) (Report, error) {
	cached, err := cachedValues(ctx, client)
	if err != nil {
		return Report{}, err
	}
	actual := make(map[string]Value)
	for i := range views {
		if err := views[i].all(ctx, conn, actual); err != nil {
			return Report{}, err
		}
	}
	r := Report{Compared: len(cached)}
	for key, value := range cached {
		if value != actual[key] {
			r.Stale = append(r.Stale, Stale{Key: key, Cached: value, Database: actual[key]})
		}
	}
	slices.SortFunc(r.Stale, func(a, b Stale) int { return strings.Compare(a.Key, b.Key) })
	return r, nil
}

// cachedValues reads all values of all primaries.
func cachedValues(ctx context.Context, client redis.UniversalClient) (map[string]Value, error) {
	values := make(map[string]Value)
	var mu sync.Mutex
	read := func(ctx context.Context, node redis.UniversalClient) error {
		keys := node.Scan(ctx, 0, "*", 1000).Iterator()
		for keys.Next(ctx) {
			value, found, err := cachedValue(ctx, node, keys.Val())
			if err != nil {
				return err
			}
			mu.Lock()
			if found {
				values[keys.Val()] = value
			}
			mu.Unlock()
		}
		return keys.Err()
	}
	var err error
	if cluster, ok := client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return read(ctx, node) })
	} else {
		err = read(ctx, client)
	}
	if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	return values, nil
}

func cachedValue(ctx context.Context, node redis.UniversalClient, key string) (value Value, found bool, err error) {
	if isGuard(key) {
		return value, false, nil
	}
	text, err := node.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) { // expired since
		return value, false, nil
	}
	if err != nil {
		return value, false, err
	}
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return value, false, fmt.Errorf("decode value of %s: %w", key, err)
	}
	return value, true, nil
}

func isGuard(key string) bool {
	return strings.HasSuffix(key, cache.GuardSuffix) || strings.HasSuffix(key, cache.TaggedGuardSuffix)
}

// Missing returns which of the keys are not in the cache.
func Missing(ctx context.Context, client redis.UniversalClient, keys []string) (missing []string, err error) {
	for _, key := range keys {
		n, err := client.Exists(ctx, key).Result()
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", key, err)
		}
		if n == 0 {
			missing = append(missing, key)
		}
	}
	return missing, nil
}
