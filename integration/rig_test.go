package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walfence/walfence/integration/check"
	"github.com/walfence/walfence/integration/watch"
	"github.com/walfence/walfence/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that takes milliseconds on an idle machine.
const patience = 30 * time.Second

// rig is a database, a cache, JetStream, and the two programs between them.
type rig struct {
	t     *testing.T
	db    *testkit.Database
	redis *testkit.RedisServer
	nats  *testkit.NATSServer // nil: the server inside cdc

	client      *redis.Client
	jetstream   jetstream.JetStream
	env         map[string]string // of both programs
	cdc         *running
	invalidator *running
}

// running is one run of a program.
type running struct {
	*testkit.Program
	at watch.Program
}

// markerRules is a rule for a table that only barriers write.
const markerRules = `
  - {name: marker, table: marker, tenant: {column: id}, delete: ["{tenant}:marker"]}
`

const markerTable = "CREATE TABLE marker (id int PRIMARY KEY, n int); INSERT INTO marker VALUES (1, 0)"

// newRig makes servers for one test, on the PostgreSQL that all tests share. The programs do not run yet.
func newRig(t *testing.T, schema, rules string) *rig {
	t.Helper()
	return rigOn(t, testkit.Postgres(t), schema, rules)
}

// rigOn makes servers for one test beside a PostgreSQL of its own. Rules are what stands below `rules:`.
func rigOn(t *testing.T, pg *testkit.Cluster, schema, rules string) *rig {
	t.Helper()
	r := &rig{t: t, db: pg.NewDatabase(t), redis: testkit.Redis(t), nats: testkit.NATS(t)}
	r.client = r.redis.Client(t)
	r.jetstream = r.nats.JetStream(t, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	r.db.Exec(t, markerTable, schema)
	r.env = map[string]string{
		"DATABASE_URL": r.db.URL, "REDIS_URL": r.redis.URL(0), "NATS_URL": r.nats.URL, "CDC_SLOT": r.db.Name,
		"CDC_HTTP": "127.0.0.1:0", "INVALIDATOR_HTTP": "127.0.0.1:0", "HEARTBEAT": "200ms", "WORKERS": "2",
		"RULES": r.write("rules.yaml", rulesHead+rules+markerRules),
	}
	return r
}

const rulesHead = `version: 1
source: shop
tenant: {column: tenant_id}
caches:
  main: {redis: "${REDIS_URL}", guard: 10s}
rules:
`

// write writes a file of the test.
func (r *rig) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), name)
	require.NoError(r.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// embed makes cdc run JetStream itself.
func (r *rig) embed() {
	r.t.Helper()
	port, err := testkit.FreePort()
	require.NoError(r.t, err)
	r.env["NATS_URL"], r.env["NATS_LISTEN"] = "embedded", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	r.env["NATS_STORE"] = filepath.Join(r.t.TempDir(), "nats")
	r.nats.Stop()
	r.nats = nil
}

// connectEmbedded connects to the server inside cdc, once it is there.
func (r *rig) connectEmbedded() {
	r.t.Helper()
	conn, err := nats.Connect("nats://"+r.env["NATS_LISTEN"], nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(r.t, err)
	r.t.Cleanup(conn.Close)
	r.jetstream, err = jetstream.New(conn)
	require.NoError(r.t, err)
}

// program starts cdc or invalidator with changes to the environment, and waits until it answers over HTTP.
func (r *rig) program(name string, changes map[string]string) *running {
	r.t.Helper()
	env := maps.Clone(r.env)
	maps.Copy(env, changes)
	p := testkit.Run(r.t, testkit.Binary(r.t, name), env, "run")
	address := p.Await(r.t, patience, "http listens").Text("address")
	return &running{Program: p, at: watch.Program{Name: name, Address: address}}
}

// start starts both programs and waits until they are ready.
func (r *rig) start() {
	r.t.Helper()
	r.cdc = r.program("cdc", nil)
	r.invalidator = r.program("invalidator", nil)
	r.ready()
}

// ready waits until both programs are ready.
func (r *rig) ready() {
	r.t.Helper()
	for _, p := range []*running{r.cdc, r.invalidator} {
		p.awaitReady(r.t)
	}
	if r.nats == nil && r.jetstream == nil {
		r.connectEmbedded()
	}
}

func (p *running) awaitReady(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		if !p.Running() {
			return fmt.Errorf("%s ended: %s", p.at.Name, p.Stderr())
		}
		return p.at.Ready(t.Context())
	})
}

// awaitUnready waits until a program says that it is not ready, for a reason that contains the text.
func (p *running) awaitUnready(t *testing.T, reason string) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		err := p.at.Ready(t.Context())
		if err == nil {
			return errors.New(p.at.Name + " is ready")
		}
		if !strings.Contains(err.Error(), reason) {
			return fmt.Errorf("%s is not ready for another reason than %q: %w", p.at.Name, reason, err)
		}
		return nil
	})
}

// exec commits SQL, each text in a transaction of its own.
func (r *rig) exec(sql ...string) {
	r.t.Helper()
	r.db.Exec(r.t, sql...)
}

// plant puts keys into the cache.
func (r *rig) plant(keys ...string) {
	r.t.Helper()
	for _, key := range keys {
		require.NoError(r.t, r.client.Set(r.t.Context(), key, "{}", 0).Err())
	}
}

// left returns which of the keys are still cached.
func (r *rig) left(keys ...string) []string {
	r.t.Helper()
	left := []string{}
	for _, key := range keys {
		n, err := r.client.Exists(r.t.Context(), key).Result()
		require.NoError(r.t, err)
		if n > 0 {
			left = append(left, key)
		}
	}
	return left
}

// gone waits until none of the keys is cached any more.
func (r *rig) gone(keys ...string) {
	r.t.Helper()
	testkit.Eventually(r.t, patience, func() error {
		if left := r.left(keys...); len(left) > 0 {
			return fmt.Errorf("still cached: %v", left)
		}
		return nil
	})
}

// settle waits until everything that is committed is applied.
func (r *rig) settle() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, r.db.URL)
	require.NoError(r.t, err)
	defer conn.Close(ctx)
	b := check.Barrier{
		SQL: "UPDATE marker SET n = n + 1", Key: "1:marker", Conn: conn, Redis: r.client,
		JetStream: r.jetstream, Changes: "CHANGES", Consumer: "invalidator",
	}
	require.NoError(r.t, b.Wait(ctx))
}

// metric reads a counter or gauge of a program.
func (p *running) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	m, err := p.at.Metrics(t.Context())
	require.NoError(t, err)
	return m.Sum(name, labels...)
}

// epochs is how many epochs cdc has begun.
func (r *rig) epochs(labels ...string) float64 {
	r.t.Helper()
	return r.cdc.metric(r.t, "walfence_cdc_epochs_total", labels...)
}
