package cache_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

// exampleRedis stands for the Redis that walfence invalidates.
func exampleRedis() (*redis.Client, func()) {
	dir, err := testkit.OpenScratch("example")
	if err != nil {
		panic(err)
	}
	server, err := testkit.OpenRedis(dir)
	if err != nil {
		panic(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true})
	return client, func() {
		_ = client.Close()
		_ = server.Kill()
	}
}

type user struct{ Name string }

func ExampleCache_Get() {
	client, stop := exampleRedis()
	defer stop()
	users, err := cache.New[user](client, cache.Options{Name: "users", TTL: 5 * time.Minute})
	if err != nil {
		panic(err)
	}
	defer users.Close()

	for range 2 {
		u, err := users.Get(context.Background(), "tenant:7:user:42:profile", func(ctx context.Context) (user, error) {
			fmt.Println("reads the database")
			return user{"Ada"}, nil
		})
		fmt.Println(u.Name, err)
	}
	// Output:
	// reads the database
	// Ada <nil>
	// Ada <nil>
}

// A loader that finds no row says so, and that is remembered for a short while.
func ExampleCache_Get_notFound() {
	client, stop := exampleRedis()
	defer stop()
	users, err := cache.New[user](client, cache.Options{TTL: 5 * time.Minute, NotFoundTTL: 10 * time.Second})
	if err != nil {
		panic(err)
	}
	defer users.Close()

	for range 2 {
		_, err := users.Get(context.Background(), "tenant:7:user:43:profile", func(ctx context.Context) (user, error) {
			fmt.Println("reads the database")
			return user{}, cache.ErrNotFound // where pgx says ErrNoRows
		})
		fmt.Println(errors.Is(err, cache.ErrNotFound))
	}
	// Output:
	// reads the database
	// true
	// true
}

func ExampleCache_GetMany() {
	client, stop := exampleRedis()
	defer stop()
	users, err := cache.New[user](client, cache.Options{TTL: 5 * time.Minute})
	if err != nil {
		panic(err)
	}
	defer users.Close()

	found, err := users.GetMany(context.Background(), []string{"tenant:7:user:1:profile", "tenant:7:user:2:profile"},
		func(ctx context.Context, missing []string) (map[string]user, error) {
			fmt.Println("reads", len(missing), "rows in one query")
			return map[string]user{missing[0]: {"Ada"}, missing[1]: {"Grace"}}, nil
		})
	fmt.Println(len(found), err)
	// Output:
	// reads 2 rows in one query
	// 2 <nil>
}

// A list, or a search page, lives in a scope: one bump makes every page of it a miss.
func ExampleScopes() {
	client, stop := exampleRedis()
	defer stop()
	scopes, err := cache.NewScopes(client, cache.ScopesOptions{})
	if err != nil {
		panic(err)
	}
	defer scopes.Close()
	ctx := context.Background()

	before, _ := scopes.Key(ctx, cache.Scope("7", "catalog"), "search:chairs:page:1")
	client.Unlink(ctx, cache.GenerationKey(cache.Scope("7", "catalog"))) // what walfence does when a product changes
	after, _ := scopes.Key(ctx, cache.Scope("7", "catalog"), "search:chairs:page:1")
	fmt.Println(before != after)
	// Output: true
}

// Inside a transaction that has written, or whose snapshot is old, what is read must not be stored for others.
func ExampleWithoutFill() {
	client, stop := exampleRedis()
	defer stop()
	users, err := cache.New[user](client, cache.Options{TTL: 5 * time.Minute})
	if err != nil {
		panic(err)
	}
	defer users.Close()

	inTransaction := cache.WithoutFill(context.Background())
	u, err := users.Get(inTransaction, "tenant:7:user:42:profile", func(ctx context.Context) (user, error) {
		return user{"not committed yet"}, nil
	})
	fmt.Println(u.Name, err, users.Stats().Filled)
	// Output: not committed yet <nil> 0
}

func ExampleNewKeyring() {
	client, stop := exampleRedis()
	defer stop()
	keyring, err := cache.NewKeyring(1, map[uint32][]byte{1: make([]byte, 32)}) // 32 random bytes from your secrets
	if err != nil {
		panic(err)
	}
	cards, err := cache.New[string](client, cache.Options{TTL: time.Minute}, cache.WithKeyring(keyring))
	if err != nil {
		panic(err)
	}
	defer cards.Close()
	ctx := context.Background()
	card, _ := cards.Get(ctx, "tenant:7:card", func(context.Context) (string, error) { return "4711", nil })
	client.Rename(ctx, "tenant:7:card", "tenant:8:card")
	other, _ := cards.Get(ctx, "tenant:8:card", func(context.Context) (string, error) { return "0815", nil })
	fmt.Println(card, other)
	// Output: 4711 0815
}

func ExampleFreshness() {
	fmt.Println(cache.Freshness{MaxAge: 10 * time.Second, SharedMaxAge: time.Hour, StaleIfError: 24 * time.Hour})
	fmt.Println(cache.Freshness{Private: true, MaxAge: time.Minute})
	// Output:
	// max-age=10, s-maxage=3600, stale-if-error=86400
	// private, max-age=60
}

// The guard of a key is what an invalidation removes together with it.
func ExampleGuardKey() {
	fmt.Println(cache.GuardKey("tenant:7:user:42"))
	fmt.Println(cache.GuardKey("tenant:{7}:user:42"))
	// Output:
	// {tenant:7:user:42}:walfence-guard
	// tenant:{7}:user:42:walfence-guard:tagged
}
