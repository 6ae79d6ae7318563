package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/integration/check"
	"github.com/walfence/walfence/integration/shop"
	"github.com/walfence/walfence/internal/testkit"
)

const database = "shop"

// stage is everything that runs: servers, programs, and connections to them.
type stage struct {
	dir      string
	postgres *testkit.Cluster
	redis    *testkit.RedisServer
	nats     string // address of the server inside cdc

	cdc, invalidator *program
	shop             *shop.Shop

	conn      *pgx.Conn
	client    *redis.Client
	bus       *nats.Conn
	jetstream jetstream.JetStream
}

// open starts the servers, makes the shop, and builds the programs. What it returns must be closed, also after an error.
func open(ctx context.Context) (s *stage, err error) {
	s = &stage{shop: shop.New()}
	if s.dir, err = testkit.OpenScratch("demo"); err != nil {
		return s, err
	}
	for _, step := range []func(context.Context) error{s.openPostgres, s.openRedis, s.openPrograms} {
		if err := step(ctx); err != nil {
			return s, err
		}
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
	}
	return s, nil
}

// make makes a directory below the stage's, for one server.
func (s *stage) make(name string) (string, error) {
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	return dir, nil
}

func (s *stage) openPostgres(ctx context.Context) error {
	dir, err := s.make("postgres")
	if err != nil {
		return err
	}
	if s.postgres, err = testkit.OpenCluster(dir); err != nil {
		return err
	}
	if err := s.postgres.Exec("postgres", "CREATE DATABASE "+database); err != nil {
		return err
	}
	if s.conn, err = pgx.Connect(ctx, s.postgres.URL(database)); err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	return s.shop.Create(ctx, s.conn)
}

func (s *stage) openRedis(context.Context) error {
	dir, err := s.make("redis")
	if err != nil {
		return err
	}
	if s.redis, err = testkit.OpenRedis(dir); err != nil {
		return err
	}
	s.client = redis.NewClient(&redis.Options{Addr: s.redis.Addr, ContextTimeoutEnabled: true})
	return nil
}

func (s *stage) openPrograms(context.Context) error {
	var ports [3]string
	for i := range ports {
		port, err := testkit.FreePort()
		if err != nil {
			return err
		}
		ports[i] = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	s.nats = ports[2]
	shared := map[string]string{
		"RULES": filepath.Join(testkit.Top(), "rules.yaml"), "REDIS_URL": s.redis.URL(0), "NATS_LISTEN": s.nats,
	}
	var err error
	if s.cdc, err = s.program("cdc", ports[0], shared, map[string]string{
		"DATABASE_URL": s.postgres.URL(database), "NATS_STORE": filepath.Join(s.dir, "nats"), "CDC_HTTP": ports[0],
	}); err != nil {
		return err
	}
	s.invalidator, err = s.program("invalidator", ports[1], shared, map[string]string{"INVALIDATOR_HTTP": ports[1]})
	return err
}

// introduce tells where everything is, so that one can look at it while it runs.
func (s *stage) introduce(out *screen) {
	version, _, _ := strings.Cut(s.conn.PgConn().ParameterStatus("server_version"), " ")
	out.say("")
	out.say("%-12s psql '%s'   (version %s)", "postgres",
		strings.TrimSuffix(s.postgres.URL(database), "?sslmode=disable"), version)
	_, port, _ := net.SplitHostPort(s.redis.Addr)
	out.say("%-12s redis-cli -p %s", "redis", port)
	out.say("%-12s nats://%s   (JetStream, in cdc)", "nats", s.nats)
	for _, p := range []*program{s.cdc, s.invalidator} {
		out.say("%-12s http://%s/status and /metrics", p.Name, p.Address)
		out.say("%-12s log in %s", "", filepath.Join(p.dir, "stderr.log"))
	}
	out.say("%-12s %d tenants, rules.yaml says which keys a change makes stale", "shop", s.shop.Tenants)
	out.say("")
}

const readyPatience = time.Minute

// start runs the programs and waits until both are ready.
func (s *stage) start(ctx context.Context) error {
	for _, p := range []*program{s.cdc, s.invalidator} {
		if err := p.start(); err != nil {
			return err
		}
	}
	for _, p := range []*program{s.cdc, s.invalidator} {
		if err := p.awaitReady(ctx, readyPatience); err != nil {
			return err
		}
	}
	var err error
	if s.bus, err = nats.Connect("nats://"+s.nats, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond)); err != nil {
		return fmt.Errorf("connect to nats: %w", err)
	}
	if s.jetstream, err = jetstream.New(s.bus); err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	return nil
}

// settle waits until everything that is committed is applied.
func (s *stage) settle(ctx context.Context) error {
	b := check.Barrier{
		SQL: shop.MarkerSQL, Key: shop.MarkerKey, Conn: s.conn, Redis: s.client,
		JetStream: s.jetstream, Changes: "CHANGES", Consumer: "invalidator",
	}
	return b.Wait(ctx)
}

// close ends everything, the programs first, and removes what was written.
func (s *stage) close() error {
	var errs []error
	for _, p := range []*program{s.invalidator, s.cdc} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	if s.bus != nil {
		s.bus.Close()
	}
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	if s.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		errs = append(errs, s.conn.Close(ctx))
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Kill())
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}
