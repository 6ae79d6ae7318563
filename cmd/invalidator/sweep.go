package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/apply"
	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// feedPatience is how long the feed may take to answer a command that somebody waits for.
const feedPatience = 5 * time.Second

type sweepCommand struct {
	Rule   []string `name:"rule" placeholder:"NAME" help:"Only what these rules can have rendered. May be repeated."`
	Tenant string   `name:"tenant" placeholder:"TENANT" help:"Only of this tenant, as in its rows. Leaves global rules alone."`
	All    bool     `name:"all" help:"Everything, of all rules and tenants."`
	DryRun bool     `name:"dry-run" help:"Count, and remove nothing."`
	NoFeed bool     `name:"no-feed" help:"Do not tell applications' own caches. Needs no NATS."`
	Rate   int      `name:"rate" default:"250000" placeholder:"N" help:"Places of the keyspace to look at, per second and primary."`

	ruleSettings `embed:""`
	config.NATS  `embed:"" group:"NATS"`
}

// Run sweeps every cache that is concerned, says how many keys went, and tells the feed.
func (c *sweepCommand) Run(ctx context.Context, env *config.Env) (err error) {
	program, err := c.load(env)
	if err != nil {
		return err
	}
	requests, err := c.requests(program)
	if err != nil {
		return config.Mistake(err)
	}
	caches, err := openCaches(program)
	if err != nil {
		return err
	}
	defer func() {
		if failed := closeCaches(caches); err == nil {
			err = failed
		}
	}()
	tell := func(context.Context) error { return nil }
	if !c.DryRun && !c.NoFeed {
		nc, err := c.connect(ctx)
		if err != nil {
			return err
		}
		defer nc.Close()
		tell = func(ctx context.Context) error { return tellFeed(ctx, nc, program, requests) }
	}
	for i, cache := range caches {
		var patterns []events.Pattern
		for _, r := range requests {
			patterns = append(patterns, r.Patterns(program, i)...)
		}
		if err := c.sweep(ctx, env, cache, patterns); err != nil {
			return err
		}
	}
	return tell(ctx)
}

// requests turns the flags into sweeps.
func (c *sweepCommand) requests(p *mapping.Program) ([]apply.Request, error) {
	const reason = "asked for by hand"
	byTenant := c.Tenant != ""
	switch {
	case c.All && (byTenant || len(c.Rule) > 0):
		return nil, fmt.Errorf("--all goes with neither --rule nor --tenant")
	case c.All:
		return []apply.Request{{Reason: reason}}, nil
	case !byTenant && len(c.Rule) == 0:
		return nil, fmt.Errorf("say what to sweep: --rule NAME, --tenant TENANT, both, or --all")
	}
	rules, err := c.rules(p)
	if err != nil {
		return nil, err
	}
	var requests []apply.Request
	for _, r := range rules {
		if r.Global && byTenant {
			continue
		}
		requests = append(requests, apply.Request{Rule: r, Tenant: c.Tenant, All: !byTenant, Reason: reason})
	}
	if len(requests) == 0 {
		return nil, fmt.Errorf("no rule has keys of a tenant: leave --tenant out")
	}
	return requests, nil
}

func (c *sweepCommand) rules(p *mapping.Program) ([]*mapping.Rule, error) {
	if len(c.Rule) == 0 {
		return p.Rules(), nil
	}
	var rules []*mapping.Rule
	for _, name := range c.Rule {
		r := p.Rule(name)
		if r == nil {
			return nil, fmt.Errorf("%s has no rule %q", c.Path, name)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func (c *sweepCommand) sweep(ctx context.Context, env *config.Env, cache apply.Cache, patterns []events.Pattern) error {
	if len(patterns) == 0 {
		return nil
	}
	show := newDisplay(env.Stderr)
	began := time.Now()
	done, err := cache.Client.Sweep(ctx, redis.Sweep{
		Patterns: patterns, Rate: c.Rate, DryRun: c.DryRun,
		Progress: func(p redis.Progress) { show.update(fmt.Sprintf("cache %s: %s", cache.Name, describe(p, c.DryRun))) },
	})
	show.end()
	if err != nil {
		return fmt.Errorf("sweep cache %s: %w", cache.Name, err)
	}
	_, err = fmt.Fprintf(env.Stdout, "cache %s: %s, in %v\n", cache.Name, describe(done, c.DryRun), time.Since(began).Round(time.Millisecond))
	return err
}

func describe(p redis.Progress, dry bool) string {
	if dry {
		return fmt.Sprintf("%d keys would be removed", p.Keys)
	}
	return fmt.Sprintf("%d keys and %d guards removed", p.Keys, p.Guards)
}

// connect connects at once or not at all: a sweep whose outcome the feed cannot be told of should not begin.
func (c *sweepCommand) connect(ctx context.Context) (*nats.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, feedPatience)
	defer cancel()
	nc, err := stream.Connect(ctx, streamConfig(c.NATS), "invalidator sweep", zap.NewNop())
	if err != nil {
		return nil, fmt.Errorf("%w: --no-feed sweeps without telling applications' own caches", mistaken(err))
	}
	return nc, nil
}

func tellFeed(ctx context.Context, nc *nats.Conn, p *mapping.Program, done []apply.Request) error {
	feed, err := stream.NewPublisher(nc, stream.PublisherOptions{})
	if err != nil {
		return fmt.Errorf("open feed: %w", err)
	}
	defer feed.Close()
	ctx, cancel := context.WithTimeout(ctx, feedPatience)
	defer cancel()
	if err := apply.Tell(ctx, feed, p, done); err != nil {
		return fmt.Errorf("tell applications' own caches, which may keep what was swept: %w", err)
	}
	return nil
}
