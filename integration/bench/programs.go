package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

const (
	programPatience = 30 * time.Second
	drainPatience   = 5 * time.Minute
	// How often it is asked whether all is drained: what the time that is measured may be too long by.
	askEvery = 5 * time.Millisecond
)

// pipeline is cdc with its embedded JetStream and, if it is the whole chain, an invalidator. Both run, are connected, and
// wait only for the database to let cdc in.
type pipeline struct {
	rig         *rig
	end         events.LSN
	rows        int
	cdc         *testkit.Program
	invalidator *testkit.Program // nil if it is cdc alone
	nats        *nats.Conn
	dir         string

	cdcHTTP, invalidatorHTTP string // addresses
}

func programs(chain, lists bool) func(context.Context, *rig, *backlog, string) (attempt, error) {
	return func(ctx context.Context, r *rig, b *backlog, slot string) (attempt, error) {
		p, err := r.openPipeline(ctx, slot, chain, lists)
		if err != nil {
			return nil, err
		}
		p.end, p.rows = b.end, b.rows
		if chain {
			err = r.fillCacheTo(ctx, b.rows)
		}
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		return p, nil
	}
}

func (r *rig) openPipeline(ctx context.Context, slot string, chain, lists bool) (p *pipeline, err error) {
	if err := r.hold(ctx, true); err != nil {
		return nil, err
	}
	r.attempts++
	p = &pipeline{rig: r, dir: filepath.Join(r.dir, fmt.Sprintf("attempt-%d", r.attempts))}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if err := p.startCDC(slot, lists); err != nil || !chain {
		return p, err
	}
	return p, p.startInvalidator(ctx)
}

// cdcSettings are those of the default deployment, on ports of its own.
func (r *rig) cdcSettings(slot string, lists bool) map[string]string {
	env := map[string]string{
		"DATABASE_URL": r.url(), "RULES": r.rules, "CDC_SLOT": slot, "CDC_PUBLICATION": ownPublication, "CDC_FIRST_START": "trust",
		"CDC_HTTP": "127.0.0.1:0", "LOG_FORMAT": "json",
	}
	if lists {
		env["CDC_PUBLICATION"], env["CDC_COLUMN_LISTS"] = listsPublication, "on"
	}
	return env
}

// setup makes one of our publications.
func (r *rig) setup(ctx context.Context, lists bool) error {
	const slot = "bench_setup"
	dir := filepath.Join(r.dir, fmt.Sprintf("setup-%t", lists))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	p, err := testkit.OpenProgram(dir, r.cdc, r.cdcSettings(slot, lists), "setup")
	if err != nil {
		return err
	}
	err = wait(ctx, programPatience, askEvery, func() error {
		if p.Running() {
			return errors.New("cdc setup still runs")
		}
		return nil
	})
	if err != nil || !strings.Contains(p.Stdout(), "-- done") {
		return errors.Join(fmt.Errorf("run cdc setup: %s", p.Stderr()), err)
	}
	return r.dropSlot(ctx, slot)
}

func (p *pipeline) startCDC(slot string, lists bool) (err error) {
	env := p.rig.cdcSettings(slot, lists)
	env["NATS_LISTEN"], env["NATS_STORE"] = "127.0.0.1:0", filepath.Join(p.dir, "nats")
	if p.cdc, err = testkit.OpenProgram(p.dir, p.rig.cdc, env, "run"); err != nil {
		return err
	}
	http, err := p.cdc.Find(programPatience, "http listens")
	if err != nil {
		return err
	}
	p.cdcHTTP = http.Text("address")
	listens, err := p.cdc.Find(programPatience, "embedded nats listens")
	if err != nil {
		return err
	}
	if p.nats, err = nats.Connect("nats://" + listens.Text("address")); err != nil {
		return fmt.Errorf("connect to nats: %w", err)
	}
	_, err = p.cdc.Find(programPatience, "not streaming, will try again") // it has been refused, with all else done
	return err
}

func (p *pipeline) startInvalidator(ctx context.Context) (err error) {
	dir := filepath.Join(p.dir, "invalidator")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	p.invalidator, err = testkit.OpenProgram(dir, p.rig.invalidator, map[string]string{
		"NATS_URL": p.nats.ConnectedUrl(), "REDIS_URL": p.rig.redis.URL(0), "RULES": p.rig.rules, "INVALIDATOR_HTTP": "127.0.0.1:0",
		"LOG_FORMAT": "json",
	}, "run")
	if err != nil {
		return err
	}
	listens, err := p.invalidator.Find(programPatience, "http listens")
	if err != nil {
		return err
	}
	p.invalidatorHTTP = listens.Text("address")
	js, err := jetstream.New(p.nats)
	if err != nil {
		return fmt.Errorf("use jetstream: %w", err)
	}
	return wait(ctx, programPatience, 10*time.Millisecond, func() error {
		if !p.invalidator.Running() {
			return stop{errors.New("invalidator ended: " + p.invalidator.Stderr())}
		}
		consumer, err := js.Consumer(ctx, stream.Changes, stream.Invalidator)
		if err != nil {
			return fmt.Errorf("look for the invalidator: %w", err)
		}
		if consumer.CachedInfo().NumWaiting == 0 {
			return errors.New("the invalidator does not wait for messages yet")
		}
		return nil
	})
}

func (p *pipeline) begin(ctx context.Context) error { return p.rig.hold(ctx, false) }

// finish waits until the stream has everything or, for the whole chain, until the cache is empty: every key was there, and
// every one must go.
func (p *pipeline) finish(ctx context.Context) (time.Time, error) {
	check := p.reached
	if p.invalidator != nil {
		check = func() error { return p.rig.emptied(ctx) }
	}
	err := wait(ctx, drainPatience, askEvery, func() error {
		if !p.cdc.Running() {
			return stop{errors.New("cdc ended")}
		}
		return check()
	})
	ended := time.Now()
	p.interruptions()
	if err == nil {
		err = p.verify(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, p.log())
	}
	return ended, err
}

func (p *pipeline) processes() map[string]int {
	all := map[string]int{"cdc": p.cdc.PID(), "bench": os.Getpid()}
	if p.invalidator != nil {
		all["invalidator"], all["redis"] = p.invalidator.PID(), p.rig.redisPID
	}
	return all
}

func (p *pipeline) close() error {
	var errs []error
	for _, program := range []*testkit.Program{p.invalidator, p.cdc} {
		if program != nil {
			errs = append(errs, program.Kill())
		}
	}
	if p.nats != nil {
		p.nats.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}
