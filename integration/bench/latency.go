package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// warmUp is left out of every measurement of latency: connections, caches and the runtime settle.
	warmUp = time.Second
	// latencySlot is the slot of whoever reads while commits are made.
	latencySlot = "bench_live"
	// How long the last of what was started may take to arrive.
	arrivalPatience = 30 * time.Second
)

// The limits of latency, as ratios to the sum of the floors.
const (
	medianTarget = 1.5
	tailTarget   = 2.0
)

// quantiles are in microseconds.
type quantiles struct {
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
}

// measured is one latency: every run, and the medians of both quantiles.
type measured struct {
	Name   string      `json:"name"`
	Runs   []quantiles `json:"runs"`
	Median quantiles   `json:"median"`
}

// latency is the chain beside its floors.
type latency struct {
	Rate     int         `json:"rate"` // commits per second
	Seconds  float64     `json:"seconds"`
	Chain    *measured   `json:"chain"`
	Floors   []*measured `json:"floors"`
	Sum      quantiles   `json:"sum"`
	RatioP50 float64     `json:"ratio_p50"`
	RatioP99 float64     `json:"ratio_p99"`
}

// latency measures the chain and its floors in turns.
func (b *bench) latency(ctx context.Context) (*latency, error) {
	probe := &probe{rig: b.rig, rate: b.settings.Rate, n: b.settings.commits()}
	l := &latency{
		Rate: b.settings.Rate, Seconds: b.settings.Duration.Seconds(),
		Chain: &measured{Name: "commit returned -> key gone"},
		Floors: []*measured{
			{Name: "commit returned -> WAL seen"}, {Name: "publish -> consumer"}, {Name: "UNLINK round trip"},
		},
	}
	for run := range b.settings.Runs {
		for i, measure := range []func(context.Context) (quantiles, error){probe.chain, probe.seen, probe.publish, probe.unlink} {
			m := l.Chain
			if i > 0 {
				m = l.Floors[i-1]
			}
			q, err := measure(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.Name, err)
			}
			progress("latency, run %d: %s: p50 %.0f us, p99 %.0f us", run+1, m.Name, q.P50, q.P99)
			m.Runs = append(m.Runs, q)
		}
	}
	l.compare()
	return l, nil
}

func (l *latency) compare() {
	l.Chain.settle()
	for _, f := range l.Floors {
		f.settle()
		l.Sum.P50 += f.Median.P50
		l.Sum.P99 += f.Median.P99
	}
	l.RatioP50, l.RatioP99 = l.Chain.Median.P50/l.Sum.P50, l.Chain.Median.P99/l.Sum.P99
}

func (m *measured) settle() {
	var p50, p99 []float64
	for _, q := range m.Runs {
		p50, p99 = append(p50, q.P50), append(p99, q.P99)
	}
	m.Median = quantiles{quantile(p50, 0.5), quantile(p99, 0.5)}
}

// probe measures latencies at a rate: n things one after the other, each due at its time, however long the ones before took.
type probe struct {
	rig  *rig
	rate int
	n    int
	body sent // what cdc published for a commit, for the floor of publishing
}

// pace calls do for 0 to n-1, each when it is due.
func (p *probe) pace(ctx context.Context, do func(i int) error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	began := time.Now()
	for i := range p.n {
		if rest := time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(p.rate))); rest > 0 {
			timer.Reset(rest)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}

// stamps are times by number. Each is written by one goroutine, and read when that has ended.
type stamps []time.Time

// between returns the quantiles of the differences in microseconds, what warms up left out.
func (p *probe) between(from, to stamps) quantiles {
	var micros []float64
	for i := p.rate * int(warmUp/time.Second); i < p.n; i++ {
		micros = append(micros, float64(to[i].Sub(from[i]).Nanoseconds())/1e3)
	}
	return quantiles{quantile(micros, 0.5), quantile(micros, 0.99)}
}

// commit changes one row per transaction on one connection and returns when each commit returned. Commit i changes row i+1.
func (p *probe) commit(ctx context.Context) (stamps, error) {
	conn, err := pgx.Connect(ctx, p.rig.cluster.URL("postgres"))
	if err != nil {
		return nil, fmt.Errorf("connect to database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	returned := make(stamps, p.n)
	return returned, p.pace(ctx, func(i int) error {
		_, err := conn.Exec(ctx, "UPDATE items SET price = price + 1, updated_at = clock_timestamp() WHERE id = $1", i+1)
		returned[i] = time.Now()
		if err != nil {
			return fmt.Errorf("update row: %w", err)
		}
		return nil
	})
}

// chain measures from the return of a commit to the event by which Redis tells that the row's key was deleted. No key is
// asked for: a subscriber on a connection of its own hears of all.
func (p *probe) chain(ctx context.Context) (q quantiles, err error) {
	if err := p.rig.createSlot(ctx, latencySlot); err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, p.rig.dropSlot(context.WithoutCancel(ctx), latencySlot)) }()
	line, err := p.rig.openPipeline(ctx, latencySlot, true, false)
	if err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, line.close()) }()
	if err := p.rig.fillCacheTo(ctx, p.n); err != nil {
		return q, err
	}
	gone, err := p.rig.listenForDeletions(ctx, p.n)
	if err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, gone.close()) }()
	if err := line.begin(ctx); err != nil {
		return q, err
	}
	if _, err := p.rig.awaitActive(ctx, latencySlot); err != nil {
		return q, err
	}
	returned, err := p.commit(ctx)
	if err != nil {
		return q, err
	}
	if err := gone.await(ctx); err != nil {
		return q, errors.Join(err, line.reached(), errors.New(line.log()))
	}
	p.body, err = line.lastSent(ctx)
	return p.between(returned, gone.at), err
}
