package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const redisPatience = 30 * time.Second

// RedisServer is one redis-server. Its methods may be called from one goroutine at a time, except URL.
type RedisServer struct {
	// Addr is its host and port, also after a restart.
	Addr string
	// Socket is its Unix socket.
	Socket string
	// Dir holds what it saves, its configuration if it is a sentinel, and redis.log.
	Dir string
	// Args are what the next start uses, such as "--requirepass", "secret".
	Args []string

	process  *process
	sentinel bool
}

// Redis starts a server for one test. The arguments follow the defaults and so win: saving nothing, no password.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	r, err := OpenRedis(scratchFor(t, "redis"), args...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	closeWith(t, r)
	return r
}

func closeWith(t testing.TB, r *RedisServer) {
	t.Helper()
	t.Cleanup(func() {
		if err := r.Kill(); err != nil {
			t.Errorf("close redis: %v", err)
		}
	})
}

// OpenRedis starts a server on a free port that keeps its files in dir.
func OpenRedis(dir string, args ...string) (*RedisServer, error) {
	r := &RedisServer{Dir: dir, Socket: filepath.Join(dir, "redis.sock"), Args: args}
	return r, r.startOnFreePort()
}

func (r *RedisServer) startOnFreePort() error {
	for try := 0; ; try++ {
		port, err := freePort()
		if err != nil {
			return err
		}
		r.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if err = r.Start(); err == nil || try == 4 || !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
	}
}

// Start starts a stopped server on its old port, with what it saved, and waits until it answers.
func (r *RedisServer) Start() error {
	path, err := redisBin()
	if err != nil {
		return err
	}
	p, err := start(command{
		path: path, args: r.arguments(), dir: r.Dir, stderr: filepath.Join(r.Dir, "redis.log"), died: syscall.SIGKILL,
	})
	if err != nil {
		return err
	}
	r.process = p
	err = poll(redisPatience, func() error {
		if !p.running() {
			return fmt.Errorf("%w: redis ended: %s", errStop, tail(filepath.Join(r.Dir, "redis.log"), 10))
		}
		return r.ping()
	})
	if err != nil {
		return errors.Join(fmt.Errorf("start redis: %w", err), p.end(syscall.SIGKILL, redisPatience))
	}
	return nil
}

func (r *RedisServer) arguments() []string {
	_, port, _ := net.SplitHostPort(r.Addr)
	var args []string
	if r.sentinel {
		args = append(args, filepath.Join(r.Dir, "sentinel.conf"), "--sentinel")
	}
	args = append(args, "--port", port, "--bind", "127.0.0.1", "--unixsocket", r.Socket, "--dir", r.Dir)
	if !r.sentinel {
		args = append(args, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
	}
	return append(args, r.Args...)
}

// ping speaks the protocol itself: any answer will do, also one that asks for a password.
func (r *RedisServer) ping() error {
	conn, err := net.DialTimeout("tcp", r.Addr, time.Second)
	if err != nil {
		return fmt.Errorf("connect to redis: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	if err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	if strings.HasPrefix(string(answer[:n]), "-LOADING") {
		return errors.New("ping redis: still loading")
	}
	return nil
}

// Stop ends the server as an operator would: it saves what it is configured to save.
func (r *RedisServer) Stop() error { return r.end(syscall.SIGTERM) }

// Kill ends the server with kill -9. It may be called again.
func (r *RedisServer) Kill() error { return r.end(syscall.SIGKILL) }

func (r *RedisServer) end(signal os.Signal) error {
	if err := r.process.end(signal, redisPatience); err != nil {
		return fmt.Errorf("stop redis: %w", err)
	}
	return nil
}

// Restart stops the server and starts it again.
func (r *RedisServer) Restart() error {
	if err := r.Stop(); err != nil {
		return err
	}
	return r.Start()
}

// URL names one of the server's databases, over TCP.
func (r *RedisServer) URL(database int) string {
	return fmt.Sprintf("redis://%s/%d", r.Addr, database)
}

// Client opens a client of database 0 that is closed with the test.
func (r *RedisServer) Client(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// do sends one command on a connection of its own and returns the answer.
func (r *RedisServer) do(args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), redisPatience)
	defer cancel()
	c := redis.NewClient(&redis.Options{Addr: r.Addr, DisableIdentity: true})
	defer c.Close()
	answer, err := c.Do(ctx, args...).Result()
	if err != nil {
		return nil, fmt.Errorf("send %v to redis: %w", args[0], err)
	}
	return answer, nil
}
