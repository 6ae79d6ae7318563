// Command torture counts cached values that stay stale, for ways of keeping a cache in step that are in common use and for
// pkg/cache.
//
// Its promise: every way meets the same writers, readers, delays and faults, at the same time; a way that is sound has no
// stale value after quiet, and the run fails if one that is not gets away with it, since then it was too weak.
//
// TORTURE is how long it runs, 60s by default; TORTURE_SEED repeats a run's choices.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(realMain(ctx, os.Getenv, os.Stdout, os.Stderr))
}

func realMain(ctx context.Context, env func(string) string, stdout, stderr io.Writer) int {
	opt, err := readOptions(env)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	results, err := run(ctx, opt, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "torture:", err)
		return 1
	}
	results.print(stdout)
	if err := results.judge(); err != nil {
		fmt.Fprintln(stderr, "torture:", err)
		return 1
	}
	return 0
}

// options are what a run is asked for.
type options struct {
	duration time.Duration
	seed     uint64
}

func readOptions(env func(string) string) (o options, err error) {
	o = options{duration: time.Minute, seed: uint64(time.Now().UnixNano())}
	if text := env("TORTURE"); text != "" {
		if o.duration, err = time.ParseDuration(text); err != nil || o.duration <= 0 {
			return o, fmt.Errorf("TORTURE=%s: want a duration such as 60s", text)
		}
	}
	if text := env("TORTURE_SEED"); text != "" {
		if o.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return o, fmt.Errorf("TORTURE_SEED=%s: want a number", text)
		}
	}
	return o, nil
}

// run makes the stage, and on it as many rounds as there is time for, half of them with synchronous replication.
func run(ctx context.Context, opt options, out io.Writer) (r *results, err error) {
	fmt.Fprintf(out, "seed %d: TORTURE_SEED=%d repeats its choices\n", opt.seed, opt.seed)
	s, err := openStage(ctx)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return nil, err
	}
	r = newResults(s.ways)
	for phase, m := range []mode{local, synchronous} {
		if err := s.setMode(ctx, m); err != nil {
			return nil, err
		}
		until := time.Now().Add(opt.duration / 2)
		for round := uint64(0); round == 0 || time.Now().Before(until); round++ {
			if err := s.round(ctx, opt.seed+uint64(phase)<<32+round, m, r); err != nil {
				return nil, err
			}
			fmt.Fprintf(out, "%s, round %d: %s\n", m, round+1, r.line(m))
		}
	}
	return r, nil
}
