package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/integration/watch"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

const (
	database     = "torture"
	sourceName   = "torture"
	rows         = 200
	readyTimeout = time.Minute

	// replicaLag is by how much the replica is behind; with synchronous replication, commits are in the stream so long before
	// they are visible.
	replicaLag = 20 * time.Millisecond
)

const schema = `
CREATE TABLE items (id bigint PRIMARY KEY, tenant_id int NOT NULL, ver bigint NOT NULL);
CREATE UNIQUE INDEX items_identity ON items (id, tenant_id);
ALTER TABLE items REPLICA IDENTITY USING INDEX items_identity;
INSERT INTO items SELECT id, id % 50, 1 FROM generate_series(0, 200) AS id;`

const rules = `
version: 1
source: torture
tenant: {column: tenant_id}
caches:
  main: {redis: "${REDIS_URL}"}
rules:
  - name: item
    table: items
    delete:
      - "guarded-primary:tenant:{tenant}:item:{id}"
      - "guarded-replica:tenant:{tenant}:item:{id}"
      - "guarded-local:tenant:{tenant}:item:{id}"
`

// stage is everything that runs, over all rounds.
type stage struct {
	dir              string
	primary, replica *testkit.Cluster
	redis            *testkit.RedisServer
	programs         []*testkit.Program

	conn    *pgx.Conn
	client  *redis.Client
	bus     *nats.Conn
	feed    *cache.Feed
	ways    []*way
	wal     *walReader
	applier *applier
}

// openStage starts all. What it returns must be closed, also after an error.
func openStage(ctx context.Context) (s *stage, err error) {
	s = &stage{}
	if s.dir, err = testkit.OpenScratch("torture"); err != nil {
		return s, err
	}
	for _, step := range []func(context.Context) error{s.openPostgres, s.openRedis, s.openPrograms, s.openCaches} {
		if err := step(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

// make makes a directory below the stage's.
func (s *stage) make(name string) (string, error) {
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	return dir, nil
}

func (s *stage) openPostgres(ctx context.Context) error {
	dir, err := s.make("primary")
	if err != nil {
		return err
	}
	if s.primary, err = testkit.OpenCluster(dir); err != nil {
		return err
	}
	if err := s.primary.Exec("postgres", "CREATE DATABASE "+database); err != nil {
		return err
	}
	if err := s.primary.Exec(database, schema); err != nil {
		return err
	}
	if dir, err = s.make("replica"); err != nil {
		return err
	}
	s.replica, err = s.primary.OpenStandby(dir, "cluster_name=lagging",
		fmt.Sprintf("recovery_min_apply_delay=%dms", replicaLag.Milliseconds()))
	if err != nil {
		return err
	}
	if s.conn, err = pgx.Connect(ctx, s.primary.URL(database)); err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	return nil
}

func (s *stage) openRedis(context.Context) error {
	dir, err := s.make("redis")
	if err != nil {
		return err
	}
	if s.redis, err = testkit.OpenRedis(dir); err != nil {
		return err
	}
	s.client = redis.NewClient(&redis.Options{Addr: s.redis.Addr, ContextTimeoutEnabled: true, PoolSize: 200})
	return nil
}

// openPrograms starts cdc and invalidator, and waits until both are ready.
func (s *stage) openPrograms(ctx context.Context) error {
	var addresses [3]string
	for i := range addresses {
		port, err := testkit.FreePort()
		if err != nil {
			return err
		}
		addresses[i] = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	file := filepath.Join(s.dir, "rules.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	env := map[string]string{
		"RULES": file, "REDIS_URL": s.redis.URL(0), "DATABASE_URL": s.primary.URL(database), "NATS_LISTEN": addresses[2],
		"NATS_STORE": filepath.Join(s.dir, "nats"), "CDC_HTTP": addresses[0], "INVALIDATOR_HTTP": addresses[1], "HEARTBEAT": "200ms",
	}
	for i, name := range []string{"cdc", "invalidator"} {
		if err := s.openProgram(ctx, name, addresses[i], env); err != nil {
			return err
		}
	}
	var err error
	if s.bus, err = nats.Connect("nats://" + addresses[2]); err != nil {
		return fmt.Errorf("connect to nats: %w", err)
	}
	return nil
}

func (s *stage) openProgram(ctx context.Context, name, address string, env map[string]string) error {
	path, err := testkit.Build("cmd/" + name)
	if err != nil {
		return err
	}
	dir, err := s.make(name)
	if err != nil {
		return err
	}
	p, err := testkit.OpenProgram(dir, path, env, "run")
	if err != nil {
		return err
	}
	s.programs = append(s.programs, p)
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	seen := watch.Program{Name: name, Address: address}
	return until(ctx, func() error {
		err := seen.Ready(ctx)
		if err != nil && !p.Running() {
			return fmt.Errorf("%s ended: %s", name, p.Stderr())
		}
		return err
	})
}

// openCaches makes what is tortured.
func (s *stage) openCaches(ctx context.Context) (err error) {
	s.feed, err = cache.OpenFeed(s.bus, cache.FeedOptions{Cache: "main", Source: sourceName})
	if err != nil {
		return err
	}
	if s.ways, err = s.allWays(); err != nil {
		return err
	}
	if s.applier, err = openApplier(s); err != nil {
		return err
	}
	s.wal, err = openWAL(ctx, s.primary.URL(database), s.client, s.ways)
	return err
}

// mode says whether a commit waits for the replica.
type mode int

const (
	local mode = iota
	synchronous
)

func (m mode) String() string { return [...]string{"local commit", "synchronous replication"}[m] }

func (s *stage) setMode(ctx context.Context, m mode) error {
	names := ""
	if m == synchronous {
		names = "lagging"
	}
	for _, sql := range []string{
		"ALTER SYSTEM SET synchronous_commit = 'remote_apply'",
		"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()",
	} {
		if _, err := s.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("set replication: %w", err)
		}
	}
	return nil
}

// close ends everything.
func (s *stage) close() error {
	var errs []error
	if s.wal != nil {
		errs = append(errs, s.wal.close())
	}
	if s.applier != nil {
		s.applier.close()
	}
	for _, w := range s.ways {
		w.protocol.close()
	}
	if s.feed != nil {
		s.feed.Close()
	}
	if s.bus != nil {
		s.bus.Close()
	}
	for _, p := range s.programs {
		errs = append(errs, p.Kill())
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
	for _, c := range []*testkit.Cluster{s.replica, s.primary} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// until asks as long as ctx lasts, and then returns the last error that ctx itself did not cause.
func until(ctx context.Context, check func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}
