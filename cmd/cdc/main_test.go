package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/testkit"
)

const rules = `version: 1
source: shop
tenant: {column: tenant_id}
caches: {main: {redis: "${CACHE_URL}"}}
rules:
  - {name: user, table: users, delete: ["tenant:{tenant}:user:{id}"]}
`

// shop is a database with the table that the rules name, and the settings that lead to it.
type shop struct {
	db  *testkit.Database
	env []string
}

func newShop(t *testing.T) *shop {
	db := testkit.NewDatabase(t)
	db.Exec(t, "CREATE TABLE users (tenant_id int, id int, PRIMARY KEY (tenant_id, id))")
	file := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(file, []byte(rules), 0o600))
	return &shop{db: db, env: []string{"DATABASE_URL=" + db.URL, "RULES=" + file, "CDC_SLOT=s_" + db.Name}}
}

// call runs cdc in this process.
func (s *shop) call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = config.Main(context.WithoutCancel(t.Context()), program(), args, s.env, &out, &errs)
	return code, out.String(), errs.String()
}

func TestSetupShowsWhatItDoesAndDoesItOnce(t *testing.T) {
	s := newShop(t)
	code, planned, stderr := s.call(t, "setup", "--dry-run")
	require.Equal(t, config.CodeDone, code, stderr)
	require.Contains(t, planned, "CREATE PUBLICATION")
	require.Contains(t, planned, "pg_create_logical_replication_slot")

	code, done, stderr := s.call(t, "setup")
	require.Equal(t, config.CodeDone, code, stderr)
	require.Equal(t, planned+"-- done\n", done)

	code, again, _ := s.call(t, "setup")
	require.Equal(t, config.CodeDone, code)
	require.Contains(t, again, "as they must be")
}

func TestTeardownLeavesNothingAndStatusSaysSo(t *testing.T) {
	s := newShop(t)
	code, _, stderr := s.call(t, "setup")
	require.Equal(t, config.CodeDone, code, stderr)
	code, stdout, _ := s.call(t, "status")
	require.Equal(t, config.CodeDone, code)
	require.Contains(t, stdout, "read by nobody, its WAL is reserved")

	code, _, stderr = s.call(t, "teardown")
	require.Equal(t, config.CodeDone, code, stderr)
	_, stdout, _ = s.call(t, "status", "--json")
	require.Contains(t, stdout, `"slot": null`)
	require.Contains(t, stdout, `"publication_state": "missing"`)
	code, _, _ = s.call(t, "teardown")
	require.Equal(t, config.CodeDone, code, "again")
}

func TestSetupThatMayChangeNothingPrintsWhatIsMissingAndExitsWith2(t *testing.T) {
	s := newShop(t)
	s.env = append(s.env, "CDC_SETUP=off")
	code, _, stderr := s.call(t, "setup")
	require.Equal(t, config.CodeMistake, code)
	require.Contains(t, stderr, "CDC_SETUP=off")
	require.Contains(t, stderr, "CREATE PUBLICATION")
}

func TestMistakesAreAllToldAndExitWith2(t *testing.T) {
	s := newShop(t)
	s.env = []string{"DATABASE_URL=postgres://u:hunter2@h:port/db", "CDC_SLOT=Bad-Name", "HEARTBEAT=soon", "CDC_COLUMN_LISTS=maybe"}
	code, _, stderr := s.call(t, "run")
	require.Equal(t, config.CodeMistake, code)
	for _, setting := range []string{"DATABASE_URL", "CDC_SLOT", "HEARTBEAT", "CDC_COLUMN_LISTS"} {
		require.Contains(t, stderr, setting)
	}
	require.NotContains(t, stderr, "hunter2")
}

func TestRunOnAnAddressThatIsTakenSaysWhichSetting(t *testing.T) {
	s := newShop(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	s.env = append(s.env, "CDC_HTTP="+taken.Addr().String())
	code, _, stderr := s.call(t, "run")
	require.Equal(t, config.CodeFailure, code)
	require.Contains(t, stderr, "CDC_HTTP")
}
