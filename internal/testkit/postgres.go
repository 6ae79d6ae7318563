package testkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresPatience bounds every start and stop. A crash recovery on a busy machine is the slowest.
const postgresPatience = time.Minute

// StopMode says how PostgreSQL is stopped.
type StopMode int

const (
	// Fast ends sessions, lets replication catch up and writes a checkpoint.
	Fast StopMode = iota
	// Immediate drops everything. The next start recovers, like after a crash.
	Immediate
)

// Cluster is one PostgreSQL server with a data directory of its own. Its methods may be called from one goroutine at a
// time, except URL and SocketURL.
type Cluster struct {
	// Dir holds the data directory, the Unix socket and postgres.log.
	Dir string
	// Bin is the directory of the binaries: pg_recvlogical, psql and the rest.
	Bin string
	// Port is where it listens on 127.0.0.1, also after a restart.
	Port int

	settings []string
	user     *syscall.Credential
	process  *process
	shared   bool
}

// shared is the server of all tests of this process. It ends with the process.
var shared = sync.OnceValues(func() (*Cluster, error) {
	dir, err := scratch("pg")
	if err != nil {
		return nil, err
	}
	c, err := OpenCluster(dir)
	if err != nil {
		return nil, err
	}
	c.shared = true
	return c, nil
})

// Postgres returns the server that all tests of this process share. It must not be stopped: a test that needs that
// takes a PrivatePostgres.
func Postgres(t testing.TB) *Cluster {
	t.Helper()
	c, err := shared()
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			keep(t, c.Dir)
		}
	})
	return c
}

// PrivatePostgres starts a server for one test, with settings such as "fsync=on" on top of what OpenCluster sets.
func PrivatePostgres(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	c, err := OpenCluster(scratchFor(t, "pg"), settings...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close postgres: %v", err)
		}
	})
	return c
}

// OpenCluster creates a data directory in dir and starts a server on it: user postgres, no password, logical
// replication, 50 slots, and fsync off unless the settings say otherwise.
func OpenCluster(dir string, settings ...string) (*Cluster, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	user, err := unprivileged()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir, Bin: bin, settings: settings, user: user}
	if user != nil {
		if err := os.Chown(dir, int(user.Uid), int(user.Gid)); err != nil {
			return nil, fmt.Errorf("give directory to postgres: %w", err)
		}
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), "--no-sync", "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--pgdata="+c.data())
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run initdb: %w: %s", err, out)
	}
	return c, c.startOnFreePort()
}

func (c *Cluster) startOnFreePort() error {
	for try := 0; ; try++ {
		port, err := freePort()
		if err != nil {
			return err
		}
		c.Port = port
		if err = c.Start(); err == nil || try == 4 || !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
	}
}

func (c *Cluster) data() string { return filepath.Join(c.Dir, "data") }

func (c *Cluster) log() string { return filepath.Join(c.Dir, "postgres.log") }

// Start starts a stopped server on its old port and waits until it accepts connections.
func (c *Cluster) Start() error {
	p, err := start(command{
		path: filepath.Join(c.Bin, "postgres"), args: c.arguments(), dir: c.Dir, stderr: c.log(), user: c.user,
		env: []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}, died: syscall.SIGQUIT,
	})
	if err != nil {
		return err
	}
	c.process = p
	err = poll(postgresPatience, func() error {
		if !p.running() {
			return fmt.Errorf("%w: postgres ended: %s", errStop, tail(c.log(), 10))
		}
		return c.Exec("postgres", "SELECT 1")
	})
	if err != nil {
		return errors.Join(fmt.Errorf("start postgres: %w", err), p.end(syscall.SIGKILL, postgresPatience))
	}
	return nil
}

func (c *Cluster) arguments() []string {
	args := []string{"-D", c.data(), "-p", strconv.Itoa(c.Port), "-k", c.Dir}
	for _, s := range append([]string{
		"listen_addresses=127.0.0.1", "wal_level=logical", "max_wal_senders=50", "max_replication_slots=50",
		"max_connections=200", "max_prepared_transactions=10", "shared_buffers=64MB", "fsync=off",
		"full_page_writes=off", "timezone=UTC", "log_line_prefix=%m [%p] %d ",
	}, c.settings...) {
		args = append(args, "-c", s)
	}
	return args
}

// Stop ends the server and waits until all of its processes are gone.
func (c *Cluster) Stop(mode StopMode) error {
	if mode == Immediate {
		return c.end(syscall.SIGQUIT)
	}
	return c.end(syscall.SIGINT)
}

// Kill ends the server with kill -9 and waits until its backends have noticed.
func (c *Cluster) Kill() error { return c.end(syscall.SIGKILL) }

func (c *Cluster) end(signal os.Signal) error {
	if c.shared {
		return errors.New("stop postgres: other tests share it, use PrivatePostgres")
	}
	if err := c.process.end(signal, postgresPatience); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	return nil
}

// Restart stops the server and starts it again.
func (c *Cluster) Restart(mode StopMode) error {
	if err := c.Stop(mode); err != nil {
		return err
	}
	return c.Start()
}

// Close stops the server for good. It may be called again.
func (c *Cluster) Close() error { return c.end(syscall.SIGQUIT) }

// URL names a database of this server, over TCP.
func (c *Cluster) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", c.Port, url.PathEscape(database))
}

// SocketURL names a database of this server, over its Unix socket.
func (c *Cluster) SocketURL(database string) string {
	return fmt.Sprintf("postgres:///%s?user=postgres&port=%d&host=%s", url.PathEscape(database), c.Port, url.QueryEscape(c.Dir))
}

// Exec runs SQL whose rows nobody wants, on one connection of its own. Statements in one text share a transaction.
func (c *Cluster) Exec(database string, sql ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), postgresPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL(database))
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer conn.Close(ctx)
	for _, text := range sql {
		if _, err := conn.PgConn().Exec(ctx, text).ReadAll(); err != nil {
			return fmt.Errorf("execute statements: %w", err)
		}
	}
	return nil
}
