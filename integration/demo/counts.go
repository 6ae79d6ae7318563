package main

import (
	"context"
	"time"

	"github.com/walfence/walfence/integration/watch"
	"github.com/walfence/walfence/pkg/cache"
)

// counts are what the invalidator has counted, over all of its starts.
type counts struct {
	keys, swept float64
	all, calm   watch.Latency // calm: while both programs were ready, and had caught up
}

// reading is what the invalidator's metrics said, of one start.
type reading struct {
	keys, swept float64
	latency     watch.Latency
}

// sample is where everything stood at a time.
type sample struct {
	at      time.Time
	commits uint64
	reads   uint64
	cache   cache.Stats
	counts  counts
}

const (
	// window is how far back the rates that are shown reach.
	window = 2 * time.Second
	// catchUp is how long a program that is ready again is given for what was waiting.
	catchUp = 2 * time.Second
)

// sample reads the metrics, and adds what is new.
func (p *play) sample(ctx context.Context) {
	p.look(ctx)
	if m, err := p.stage.invalidator.Metrics(ctx); err == nil {
		now := reading{
			keys: m.Sum("walfence_keys_invalidated_total"), swept: m.Sum("walfence_swept_keys_total"),
			latency: m.Latency("walfence_commit_to_invalidated_seconds"),
		}
		p.counts.add(p.last, now, len(p.down) == 0 && time.Since(p.restored) > catchUp)
		p.last = now
	}
	p.samples = append(p.samples, sample{
		at: time.Now(), commits: p.writers.Rounds.Load(), reads: p.readers.Rounds.Load(), cache: p.stats(), counts: p.counts,
	})
	for len(p.samples) > 2 && time.Since(p.samples[1].at) > window {
		p.samples = p.samples[1:]
	}
}

func (c *counts) add(last, now reading, calm bool) {
	c.keys += watch.Gained(now.keys, last.keys)
	c.swept += watch.Gained(now.swept, last.swept)
	fresh := now.latency.Since(last.latency)
	c.all = c.all.Plus(fresh)
	if calm {
		c.calm = c.calm.Plus(fresh)
	}
}

// block is what is shown of the last seconds.
func (p *play) block(elapsed time.Duration) block {
	first, last := p.samples[0], p.samples[len(p.samples)-1]
	span := max(last.at.Sub(first.at), sampleEvery).Seconds()
	fresh := last.counts.all.Since(first.counts.all)
	late := p.stage.shop.History.Reads()
	return block{
		elapsed: elapsed, length: p.settings.length,
		commits: float64(last.commits-first.commits) / span,
		keys:    (last.counts.keys - first.counts.keys) / span,
		reads:   float64(last.reads-first.reads) / span,
		hits:    hitRate(cache.Stats{Hits: last.cache.Hits - first.cache.Hits, Misses: last.cache.Misses - first.cache.Misses}),
		p50:     fresh.Quantile(0.5), p99: fresh.Quantile(0.99),
		late: late.Late, latest: late.Lateness.Max, refused: last.cache.Refused,
		cdc: p.health(p.stage.cdc), invalidator: p.health(p.stage.invalidator),
	}
}

func (p *play) health(one *program) string {
	since, down := p.down[one]
	switch {
	case !down:
		return "ready"
	case !one.run.Running():
		return "killed"
	}
	return "not ready for " + short(time.Since(since))
}
