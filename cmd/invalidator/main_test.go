package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const rules = `
version: 1
source: shop
tenant: {column: tenant_id}
caches:
  main: {redis: "${REDIS_URL}"}
rules:
  - name: user
    table: users
    delete: ["tenant:{tenant}:user:{id}"]
  - name: settings
    table: settings
    tenant: global
    delete: [settings]
`

// neighbours are what an invalidator needs.
type neighbours struct {
	redis *testkit.RedisServer
	nats  *testkit.NATSServer
	js    jetstream.JetStream
	rules string
}

func setUp(t *testing.T) *neighbours {
	t.Helper()
	n := &neighbours{redis: testkit.Redis(t), nats: testkit.NATS(t)}
	n.js = n.nats.JetStream(t)
	_, err := stream.Ensure(t.Context(), n.js, stream.Config{MaxBytes: 1 << 30})
	require.NoError(t, err)
	n.rules = writeRules(t, rules)
	return n
}

func writeRules(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (n *neighbours) env() map[string]string {
	return map[string]string{
		"NATS_URL": n.nats.URL, "REDIS_URL": n.redis.URL(0), "RULES": n.rules, "INVALIDATOR_HTTP": "127.0.0.1:0", "WORKERS": "2",
	}
}

// publish puts an event of one updated user on CHANGES.
func (n *neighbours) publish(t *testing.T, lsn events.LSN, tenant, id string) {
	t.Helper()
	e := events.Event{
		Version: 1, Kind: events.KindRows, Source: "shop", Position: events.Position{Epoch: 1, LSN: lsn}, XID: 7, Time: time.Now(),
		Table: events.Table{Schema: "public", Name: "users"}, Columns: []string{"id", "tenant_id"}, Identity: []bool{true, true},
		Changes: []events.Change{{Op: events.Update, New: []events.Value{events.Text(id), events.Text(tenant)}}},
	}
	_, err := n.js.Publish(t.Context(), events.ChangesSubject("shop", e.Table), e.AppendBody(nil))
	require.NoError(t, err)
}

// invoke runs a command in this process.
func invoke(ctx context.Context, env map[string]string, args ...string) (code int, stdout, stderr string) {
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	var out, err lockedBuffer
	code = realMain(ctx, args, environ, &out, &err)
	return code, out.String(), err.String()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func get(t *testing.T, p *testkit.Program, path string) (int, string) {
	t.Helper()
	address := p.Await(t, 10*time.Second, "http listens").Text("address")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	require.NoError(t, err)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func awaitReady(t *testing.T, p *testkit.Program) {
	t.Helper()
	testkit.Eventually(t, 15*time.Second, func() error {
		if code, body := get(t, p, "/readyz"); code != http.StatusOK {
			return fmt.Errorf("not ready: %s", body)
		}
		return nil
	})
}

func TestRunRemovesKeysReportsAndEndsOnSIGTERM(t *testing.T) {
	n := setUp(t)
	client := n.redis.Client(t)
	require.NoError(t, client.MSet(t.Context(), "tenant:7:user:1", "old", "tenant:8:user:1", "other").Err())
	p := testkit.Run(t, testkit.Binary(t, "invalidator"), n.env(), "run")
	testkit.Eventually(t, 10*time.Second, func() error {
		code, body := get(t, p, "/readyz")
		if code != http.StatusServiceUnavailable || body != "epoch: no event or heartbeat was applied yet\n" {
			return fmt.Errorf("readyz %d: %s", code, body)
		}
		return nil
	})
	n.publish(t, 1, "7", "1")
	testkit.Eventually(t, 15*time.Second, func() error {
		if client.Exists(t.Context(), "tenant:7:user:1").Val() == 1 {
			return fmt.Errorf("the key is still there")
		}
		return nil
	})
	require.EqualValues(t, 1, client.Exists(t.Context(), "tenant:8:user:1").Val())
	awaitReady(t, p)
	_, body := get(t, p, "/status")
	require.Contains(t, body, `"lsn": "0/1"`)
	_, body = get(t, p, "/metrics")
	require.Contains(t, body, `walfence_keys_invalidated_total{action="delete",rule="user"} 1`)
	require.Contains(t, body, "walfence_commit_to_invalidated_seconds_count 1")

	require.NoError(t, p.Signal(syscall.SIGTERM))
	require.Zero(t, p.Exit(t, 10*time.Second))
	c, err := n.js.Consumer(t.Context(), stream.Changes, stream.Invalidator)
	require.NoError(t, err)
	require.EqualValues(t, 1, c.CachedInfo().AckFloor.Stream)
}

func TestRunWaitsForItsNeighboursAndSaysWhichOnceAMinute(t *testing.T) {
	n := setUp(t)
	env := n.env()
	env["REDIS_URL"] = "redis://walfence:sesame@" + n.redis.Addr + "/0"
	require.NoError(t, n.redis.Kill())
	n.nats.Stop()
	p := testkit.Run(t, testkit.Binary(t, "invalidator"), env, "run")
	testkit.Eventually(t, 10*time.Second, func() error {
		if _, body := get(t, p, "/readyz"); !strings.Contains(body, "nats: cannot connect") {
			return fmt.Errorf("not named: %s", body)
		}
		return nil
	})
	require.NoError(t, n.nats.Start())
	testkit.Eventually(t, 10*time.Second, func() error {
		if _, body := get(t, p, "/readyz"); !strings.Contains(body, "cache main: ") || !strings.Contains(body, "connection refused") {
			return fmt.Errorf("not named: %s", body)
		}
		return nil
	})
	n.redis.Args = append(n.redis.Args, strings.Fields("--user walfence on >sesame ~* -@all +unlink +scan +info +ping +hello")...)
	require.NoError(t, n.redis.Start())
	n.publish(t, 1, "7", "1")
	awaitReady(t, p)
	lines := map[string]int{}
	for _, e := range p.Log() {
		lines[e.Message()]++
	}
	require.Equal(t, 1, lines["cannot connect to nats, trying again"])
	require.Equal(t, 1, lines["cache does not take invalidations, they wait"])
	require.NotContains(t, p.Stderr()+p.Stdout(), "sesame")
}

func TestRunWaitsUntilCDCHasMadeTheStreams(t *testing.T) {
	n := &neighbours{redis: testkit.Redis(t), nats: testkit.NATS(t), rules: writeRules(t, rules)}
	p := testkit.Run(t, testkit.Binary(t, "invalidator"), n.env(), "run")
	p.Await(t, 10*time.Second, "streams are not there, waiting for cdc")
	n.js = n.nats.JetStream(t)
	_, err := stream.Ensure(t.Context(), n.js, stream.Config{MaxBytes: 1 << 30})
	require.NoError(t, err)
	n.publish(t, 1, "7", "1")
	awaitReady(t, p)
}

func TestMistakesArePrintedAllAtOnceAndExitWithTwo(t *testing.T) {
	env := map[string]string{"RULES": writeRules(t, "version: 2\nsource: shop\nrulez: []\ncaches: {main: {redis: 'x'}}\n")}
	code, stdout, stderr := invoke(t.Context(), env, "run")
	require.Equal(t, 2, code)
	require.Empty(t, stdout)
	for _, want := range []string{"rules.yaml:1:", "rules.yaml:3:", "rules.yaml:4:"} {
		require.Contains(t, stderr, want)
	}
	for _, args := range [][]string{
		{"run", "--rules", "/nonexisting"},
		{"run", "--workers", "0"},
		{"sweep"},
		{"sweep", "--all", "--tenant", "7"},
		{"tail", "--only", "everything"},
		{"unknown"},
	} {
		code, _, stderr := invoke(t.Context(), map[string]string{"RULES": writeRules(t, rules)}, args...)
		require.Equal(t, 2, code, "%v: %s", args, stderr)
		require.NotEmpty(t, stderr)
	}
	code, _, stderr = invoke(t.Context(), map[string]string{
		"RULES": writeRules(t, rules), "REDIS_URL": "redis-sentinel://:sesame@h:26379",
	}, "run")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "the primary's name is missing")
	require.NotContains(t, stderr, "sesame")
}

func TestVersionNamesTheProgram(t *testing.T) {
	code, stdout, _ := invoke(t.Context(), nil, "version")
	require.Zero(t, code)
	require.True(t, strings.HasPrefix(stdout, "invalidator "))
}
