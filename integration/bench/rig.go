package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/internal/testkit"
)

// The publications. All exist before anything is written: decoding looks them up as they were then.
const (
	fullPublication  = "bench_full"     // of whole rows, made by hand
	ownPublication   = "walfence"       // as `cdc setup` makes it
	listsPublication = "walfence_lists" // the same with column lists
)

// role is whom cdc logs in as. Until it may, cdc waits with all else done.
const role = "bench"

// rig is the servers, the table and the programs that everything is measured with.
type rig struct {
	dir         string
	rules       string
	cluster     *testkit.Cluster
	redis       *testkit.RedisServer
	cache       *redis.Client
	control     *pgx.Conn // of the superuser
	version     string    // of PostgreSQL
	redisPID    int
	cdc         string // path of the program
	invalidator string
	attempts    int // numbers the programs' directories
	closers     []func() error
}

// openRig starts the servers, builds the programs and fills a table of so many rows.
func openRig(ctx context.Context, rows int) (r *rig, err error) {
	r = &rig{}
	if r.dir, err = os.MkdirTemp("", "walfence-bench-"); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	r.onClose(func() error { return os.RemoveAll(r.dir) })
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	for _, step := range []func(context.Context) error{
		r.build, r.startServers, r.connect, func(ctx context.Context) error { return r.fill(ctx, rows) }, r.publish,
	} {
		if err := step(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *rig) onClose(f func() error) { r.closers = append(r.closers, f) }

// close ends all, last first.
func (r *rig) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

func (r *rig) build(context.Context) (err error) {
	progress("building the programs")
	if err := os.Chmod(r.dir, 0o755); err != nil { // PostgreSQL runs as another user
		return fmt.Errorf("open directory: %w", err)
	}
	r.rules = filepath.Join(r.dir, "rules.yaml")
	if err := os.WriteFile(r.rules, []byte(rules), 0o644); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	if r.cdc, err = testkit.Build("cmd/cdc"); err != nil {
		return err
	}
	r.invalidator, err = testkit.Build("cmd/invalidator")
	return err
}

// startServers starts them so that nothing happens in the background while somebody is measured.
func (r *rig) startServers(context.Context) error {
	progress("starting PostgreSQL and Redis")
	postgres, cache := filepath.Join(r.dir, "pg"), filepath.Join(r.dir, "redis")
	for _, dir := range []string{postgres, cache} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	var err error
	r.cluster, err = testkit.OpenCluster(postgres, "autovacuum=off", "checkpoint_timeout=1h", "max_wal_size=20GB", "shared_buffers=256MB")
	if err != nil {
		return err
	}
	r.onClose(r.cluster.Close)
	if r.redis, err = testkit.OpenRedis(cache); err != nil {
		return err
	}
	r.onClose(r.redis.Kill)
	return nil
}

func (r *rig) connect(ctx context.Context) (err error) {
	if r.control, err = pgx.Connect(ctx, r.cluster.URL("postgres")); err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	r.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return r.control.Close(ctx)
	})
	r.cache = redis.NewClient(&redis.Options{Addr: r.redis.Addr, DisableIdentity: true})
	r.onClose(r.cache.Close)
	info, err := r.cache.Info(ctx, "server").Result()
	if err != nil {
		return fmt.Errorf("ask redis: %w", err)
	}
	_, rest, _ := strings.Cut(info, "process_id:")
	if _, err := fmt.Sscan(rest, &r.redisPID); err != nil {
		return fmt.Errorf("read process id of redis: %w", err)
	}
	return r.control.QueryRow(ctx, "SHOW server_version").Scan(&r.version)
}

func (r *rig) fill(ctx context.Context, rows int) error {
	progress("filling a table with %d rows", rows)
	if _, err := r.control.Exec(ctx, schema, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("create table: %w", err)
	}
	if err := r.exec(ctx, "fill table", fillTable, rows); err != nil {
		return err
	}
	return r.exec(ctx, "analyze table", "VACUUM (ANALYZE) items")
}

// publish makes the publications: ours as users make them, with slots that are not needed here.
func (r *rig) publish(ctx context.Context) error {
	if err := r.exec(ctx, "create role", "CREATE ROLE "+role+" SUPERUSER LOGIN"); err != nil {
		return err
	}
	if err := r.exec(ctx, "create publication", "CREATE PUBLICATION "+fullPublication+" FOR TABLE items"); err != nil {
		return err
	}
	for _, lists := range []bool{false, true} {
		if err := r.setup(ctx, lists); err != nil {
			return err
		}
	}
	return nil
}

// url is how cdc reaches the database.
func (r *rig) url() string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: fmt.Sprintf("127.0.0.1:%d", r.cluster.Port), Path: "postgres", RawQuery: "sslmode=disable"}
	return u.String()
}

// hold keeps cdc from logging in, or lets it.
func (r *rig) hold(ctx context.Context, held bool) error {
	if held {
		return r.exec(ctx, "hold cdc", "ALTER ROLE "+role+" NOLOGIN")
	}
	return r.exec(ctx, "let cdc in", "ALTER ROLE "+role+" LOGIN")
}

// fillCacheTo stores the keys of rows 1 to rows in an empty cache.
func (r *rig) fillCacheTo(ctx context.Context, rows int) error {
	if err := r.cache.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty cache: %w", err)
	}
	const chunk = 10_000
	for first := 1; first <= rows; first += chunk {
		if err := r.cache.Eval(ctx, fillCache, nil, first, min(first+chunk-1, rows)).Err(); err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("fill cache: %w", err)
		}
	}
	return nil
}

func (r *rig) machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s, PostgreSQL %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), r.version)
}

// stop is an error after which waiting is in vain.
type stop struct{ error }

// wait calls check every so often until it returns nil, and returns its last error once the time is up.
func wait(ctx context.Context, timeout, every time.Duration, check func() error) error {
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		var final stop
		if errors.As(err, &final) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", timeout, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
