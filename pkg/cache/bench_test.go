package cache_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

// Ratios need one machine at one time: compare the numbers of one run.

type profile struct{ ID, Name, Email, About string }

var someone = profile{"42", "Ada", "ada@example.com", string(make([]byte, 150))}

func loadSomeone(context.Context) (profile, error) { return someone, nil }

func BenchmarkRedisHit(b *testing.B) {
	client := testkit.Redis(b).Client(b)
	ctx := context.Background()
	c := open[[]byte](b, client, cache.Options{}, cache.WithCodec(bytesCodec{}))
	value := make([]byte, 300)
	load := func(context.Context) ([]byte, error) { return value, nil }
	require.NoError(b, client.Set(ctx, "k", value, 0).Err())
	for range 3 {
		b.Run("get", func(b *testing.B) {
			for b.Loop() {
				if _, err := client.Get(ctx, "k").Bytes(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("walfence", func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Get(ctx, "k", load); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMiss(b *testing.B) {
	client := testkit.Redis(b).Client(b)
	ctx := context.Background()
	c := open[[]byte](b, client, cache.Options{}, cache.WithCodec(bytesCodec{}))
	value := make([]byte, 300)
	load := func(context.Context) ([]byte, error) { return value, nil }
	n := 0
	for range 3 {
		b.Run("get and set", func(b *testing.B) {
			for b.Loop() {
				n++
				key := "plain:" + strconv.Itoa(n)
				_, _ = client.Get(ctx, key).Bytes()
				if err := client.Set(ctx, key, value, time.Minute).Err(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("walfence", func(b *testing.B) {
			for b.Loop() {
				n++
				if _, err := c.Get(ctx, "guarded:"+strconv.Itoa(n), load); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLocalHit(b *testing.B) {
	feed, client := openFeed(b)
	ctx := context.Background()
	c := open[profile](b, client, cache.Options{LocalTTL: time.Hour}, cache.WithFeed(feed))
	bare := otter.Must(&otter.Options[string, profile]{MaximumSize: cache.DefaultLocalSize})
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = "tenant:7:user:" + strconv.Itoa(i) + ":profile"
		bare.Set(keys[i], someone)
		_, err := c.Get(ctx, keys[i], loadSomeone)
		require.NoError(b, err)
	}
	for range 3 {
		b.Run("otter", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := bare.GetIfPresent(keys[i%len(keys)]); !ok {
					b.Fatal("miss")
				}
			}
		})
		b.Run("walfence", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := c.Get(ctx, keys[i%len(keys)], loadSomeone); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	require.Less(b, c.Stats().Misses+c.Stats().Hits, uint64(1100), "hits were local")
}
