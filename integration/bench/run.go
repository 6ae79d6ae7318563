package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/walfence/walfence/internal/config"
)

// settings are what can be asked for.
type settings struct {
	Quick    bool          `help:"One run of small backlogs, about a minute. Its figures show that things work and prove nothing."`
	Workload []string      `default:"w1,w2,w3" enum:"w1,w2,w3" help:"Backlogs to drain: ${enum}."`
	Only     []string      `enum:"own,lists,recvlogical,cdc,chain,cdc-lists,chain-lists,latency" help:"What to measure beside B: ${enum}. All by default."`
	Runs     int           `default:"3" help:"Runs of each, of which the median counts."`
	Scale    float64       `default:"1" help:"Factor to the rows of every backlog."`
	Rate     int           `default:"1000" help:"Commits per second while latency is measured."`
	Duration time.Duration `default:"10s" help:"How long latency is measured in each run, after a second to warm up."`
	JSON     string        `name:"json" env:"BENCH_JSON" placeholder:"FILE" help:"Also write the figures to this file."`
}

// Check reports what cannot be measured.
func (s settings) Check() (problems config.Problems) {
	if s.Runs < 1 {
		problems = append(problems, config.Problem{Setting: "--runs", Cause: "nothing to run", Hint: "at least 1"})
	}
	if s.Scale <= 0 || s.Scale > 100 {
		problems = append(problems, config.Problem{Setting: "--scale", Cause: "not possible", Hint: "above 0, at most 100"})
	}
	if s.Rate < 1 || s.Rate > 100_000 || s.Duration < time.Second {
		problems = append(problems, config.Problem{Setting: "--rate", Cause: "too little or too much to measure", Hint: "for example --rate 1000 --duration 10s"})
	}
	return problems
}

// Run measures until all is measured or ctx ends.
func (s *settings) Run(ctx context.Context, env *config.Env) (err error) {
	if s.Quick {
		s.Runs, s.Scale, s.Duration = 1, s.Scale/5, min(s.Duration, 3*time.Second)
	}
	b := &bench{settings: s, out: env.Stdout}
	if b.rig, err = openRig(ctx, s.rows()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.rig.close()) }()
	b.results.Machine = b.rig.machine()
	if err := b.measure(ctx); err != nil {
		return err
	}
	if s.JSON == "" {
		return nil
	}
	return b.results.write(s.JSON)
}

// rows is how many rows the table needs.
func (s *settings) rows() int {
	rows := s.commits()
	for _, w := range workloads {
		rows = max(rows, w.scaled(s.Scale).rows)
	}
	return rows
}

// commits is how many commits one measurement of latency makes, a second of warming up included.
func (s *settings) commits() int {
	return int(math.Ceil((s.Duration + warmUp).Seconds() * float64(s.Rate)))
}

func (s *settings) wants(what string) bool { return len(s.Only) == 0 || slices.Contains(s.Only, what) }

// bench is one invocation.
type bench struct {
	settings *settings
	rig      *rig
	out      io.Writer
	results  results
}

func (b *bench) measure(ctx context.Context) error {
	fmt.Fprintln(b.out, b.results.Machine)
	for _, w := range workloads {
		if !slices.Contains(b.settings.Workload, w.name) || b.onlyLatency() {
			continue
		}
		d, err := b.drain(ctx, w.scaled(b.settings.Scale))
		if err != nil {
			return fmt.Errorf("measure %s: %w", w.name, err)
		}
		b.results.Drains = append(b.results.Drains, d)
		d.print(b.out)
	}
	if !b.settings.wants(latencyName) {
		return nil
	}
	l, err := b.latency(ctx)
	if err != nil {
		return fmt.Errorf("measure latency: %w", err)
	}
	b.results.Latency = l
	l.print(b.out)
	return nil
}

func (b *bench) onlyLatency() bool {
	return len(b.settings.Only) == 1 && b.settings.Only[0] == latencyName
}

// progress tells on standard error what is going on, so that standard output holds the report alone.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
