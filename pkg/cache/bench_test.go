package cache_test

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

// ratio measures two things by turns, so that a noisy machine is noisy for both, and reports the medians of a hundred rounds.
func ratio(b *testing.B, each int, floor, ours func()) {
	const rounds = 100
	took := func(do func()) float64 {
		began := time.Now()
		for range each {
			do()
		}
		return float64(time.Since(began)) / float64(each)
	}
	for b.Loop() {
		var floors, us []float64
		for range rounds {
			floors, us = append(floors, took(floor)), append(us, took(ours))
		}
		slices.Sort(floors)
		slices.Sort(us)
		b.ReportMetric(floors[rounds/2], "floor-ns")
		b.ReportMetric(us[rounds/2], "ours-ns")
		b.ReportMetric(us[rounds/2]/floors[rounds/2], "ours/floor")
	}
}

func must(b *testing.B, err error) {
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkRedisHitOverGet(b *testing.B) {
	client := testkit.Redis(b).Client(b)
	ctx := context.Background()
	c := open[[]byte](b, client, cache.Options{}, cache.WithCodec(bytesCodec{}))
	value := make([]byte, 300)
	load := func(context.Context) ([]byte, error) { return value, nil }
	must(b, client.Set(ctx, "k", value, 0).Err())
	ratio(b, 200, func() {
		_, err := client.Get(ctx, "k").Bytes()
		must(b, err)
	}, func() {
		_, err := c.Get(ctx, "k", load)
		must(b, err)
	})
}

func BenchmarkMissOverGetAndSet(b *testing.B) {
	client := testkit.Redis(b).Client(b)
	ctx := context.Background()
	c := open[[]byte](b, client, cache.Options{}, cache.WithCodec(bytesCodec{}))
	value := make([]byte, 300)
	load := func(context.Context) ([]byte, error) { return value, nil }
	n := 0
	ratio(b, 100, func() {
		n++
		key := "plain:" + strconv.Itoa(n)
		_, _ = client.Get(ctx, key).Bytes()
		must(b, client.Set(ctx, key, value, time.Minute).Err())
	}, func() {
		n++
		_, err := c.Get(ctx, "fence:"+strconv.Itoa(n), load)
		must(b, err)
	})
	require.Zero(b, c.Stats().Hits)
}

type profile struct{ ID, Name, Email, About string }

var someone = profile{"42", "Ada", "ada@example.com", string(make([]byte, 150))}

func loadSomeone(context.Context) (profile, error) { return someone, nil }

func BenchmarkLocalHitOverOtter(b *testing.B) {
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
	i := 0
	ratio(b, 20_000, func() {
		i++
		if _, ok := bare.GetIfPresent(keys[i%len(keys)]); !ok {
			b.Fatal("miss")
		}
	}, func() {
		i++
		_, err := c.Get(ctx, keys[i%len(keys)], loadSomeone)
		must(b, err)
	})
	require.Zero(b, testing.AllocsPerRun(1000, func() { _, _ = c.Get(ctx, keys[0], loadSomeone) }))
	require.EqualValues(b, len(keys), c.Stats().Misses, "hits were local")
}
