package source_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/source"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

const userRules = `
tenant: {column: tenant_id}
rules:
  - {name: u, table: users, delete: ["t:{tenant}:u:{id}:{name}"]}
`

const userTable = `CREATE TABLE users (id int, tenant_id int, name text, other text, PRIMARY KEY (id, tenant_id))`

func TestEveryKindOfChangeBecomesItsEvent(t *testing.T) {
	r := newRig(t, userTable)
	r.start(userRules)
	r.awaitReady()
	r.db.Exec(t, "INSERT INTO users VALUES (1, 7, 'a', 'x'), (2, 7, NULL, 'x')")
	r.db.Exec(t, "UPDATE users SET name = 'b' WHERE id = 1")
	r.db.Exec(t, "UPDATE users SET tenant_id = 8 WHERE id = 1")
	r.db.Exec(t, "DELETE FROM users WHERE id = 1")
	r.db.Exec(t, "TRUNCATE users")
	r.db.Exec(t, "INSERT INTO users VALUES (9, 7, 'end')")
	all := r.events(until("9"))
	require.Equal(t, []string{
		"epoch .",
		"users insert (1 7 a) -", "users insert (2 7 null) -",
		"users update (1 7 b) -",
		"users update (1 8 b) (1 7 absent)",
		"users delete - (1 8 absent)",
		"truncate public.users",
		"users insert (9 7 end) -",
	}, rows(all))
	ids := map[string]bool{}
	for i, m := range all {
		require.Equal(t, "shop", m.Source)
		require.False(t, ids[m.id], "id %s twice", m.id)
		ids[m.id] = true
		require.NotZero(t, m.origin.System)
		require.Equal(t, all[0].Position.Epoch, m.Position.Epoch)
		if i > 0 {
			require.NotZero(t, m.End, "each is its transaction's last event")
			require.Equal(t, "changes.shop.public.users", m.subject)
			require.WithinDuration(t, time.Now(), m.Time, time.Minute)
			require.NotZero(t, m.XID)
			require.LessOrEqual(t, m.origin.Floor, m.Position.LSN)
		}
	}
	require.Equal(t, []bool{true, true, false}, all[1].Identity)
	require.Equal(t, []string{"id", "tenant_id", "name"}, all[1].Columns)
}

func TestALargeTransactionIsCutIntoEventsOfWhichOnlyTheLastHasTheEnd(t *testing.T) {
	r := newRig(t, userTable, "CREATE TABLE b (id int, tenant_id int, PRIMARY KEY (id, tenant_id))")
	r.start(userRules + `  - {name: b, table: b, delete: ["t:{tenant}:b:{id}"]}`)
	r.awaitReady()
	r.db.Exec(t, `BEGIN; INSERT INTO users SELECT g, g % 50, 'n' FROM generate_series(1, 600) g; INSERT INTO b SELECT g, 1 FROM generate_series(1, 300) g;
		INSERT INTO users VALUES (1000, 1, 'late'); COMMIT`)
	r.db.Exec(t, "INSERT INTO users VALUES (0, 1, 'end')")
	all := r.events(until("0"))
	tx := all[1 : len(all)-1]
	seen := map[string]int{}
	ends := 0
	for _, m := range tx {
		require.LessOrEqual(t, len(m.Changes), 256)
		require.Equal(t, tx[0].Position.LSN, m.Position.LSN)
		seen[m.Table.Name] += len(m.Changes)
		if m.End != 0 {
			ends++
		}
	}
	require.Equal(t, map[string]int{"users": 601, "b": 300}, seen)
	require.Equal(t, 1, ends)
	require.NotZero(t, tx[len(tx)-1].End, "the last to be published has it")
}

func TestUnchangedToastIsNotNull(t *testing.T) {
	r := newRig(t, userTable, "ALTER TABLE users ALTER name SET STORAGE EXTERNAL")
	r.start(userRules)
	r.awaitReady()
	r.db.Exec(t, "INSERT INTO users VALUES (1, 7, repeat('x', 5000))", "UPDATE users SET other = 'y'", "INSERT INTO users VALUES (9, 7, 'end')")
	all := rows(r.events(until("9")))
	require.Equal(t, "users update (1 7 unchanged) -", all[2])
}

func TestNamesTypesAndPartitionsTravelAsPostgreSQLHasThem(t *testing.T) {
	r := newRig(t, `CREATE SCHEMA "My Shop"`,
		`CREATE TABLE "My Shop"."Order ""Items""" ("Tenant" uuid, "Ist Neu" boolean, am timestamptz, betrag numeric, PRIMARY KEY ("Tenant", "Ist Neu", am, betrag))`,
		`CREATE TABLE p (id int, tenant_id int, PRIMARY KEY (id)) PARTITION BY RANGE (id)`,
		`CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)`,
		`ALTER TABLE p REPLICA IDENTITY FULL`, `ALTER TABLE p1 REPLICA IDENTITY FULL`)
	r.start(`
rules:
  - {name: o, table: '"My Shop"."Order ""Items"""', tenant: {column: Tenant}, delete: ["t:{tenant}:{Ist Neu}:{am}:{betrag}"]}
  - {name: p, table: p, tenant: {column: tenant_id}, delete: ["t:{tenant}:{id}"]}
`)
	r.awaitReady()
	r.db.Exec(t, "SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; INSERT INTO \"My Shop\".\"Order \"\"Items\"\"\" VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', true, '2026-01-02 03:04:05.6+00', 1.50)")
	r.db.Exec(t, "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)", "ALTER TABLE p2 REPLICA IDENTITY FULL", "INSERT INTO p VALUES (1, 1), (11, 1)")
	all := r.events(until("11"))
	require.Equal(t, []string{
		`Order "Items" insert (a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 true 2026-01-02 03:04:05.6+00 1.50) -`, "p insert (1 1) -", "p insert (11 1) -",
	}, rows(all)[1:])
	require.Equal(t, events.Table{Schema: "public", Name: "p2"}, all[len(all)-1].Partition)
	require.Equal(t, `changes.shop.My%20Shop.Order%20"Items"`, all[1].subject)
}

func TestARestartGoesOnWhereTheStreamStands(t *testing.T) {
	r := newRig(t, userTable)
	r.start(userRules)
	r.awaitReady()
	for i := range 5 {
		r.db.Exec(t, fmt.Sprintf("INSERT INTO users VALUES (%d, 1, 'n')", i*2+100))
		require.NoError(t, r.halt())
		r.db.Exec(t, fmt.Sprintf("INSERT INTO users VALUES (%d, 1, 'while down')", i*2+101))
		r.start(userRules)
		r.awaitReady()
	}
	r.db.Exec(t, "INSERT INTO users VALUES (9, 1, 'end')")
	got := map[string]int{}
	epochs := 0
	for _, m := range r.events(until("9")) {
		if m.Kind == events.KindEpoch {
			epochs++
		}
		for _, c := range m.Changes {
			got[c.New[0].Text]++
		}
	}
	for id := 100; id < 110; id++ {
		require.Equal(t, 1, got[fmt.Sprint(id)], "row %d", id)
	}
	require.Equal(t, 1, epochs)
}

func TestAnIdleDatabaseIsConfirmedUpToItsEndAndNeverAboveTheStreamsFloor(t *testing.T) {
	r := newRig(t, userTable, "CREATE TABLE unwatched (a text)")
	r.start(userRules)
	r.awaitReady()
	r.db.Exec(t, "INSERT INTO users VALUES (1, 1, 'n')", "INSERT INTO unwatched SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
	conn := r.db.Conn(t)
	var target string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&target))
	testkit.Eventually(t, 20*time.Second, func() error {
		var confirmed string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", r.slot).Scan(&confirmed))
		s, err := r.js.Stream(t.Context(), "CHANGES")
		require.NoError(t, err)
		m, err := s.GetLastMsgForSubject(t.Context(), "changes.shop.>")
		require.NoError(t, err)
		origin, err := events.ParseContinuity(m.Header.Get(events.HeaderContinuity))
		require.NoError(t, err)
		have, _ := events.ParseLSN(confirmed)
		want, _ := events.ParseLSN(target)
		require.LessOrEqual(t, have, origin.Floor)
		if have < want {
			return fmt.Errorf("confirmed %s, want %s", have, want)
		}
		return nil
	})
}

func TestATableThatRulesAddIsSweptWithoutAnEpoch(t *testing.T) {
	r := newRig(t, userTable, "CREATE TABLE b (id int, tenant_id int, PRIMARY KEY (id, tenant_id))")
	r.start(userRules)
	r.awaitReady()
	require.NoError(t, r.halt())
	// In flight while the table is added: what such a transaction wrote before is not streamed, and becomes visible later.
	idle, err := r.db.Conn(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = idle.Exec(t.Context(), "SELECT pg_current_xact_id()")
	require.NoError(t, err)

	r.start(userRules + `  - {name: b, table: b, delete: ["t:{tenant}:b:{id}"]}`)
	r.awaitReady()
	r.db.Exec(t, "INSERT INTO users VALUES (5, 1, 'before')")
	first := rows(r.events(until("5")))
	require.Equal(t, []string{"epoch .", "sweep public.b", "users insert (5 1 before) -"}, first)
	require.NoError(t, idle.Commit(t.Context()))
	all := r.events(func(m message) bool { return m.Reason == "settled" })
	require.Equal(t, "public.b", all[len(all)-1].Table.String())
	require.True(t, all[len(all)-1].origin.Settling)
	r.db.Exec(t, "INSERT INTO users VALUES (9, 1, 'end')")
	all = r.events(until("9"))
	require.False(t, all[len(all)-1].origin.Settling)
}

func TestALostSlotBeginsAnEpochAndSettlesWhatWasInFlight(t *testing.T) {
	r := newRig(t, userTable)
	r.start(userRules)
	r.awaitReady()
	require.NoError(t, r.halt())
	r.db.Exec(t, fmt.Sprintf("SELECT pg_drop_replication_slot('%s')", r.slot), "INSERT INTO users VALUES (1, 1, 'in the gap')")
	r.start(userRules)
	r.awaitReady()
	r.db.Exec(t, "INSERT INTO users VALUES (9, 1, 'end')")
	all := r.events(until("9"))
	require.Equal(t, []string{"epoch .", "epoch .", "users insert (9 1 end) -"}, rows(all))
	require.Equal(t, "slot_missing", all[1].Reason)
	require.Greater(t, all[1].Position.Epoch, all[0].Position.Epoch)
}

func TestAPublicationThatWasChangedByHandBeginsAnEpoch(t *testing.T) {
	r := newRig(t, userTable)
	r.start(userRules)
	r.awaitReady()
	require.NoError(t, r.halt())
	r.db.Exec(t, "ALTER PUBLICATION walfence DROP TABLE users", "INSERT INTO users VALUES (1, 1, 'in the gap')", "ALTER PUBLICATION walfence ADD TABLE users")
	r.start(userRules)
	r.awaitReady()
	all := r.events(func(m message) bool { return m.Kind == events.KindEpoch && m.Reason != "first_start" })
	require.Equal(t, "publication_changed", all[len(all)-1].Reason)
}

func TestWhatARestartCannotMendEndsTheSourceAndSaysWhatMendsIt(t *testing.T) {
	for name, c := range map[string]struct {
		schema string
		rules  string
		cfg    func(*source.Config)
		want   []string
	}{
		"no such table":          {userTable, "tenant: {column: t}\nrules:\n  - {name: x, table: user, delete: [\"{tenant}\"]}", nil, []string{"rules.yaml:6", "users"}},
		"no replica identity":    {"CREATE TABLE users (id int, tenant_id int, name text)", userRules, nil, []string{"ALTER TABLE", "REPLICA IDENTITY"}},
		"may not set up":         {userTable, userRules, func(c *source.Config) { c.Setup = false }, []string{"CREATE PUBLICATION", "CDC_SETUP"}},
		"URL that is none":       {userTable, userRules, func(c *source.Config) { c.URL = "postgres://h:x/" }, []string{"DATABASE_URL"}},
		"slot of another plugin": {userTable, userRules, func(c *source.Config) { c.Slot = "other" }, []string{"other", "test_decoding"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.schema)
			if c.cfg != nil {
				r.cfg = c.cfg
			}
			if strings.Contains(name, "plugin") {
				other := "o_" + r.db.Name
				r.cfg = func(s *source.Config) { s.Slot = other }
				c.want[0] = other
				r.db.Exec(t, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'test_decoding')", other))
			}
			r.start(c.rules)
			err := r.ended()
			var permanent *source.PermanentError
			require.ErrorAs(t, err, &permanent)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}
