package cache_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/pkg/cache"
)

// A profile is read through the cache. The loader runs after the miss, so what it reads is as new as it must be.
func Example() {
	type Profile struct{ Name string }
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer client.Close()
	profiles, err := cache.New[Profile](client, cache.Options{TTL: 5 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	profile, err := profiles.Get(context.Background(), "tenant:7:user:42:profile", func(ctx context.Context) (Profile, error) {
		return Profile{Name: "Ann"}, nil // SELECT name FROM users WHERE tenant_id = 7 AND id = 42
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(profile.Name)
}

// The guard of a key is what an invalidation removes together with it.
func ExampleGuardKey() {
	fmt.Println(cache.GuardKey("tenant:7:user:42"))
	fmt.Println(cache.GuardKey("tenant:{7}:user:42"))
	// Output:
	// {tenant:7:user:42}:walfence-guard
	// tenant:{7}:user:42:walfence-guard:tagged
}
