// Command demo shows walfence at work on servers of its own: `make demo`. It starts PostgreSQL and Redis on free ports, runs
// cdc and invalidator with the repository's rules.yaml, changes rows, reads them through the cache, kills either program
// once, and then compares everything that is cached with the database.
//
// DEMO_SECONDS ends it after so many seconds, otherwise Ctrl-C does. The exit code is 0, or 1 if a stale value remained or
// something could not be run, or 2 if DEMO_SECONDS is no number. Nothing that it started or wrote outlives it.
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

	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/integration/check"
	"github.com/walfence/walfence/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	os.Exit(realMain(ctx, os.Getenv("DEMO_SECONDS"), os.Stdout, os.Stderr))
}

// settings are what a run is told.
type settings struct {
	length time.Duration // 0: until ctx ends
	// open returns how readers read.
	open func(redis.UniversalClient) (check.Cache, error)
}

func realMain(ctx context.Context, seconds string, stdout, stderr io.Writer) int {
	length, err := readLength(seconds)
	if err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return config.CodeMistake
	}
	err = run(ctx, settings{length: length, open: guarded}, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return config.CodeFailure
	}
	return 0
}

func guarded(client redis.UniversalClient) (check.Cache, error) { return check.Guarded(client) }

func readLength(seconds string) (time.Duration, error) {
	if seconds == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(seconds, 64)
	if err != nil || n <= 0 || n > 1e6 {
		return 0, fmt.Errorf("DEMO_SECONDS=%q is not a number of seconds, for example 20", seconds)
	}
	return time.Duration(n * float64(time.Second)), nil
}

// errStale is that a cached value was not the database's.
var errStale = errors.New("stale values remained")

// run shows everything once. Its error is errStale if a stale value remained.
func run(ctx context.Context, s settings, stdout io.Writer) (err error) {
	screen := newScreen(stdout)
	screen.say("Starting PostgreSQL and Redis, building cdc and invalidator.")
	stage, err := open(ctx)
	defer func() { err = errors.Join(err, stage.close()) }()
	if err == nil {
		stage.introduce(screen)
		err = stage.start(ctx)
	}
	if ctx.Err() != nil {
		screen.say("Interrupted before it began.")
		return nil
	}
	if err != nil {
		return err
	}
	p, err := newPlay(stage, screen, s)
	if err != nil {
		return err
	}
	return p.run(ctx)
}
