package integration

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

// Passwords that no output may have, also not escaped as in a URL.
const (
	databasePassword = "d4tabase-p4ss%21"
	natsPassword     = "n4ts-p4ss"
	redisPassword    = "r3dis-p4ss"
)

var secrets = []string{"d4tabase-p4ss", natsPassword, redisPassword}

// guarded makes all three servers ask for passwords, or take them.
func guardedRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, plainSchema, plainRules)
	r.nats.Stop()
	r.nats = testkit.NATS(t, func(o *server.Options) { o.Username, o.Password = "user", natsPassword })
	r.jetstream = r.nats.JetStream(t, nats.UserInfo("user", natsPassword))
	require.NoError(t, r.redis.Kill())
	r.redis.Args = []string{"--requirepass", redisPassword}
	require.NoError(t, r.redis.Start())
	r.client = redis.NewClient(&redis.Options{Addr: r.redis.Addr, Password: redisPassword, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = r.client.Close() })
	r.env["DATABASE_URL"] = strings.Replace(r.db.URL, "postgres@", "postgres:"+databasePassword+"@", 1)
	r.env["NATS_URL"] = strings.Replace(r.nats.URL, "nats://", "nats://user:"+natsPassword+"@", 1)
	r.env["REDIS_URL"] = strings.Replace(r.redis.URL(0), "redis://", "redis://:"+redisPassword+"@", 1)
	r.env["LOG_LEVEL"] = "debug"
	return r
}

func requireNoSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range secrets {
		require.NotContains(t, text, secret, where)
	}
}

// shown is everything that a program has said, and answers over HTTP.
func (p *running) shown(t *testing.T) (all string) {
	t.Helper()
	for _, path := range []string{"/livez", "/readyz", "/status", "/metrics"} {
		response, err := http.Get("http://" + p.at.Address + path)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		all += string(body)
	}
	http.DefaultClient.CloseIdleConnections()
	return all + p.Stdout() + p.Stderr()
}

func TestNoPasswordIsShownWhileServersComeAndGo(t *testing.T) {
	t.Parallel()
	r := guardedRig(t)
	r.start()
	r.works()
	r.nats.Stop()
	require.NoError(t, r.redis.Kill())
	r.invalidator.awaitUnready(t, "cache main")
	r.cdc.awaitUnready(t, "nats")
	for _, p := range []*running{r.cdc, r.invalidator} {
		requireNoSecret(t, p.at.Name, p.shown(t))
	}
	require.NoError(t, r.nats.Start())
	require.NoError(t, r.redis.Start())
	r.ready()
	r.works()
	for _, p := range []*running{r.cdc, r.invalidator} {
		require.Zero(t, r.stops(p, patience))
		requireNoSecret(t, p.at.Name, p.Stdout()+p.Stderr())
	}
}

func TestNoPasswordIsShownWhereItIsWrong(t *testing.T) {
	t.Parallel()
	r := guardedRig(t)
	for _, name := range []string{"NATS_URL", "REDIS_URL", "DATABASE_URL"} {
		r.env[name] = strings.NewReplacer(natsPassword, natsPassword+"x", redisPassword, redisPassword+"x", r.db.Name, r.db.Name+"x").Replace(r.env[name])
	}
	cdc, invalidator := r.program("cdc", nil), r.program("invalidator", nil)
	cdc.awaitUnready(t, "nats")
	invalidator.awaitUnready(t, "nats")
	r.env["NATS_URL"] = strings.Replace(r.env["NATS_URL"], natsPassword+"x", natsPassword, 1)
	second, third := r.program("cdc", nil), r.program("invalidator", nil)
	second.awaitUnready(t, "postgres: connect")
	third.awaitUnready(t, "cache main")
	for _, p := range []*running{cdc, invalidator, second, third} {
		requireNoSecret(t, p.at.Name, p.shown(t))
	}
}

func TestNoPasswordIsShownByCommandsThatEnd(t *testing.T) {
	t.Parallel()
	r := guardedRig(t)
	r.start()
	typo := map[string]string{
		"DATABASE_URL": strings.Replace(r.env["DATABASE_URL"], "127.0.0.1:", "127.0.0.1:x", 1),
		"NATS_URL":     strings.Replace(r.env["NATS_URL"], "127.0.0.1:", "127.0.0.1:x", 1),
		"REDIS_URL":    strings.Replace(r.env["REDIS_URL"], "127.0.0.1:", "127.0.0.1:x", 1),
	}
	away := map[string]string{"DATABASE_URL": strings.Replace(r.env["DATABASE_URL"], r.db.Name, "nowhere", 1)}
	for _, c := range []struct {
		program string
		changes map[string]string
		args    []string
	}{
		{"cdc", nil, []string{"status"}},
		{"cdc", nil, []string{"setup"}},
		{"cdc", nil, []string{"--help"}},
		{"cdc", away, []string{"status"}},
		{"cdc", typo, []string{"run"}},
		{"cdc", nil, []string{"run", "--database-url", typo["DATABASE_URL"]}},
		{"invalidator", typo, []string{"run"}},
		{"invalidator", nil, []string{"sweep", "--all"}},
		{"invalidator", nil, []string{"run", "--redis-url", typo["REDIS_URL"]}},
		{"invalidator", map[string]string{"RULES": r.write("in.yaml", strings.Replace(rulesHead, "${REDIS_URL}", typo["REDIS_URL"], 1)+plainRules)}, []string{"run"}},
		{"invalidator", nil, []string{"run", "--help"}},
	} {
		_, said := r.ends(c.program, c.changes, c.args...)
		require.NotEmpty(t, said)
		requireNoSecret(t, strings.Join(c.args, " "), said)
	}
}
