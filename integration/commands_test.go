package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

const commandsRules = `
  - {name: plain, table: plain, delete: ["{tenant}:plain:{id}"]}
  - {name: other, table: plain, delete: ["{tenant}:other:{id}"]}
  - {name: all, table: plain, tenant: global, delete: [all]}
`

func TestSweepRemovesWhatItIsAskedToAndNothingElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, commandsRules)
	r.start()
	keys := []string{"1:plain:1", "1:plain:2", "2:plain:1", "1:other:1", "2:other:1", "all", "1:unknown:1", "1:plain:1:more"}
	for _, c := range []struct{ args, gone string }{
		{"--rule plain --dry-run", ""},
		{"--rule plain --tenant 1", "1:plain:1 1:plain:2"},
		{"--rule plain", "1:plain:1 1:plain:2 2:plain:1"},
		{"--rule plain --rule all", "1:plain:1 1:plain:2 2:plain:1 all"},
		{"--tenant 2", "2:plain:1 2:other:1"},
		{"--tenant 1:plain", ""},
		{"--all", "1:plain:1 1:plain:2 2:plain:1 1:other:1 2:other:1 all"},
		{"--all --no-feed", "1:plain:1 1:plain:2 2:plain:1 1:other:1 2:other:1 all"},
	} {
		r.plant(keys...)
		r.plant(cache.GuardKey("1:plain:1"))
		code, said := r.ends("invalidator", nil, append([]string{"sweep"}, strings.Fields(c.args)...)...)
		require.Zero(t, code, said)
		require.Contains(t, said, "cache main: ")
		gone := strings.Fields(c.gone)
		require.Empty(t, r.left(gone...), c.args)
		require.Len(t, r.left(keys...), len(keys)-len(gone), c.args)
		guards := 1
		if strings.Contains(c.gone, "1:plain:1") {
			guards = 0
		}
		require.Len(t, r.left(cache.GuardKey("1:plain:1")), guards, c.args)
	}
	for _, args := range []string{"", "--rule plane", "--all --tenant 1", "--rule all --tenant 1"} {
		code, said := r.ends("invalidator", nil, append([]string{"sweep"}, strings.Fields(args)...)...)
		require.Equal(t, 2, code, "%s: %s", args, said)
	}
}

func TestTailShowsChangesAndInvalidationsAsTheyHappen(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.start()
	people := testkit.Run(t, testkit.Binary(t, "invalidator"), r.env, "tail")
	machines := testkit.Run(t, testkit.Binary(t, "invalidator"), r.env, "tail", "--json", "--only", "invalidations")
	id := 0
	shows := func(p *testkit.Program, texts ...string) {
		testkit.Eventually(t, patience, func() error {
			id++ // it may not follow yet
			r.exec(fmt.Sprintf("INSERT INTO plain VALUES (77, %d)", id))
			for _, text := range texts {
				if !strings.Contains(p.Stdout(), text) {
					return fmt.Errorf("%q is not in %s %s", text, p.Stdout(), p.Stderr())
				}
			}
			return nil
		})
	}
	shows(people, "public.plain: 1 insert", "tenant 77: 77:plain:")
	shows(machines, `"keys":["77:plain:`)
	require.NotContains(t, machines.Stdout(), "CHANGES")
	for line := range strings.Lines(machines.Stdout()) {
		require.True(t, json.Valid([]byte(line)), line)
	}
	for _, p := range []*testkit.Program{people, machines} {
		require.NoError(t, p.Signal(syscall.SIGINT))
		require.Zero(t, p.Exit(t, patience), p.Stderr())
	}
}

func TestSetupShowsDoesAndUndoes(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	made := func() (n int) {
		require.NoError(t, r.query("SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())", &n))
		return n
	}
	cdc := func(want int, args ...string) string {
		code, said := r.ends("cdc", nil, args...)
		require.Equal(t, want, code, said)
		return said
	}
	shown := cdc(0, "setup", "--dry-run")
	require.Contains(t, shown, "CREATE PUBLICATION")
	require.Contains(t, shown, "pg_create_logical_replication_slot")
	require.Zero(t, made())
	require.Contains(t, cdc(0, "status"), "missing")
	cdc(0, "setup")
	require.Equal(t, 2, made())
	require.NotContains(t, cdc(0, "setup"), "CREATE")
	var status struct{ Slot, Running any }
	require.NoError(t, json.Unmarshal([]byte(cdc(0, "status", "--json")), &status))
	require.NotNil(t, status.Slot)
	require.Nil(t, status.Running)
	r.start()
	r.works()
	r.env["CDC_HTTP"] = r.cdc.at.Address
	require.NoError(t, json.Unmarshal([]byte(cdc(0, "status", "--json")), &status))
	require.NotNil(t, status.Running)
	require.Contains(t, cdc(1, "teardown"), "cdc", "the slot is in use")
	require.Equal(t, 2, made())
	require.NoError(t, r.cdc.Kill())
	testkit.Eventually(t, patience, func() error {
		if code, said := r.ends("cdc", nil, "teardown"); code != 0 {
			return errors.New(said)
		}
		return nil
	})
	require.Zero(t, made())
}
