package main

import (
	"context"
	"fmt"
	"time"

	"github.com/walfence/walfence/integration/check"
	"github.com/walfence/walfence/integration/shop"
	"github.com/walfence/walfence/pkg/cache"
)

const (
	writers, readers = 4, 4
	// Together about a thousand commits and two thousand reads a second: enough to see, and a laptop stays usable.
	writeEvery = 4 * time.Millisecond
	readEvery  = 2 * time.Millisecond

	sampleEvery = 200 * time.Millisecond
	// How long a killed program stays away: as long as a supervisor would take.
	away = time.Second
	// How long everything may take to be applied after the last commit.
	settlePatience = 90 * time.Second
)

// play is one run: the load, what happens meanwhile, and what is counted. It serves one goroutine.
type play struct {
	stage    *stage
	screen   *screen
	settings settings
	cache    check.Cache
	views    []check.View
	quiet    []string // keys of tenants whose rows nobody changes

	began            time.Time
	writers, readers *check.Crew
	cues             []cue
	down             map[*program]time.Time // since when each is not ready
	restored         time.Time              // when one last became ready again
	samples          []sample               // of the last seconds
	counts           counts
	last             reading // of the start of invalidator that runs
}

// cue is something that happens at a time.
type cue struct {
	at time.Duration
	do func(context.Context) error
}

func newPlay(s *stage, out *screen, set settings) (*play, error) {
	c, err := set.open(s.client)
	if err != nil {
		return nil, err
	}
	p := &play{stage: s, screen: out, settings: set, cache: c, views: s.shop.Views(), down: map[*program]time.Time{}}
	p.rehearse()
	return p, nil
}

// rehearse decides what happens when. Without an end both programs are killed early, and tables are emptied again and again.
func (p *play) rehearse() {
	length := p.settings.length
	if length == 0 {
		length = 40 * time.Second
	}
	at := func(part float64, do func(context.Context) error) {
		p.cues = append(p.cues, cue{time.Duration(part * float64(length)), do})
	}
	at(0.2, p.killing(p.stage.cdc))
	at(0.35, p.truncate)
	at(0.5, p.killing(p.stage.invalidator))
}

// run plays until the time is over or ctx ends, and then judges.
func (p *play) run(ctx context.Context) error {
	if err := p.cacheQuiet(ctx); err != nil {
		return err
	}
	working, cancel := context.WithCancel(context.WithoutCancel(ctx)) // rounds in hand are finished when ctx ends
	defer cancel()
	url := p.stage.postgres.URL(database)
	p.began = time.Now()
	p.writers = check.StartCrew(working, url, writers, writeEvery, 1, p.stage.shop.Write)
	p.readers = check.StartCrew(working, url, readers, readEvery, 2, check.Reading(p.cache, p.views, p.stage.shop.History))
	defer p.readers.Stop()
	defer p.writers.Stop()
	if err := p.watch(ctx); err != nil {
		return err
	}
	return p.judge(working)
}

// cacheQuiet fills the keys of tenants whose rows nobody changes: they must stay.
func (p *play) cacheQuiet(ctx context.Context) error {
	pages := p.stage.shop.Untouched()
	for _, page := range pages {
		p.quiet = append(p.quiet, page.Key)
	}
	return shop.Fill(ctx, p.cache, p.stage.conn, pages)
}

func (p *play) watch(ctx context.Context) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		elapsed := time.Since(p.began)
		if p.settings.length > 0 && elapsed >= p.settings.length {
			return nil
		}
		if err := p.follow(ctx, elapsed); err != nil {
			return err
		}
		p.sample(ctx)
		p.screen.show(time.Now(), p.block(elapsed))
	}
}

// follow does what is due.
func (p *play) follow(ctx context.Context, elapsed time.Duration) error {
	for i := 0; i < len(p.cues); i++ { // a cue may add others
		if p.cues[i].at > elapsed {
			continue
		}
		do := p.cues[i].do
		p.cues = append(p.cues[:i], p.cues[i+1:]...)
		i--
		if err := do(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func (p *play) say(format string, args ...any) {
	p.screen.say("%5.1f s  "+format, append([]any{time.Since(p.began).Seconds()}, args...)...)
}

// killing ends a program with kill -9, and starts it again a little later.
func (p *play) killing(victim *program) func(context.Context) error {
	return func(ctx context.Context) error {
		p.sample(ctx) // what it has counted goes with it
		p.down[victim] = time.Now()
		if err := victim.kill(); err != nil {
			return err
		}
		p.say("kill -9 %s", victim.Name)
		p.cues = append(p.cues, cue{time.Since(p.began) + away, func(context.Context) error {
			p.say("%s is started again", victim.Name)
			return victim.start()
		}})
		return nil
	}
}

func (p *play) truncate(ctx context.Context) error {
	if err := p.stage.shop.Truncate(ctx, p.stage.conn); err != nil {
		return err
	}
	p.say("TRUNCATE order_items, settings")
	if p.settings.length == 0 {
		p.cues = append(p.cues, cue{time.Since(p.began) + 20*time.Second, p.truncate})
	}
	return nil
}

// look notes which programs are ready, and tells when one is again.
func (p *play) look(ctx context.Context) {
	for _, one := range []*program{p.stage.cdc, p.stage.invalidator} {
		since, down := p.down[one]
		err := one.Ready(ctx)
		switch {
		case err == nil && down:
			delete(p.down, one)
			p.restored = time.Now()
			p.say("%s is ready again, after %s", one.Name, short(time.Since(since)))
		case err != nil && !down:
			p.down[one] = time.Now()
		}
	}
}

// judge stops writing, waits until everything is applied, and compares.
func (p *play) judge(ctx context.Context) error {
	p.writers.Stop()
	p.say("writers have stopped; waiting until everything is applied")
	stopped := time.Now()
	settling, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	if err := p.revive(settling); err != nil {
		return err
	}
	if err := p.stage.settle(settling); err != nil {
		return err
	}
	settled := time.Since(stopped)
	p.readers.Stop()
	p.sample(ctx)
	report, err := check.Compare(ctx, p.stage.conn, p.stage.client, p.views)
	if err != nil {
		return err
	}
	touched, err := check.Missing(ctx, p.stage.client, p.quiet)
	if err != nil {
		return err
	}
	return p.summary(report, touched, settled)
}

// revive starts whoever was just killed, and waits until both are ready.
func (p *play) revive(ctx context.Context) error {
	for _, one := range []*program{p.stage.cdc, p.stage.invalidator} {
		if !one.run.Running() {
			if err := one.start(); err != nil {
				return err
			}
		}
	}
	for _, one := range []*program{p.stage.cdc, p.stage.invalidator} {
		if err := one.awaitReady(ctx, readyPatience); err != nil {
			return err
		}
	}
	return nil
}

// stats are what the cache counted, if it counts.
func (p *play) stats() cache.Stats {
	if c, ok := p.cache.(interface{ Stats() cache.Stats }); ok {
		return c.Stats()
	}
	return cache.Stats{}
}

// summary prints what happened. Its error is errStale if something is wrong that must never be.
func (p *play) summary(report check.Report, touched []string, settled time.Duration) error {
	c, stats, reads := p.counts, p.stats(), p.stage.shop.History.Reads()
	row := func(name, format string, args ...any) {
		p.screen.say("  %-24s"+format, append([]any{name}, args...)...)
	}
	p.screen.say("")
	row("ran", "%s", short(time.Since(p.began)))
	row("commits", "%d", p.writers.Rounds.Load())
	row("keys invalidated", "%.0f, and %.0f by sweeps", c.keys, c.swept)
	row("commit to invalidated", "p50 %s, p99 %s, while both programs ran", short(c.calm.Quantile(0.5)), short(c.calm.Quantile(0.99)))
	row("reads", "%d, %.0f %% from the cache", p.readers.Rounds.Load(), 100*hitRate(stats))
	row("late reads", "%.2f %% of %d got a value that a commit had replaced, at worst %s before",
		100*float64(reads.Late)/float64(max(1, reads.Judged)), reads.Judged, short(reads.Lateness.Max))
	row("fills refused", "%d: an invalidation came between the miss and the fill", stats.Refused)
	row("everything applied", "%s after the last commit", short(settled))
	row("other tenants' keys", "%d of %d gone", len(touched), len(p.quiet))
	row("stale values", "%d of %d cached", len(report.Stale), report.Compared)
	if failed := p.writers.Failed.Load() + p.readers.Failed.Load(); failed > 0 {
		row("errors of the load", "%d", failed)
	}
	for _, s := range report.Stale[:min(len(report.Stale), 10)] {
		p.screen.say("    %s", s)
	}
	p.screen.say("")
	switch {
	case len(report.Stale) > 0:
		return fmt.Errorf("%w: %d of %d", errStale, len(report.Stale), report.Compared)
	case len(touched) > 0:
		return fmt.Errorf("keys of tenants that nobody changed are gone: %d of %d", len(touched), len(p.quiet))
	case report.Compared == 0:
		return fmt.Errorf("nothing was cached, so nothing is shown")
	}
	p.screen.say("No cached value differs from the database.")
	return nil
}

func hitRate(s cache.Stats) float64 { return float64(s.Hits) / float64(max(1, s.Hits+s.Misses)) }
