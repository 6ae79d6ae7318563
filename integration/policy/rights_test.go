package policy

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/internal/testkit"
)

const operations = "docs/operations.md"

// block returns the first code block of a language that holds a text.
func block(t *testing.T, document, language, holds string) string {
	t.Helper()
	for _, b := range blocks(readTop(t, document)) {
		if b.language == language && strings.Contains(b.text, holds) {
			return b.text
		}
	}
	t.Fatalf("%s has no block of %s with %q", document, language, holds)
	return ""
}

const patience = 30 * time.Second

func TestTheRightsThatOperationsNamesAreEnough(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, "CREATE TABLE users (id bigint, tenant_id bigint, PRIMARY KEY (id, tenant_id))", "INSERT INTO users VALUES (42, 7)")
	role := "reader_" + db.Name
	db.Exec(t, strings.Replace(block(t, operations, "sql", "CREATE ROLE"), "walfence", role, 1))
	t.Cleanup(func() { require.NoError(t, testkit.Postgres(t).Exec("postgres", "DROP ROLE "+role)) })
	cache := testkit.Redis(t)
	client := cache.Client(t)
	var acl []any
	for _, word := range strings.Fields(block(t, operations, "text", "ACL SETUSER")) {
		acl = append(acl, word)
	}
	require.NoError(t, client.Do(t.Context(), acl...).Err())
	bus := testkit.NATS(t, documentedUsers(t))

	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, []byte(block(t, "README.md", "yaml", "user-profile")), 0o600))
	env := func(user, database string) map[string]string {
		return map[string]string{
			"DATABASE_URL": database, "NATS_URL": as(t, bus.URL, user), "REDIS_URL": as(t, cache.URL(0), "walfence"),
			"CDC_SLOT": db.Name, "CDC_HTTP": "127.0.0.1:0", "INVALIDATOR_HTTP": "127.0.0.1:0", "HEARTBEAT": "100ms", "RULES": rules,
		}
	}
	asReader := strings.Replace(db.URL, "//postgres@", "//"+role+"@", 1)
	require.NotEqual(t, db.URL, asReader)
	setUp := testkit.Run(t, testkit.Binary(t, "cdc"), env("cdc", db.URL), "setup")
	require.Zero(t, setUp.Exit(t, patience), setUp.Stderr())
	cdc := testkit.Run(t, testkit.Binary(t, "cdc"), env("cdc", asReader), "run")
	invalidator := testkit.Run(t, testkit.Binary(t, "invalidator"), env("invalidator", ""), "run")
	cdc.Await(t, patience, "streaming")
	invalidator.Await(t, patience, "sweep done")
	key := "tenant:7:user:42:profile"
	require.NoError(t, client.Set(t.Context(), key, "Ann", 0).Err())
	db.Exec(t, "UPDATE users SET id = 42")
	testkit.Eventually(t, patience, func() error {
		if client.Exists(t.Context(), key).Val() == 0 {
			return nil
		}
		return os.ErrExist
	})
	for _, p := range []*testkit.Program{cdc, invalidator} {
		require.NotContains(t, strings.ToLower(p.Stderr()), "permission")
		require.NotContains(t, p.Stderr(), "NOPERM")
	}
}

// documentedUsers gives a server the users that the document's configuration has.
func documentedUsers(t *testing.T) func(*server.Options) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(path, []byte(block(t, operations, "conf", "authorization")), 0o600))
	documented, err := server.ProcessConfigFile(path)
	require.NoError(t, err)
	return func(o *server.Options) { o.Users = documented.Users }
}

// as puts a user of the documents into a URL.
func as(t *testing.T, address, user string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.User = url.UserPassword(user, "change-me")
	return u.String()
}
