package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/integration/check"
	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/testkit"
)

// unguarded fills whatever it has read, long enough after it has read it for commits to come in between on a slow machine too.
type unguarded struct{ client redis.UniversalClient }

func (u unguarded) Get(ctx context.Context, key string, load func(context.Context) (check.Value, error)) (check.Value, error) {
	var value check.Value
	if text, err := u.client.Get(ctx, key).Bytes(); err == nil {
		return value, json.Unmarshal(text, &value)
	}
	value, err := load(ctx)
	if err != nil {
		return value, err
	}
	text, err := json.Marshal(value)
	time.AfterFunc(rand.N(1500*time.Millisecond), func() { u.client.Set(context.WithoutCancel(ctx), key, text, 0) })
	return value, err
}

func TestReadersWithoutAGuardLeaveStaleValuesAndTheDemoSaysSo(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), settings{length: 8 * time.Second, open: func(c redis.UniversalClient) (check.Cache, error) {
		return unguarded{c}, nil
	}}, &out)
	require.ErrorIs(t, err, errStale, out.String())
	require.Regexp(t, `stale values +[1-9]`, out.String())
	require.Regexp(t, `tenant:\d+:.*: cached \{.*\}, database \{`, out.String())
	require.NotContains(t, out.String(), "No cached value differs")
}

func TestDemoShowsBothKillsAndEndsByItselfWithNothingStale(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), settings{length: 5 * time.Second, open: guarded}, &out), out.String())
	for _, want := range []string{
		"psql 'postgres://", "redis-cli -p ", "/status", "kill -9 cdc", "cdc is ready again", "kill -9 invalidator",
		"invalidator is ready again", "TRUNCATE", "No cached value differs",
	} {
		require.Contains(t, out.String(), want)
	}
	for _, want := range []string{`commits +[1-9]`, `keys invalidated +[1-9]`, `stale values +0 of [1-9]`, `other tenants' keys +0 of [1-9]`} {
		require.Regexp(t, want, out.String())
	}
	require.NotContains(t, out.String(), "\x1b", "this is no terminal")
	requireNothingLeft(t, out.String(), `log in (/.*/demo-\d+)/`)
}

func TestCtrlCEndsTheDemoWithASummaryAndLeavesNothingBehind(t *testing.T) {
	demo := start(t, "")
	await(t, demo, "kill -9 cdc") // it is away just now
	require.NoError(t, demo.Signal(syscall.SIGINT))
	require.Equal(t, 0, demo.Exit(t, 2*time.Minute), demo.Stderr())
	require.Contains(t, demo.Stdout(), "No cached value differs")
	requireNothingLeft(t, demo.Stdout(), `log in (/.*/walfence-\d+)/`)
}

func TestSecondsThatAreNoNumberAreAMistake(t *testing.T) {
	for _, seconds := range []string{"soon", "-1", "0", "20s", "1e9"} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, config.CodeMistake, realMain(t.Context(), seconds, &stdout, &stderr))
		require.Contains(t, stderr.String(), "DEMO_SECONDS")
		require.Empty(t, stdout.String())
	}
}

func start(t *testing.T, seconds string) *testkit.Program {
	t.Helper()
	path, err := testkit.Build("integration/demo")
	require.NoError(t, err)
	env := map[string]string{"DEMO_SECONDS": seconds}
	for _, name := range []string{"PG_BIN", "POSTGRES_VERSION", "REDIS_SERVER", "GOCACHE", "GOPATH", "GOFLAGS", "GOPROXY"} {
		if value, ok := os.LookupEnv(name); ok {
			env[name] = value
		}
	}
	return testkit.Run(t, path, env)
}

func await(t *testing.T, demo *testkit.Program, text string) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() error {
		if !strings.Contains(demo.Stdout(), text) {
			return fmt.Errorf("it has not said %q: %s%s", text, demo.Stdout(), demo.Stderr())
		}
		return nil
	})
}

// requireNothingLeft looks for a directory that the demo has named, and for processes whose command line or working
// directory is in it.
func requireNothingLeft(t *testing.T, stdout, dir string) {
	t.Helper()
	found := regexp.MustCompile(dir).FindStringSubmatch(stdout)
	require.NotNil(t, found, stdout)
	testkit.Eventually(t, 20*time.Second, func() error {
		if _, err := os.Stat(found[1]); !os.IsNotExist(err) {
			return fmt.Errorf("%s is still there: %w", found[1], err)
		}
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err
		}
		for _, line := range lines {
			cwd, _ := os.Readlink(filepath.Join(filepath.Dir(line), "cwd"))
			command, _ := os.ReadFile(line) // it may have ended
			if strings.Contains(cwd+string(command), found[1]) {
				return fmt.Errorf("still running: %q", command)
			}
		}
		return nil
	})
}
