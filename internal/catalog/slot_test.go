package catalog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/testkit"
)

const patience = 10 * time.Second

func slot(t *testing.T, conn *pgx.Conn, name string) *catalog.Slot {
	t.Helper()
	s, err := catalog.ReadSlot(t.Context(), conn, name)
	require.NoError(t, err)
	return s
}

func TestSlotIsReadAsItIs(t *testing.T) {
	db := testkit.NewDatabase(t)
	conn := db.Conn(t)
	require.Nil(t, slot(t, conn, db.Name))
	version := server(t, conn).Version
	exec(t, conn, catalog.CreateSlotSQL(db.Name, version))
	s := slot(t, conn, db.Name)
	require.Equal(t, version >= 170000, s.Failover)
	require.Equal(t, "pgoutput", s.Plugin)
	require.Equal(t, db.Name, s.Database)
	require.Equal(t, "reserved", s.WALStatus)
	require.False(t, s.Active)
	require.False(t, s.Lost())
	require.Nil(t, s.SafeWALSize)
	require.NotZero(t, s.Restart)
	require.GreaterOrEqual(t, s.ConfirmedFlush, s.Restart)
	require.Empty(t, s.Problems(db.Name))

	exec(t, conn, `CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)`)
	require.Greater(t, slot(t, conn, db.Name).RetainedBytes, int64(1_000_000))
	require.Positive(t, slot(t, conn, db.Name).CatalogXminAge)
}

func TestSlotThatWeCannotUseSaysWhy(t *testing.T) {
	db, other := testkit.NewDatabase(t), testkit.NewDatabase(t)
	conn := db.Conn(t)
	for name, create := range map[string]string{
		"_a": `SELECT pg_create_logical_replication_slot('NAME', 'test_decoding')`,
		"_b": `SELECT pg_create_physical_replication_slot('NAME')`,
		"_c": `SELECT pg_create_logical_replication_slot('NAME', 'pgoutput', false, true)`,
	} {
		exec(t, conn, strings.ReplaceAll(create, "NAME", db.Name+name))
		require.Error(t, slot(t, conn, db.Name+name).Problems(db.Name).Err(), create)
		require.ErrorIs(t, catalog.DropSlot(t.Context(), conn, db.Name+name, false), catalog.ErrNotOurs)
		require.NoError(t, catalog.DropSlot(t.Context(), conn, db.Name+name, true))
		require.Nil(t, slot(t, conn, db.Name+name))
	}
	exec(t, other.Conn(t), catalog.CreateSlotSQL(other.Name, 150000))
	require.ErrorContains(t, slot(t, conn, other.Name).Problems(db.Name).Err(), `it belongs to database "`+other.Name+`"`)
}

func TestSlotThatIsReadFromIsNotDropped(t *testing.T) {
	db := testkit.NewDatabase(t)
	conn := db.Conn(t)
	require.NoError(t, catalog.DropSlot(t.Context(), conn, db.Name, false), "there is none")
	exec(t, conn, catalog.CreateSlotSQL(db.Name, 150000))
	exec(t, conn, `CREATE PUBLICATION pub`)
	reader, err := pgconn.Connect(t.Context(), db.URL+"&replication=database")
	require.NoError(t, err)
	reader.Frontend().SendQuery(&pgproto3.Query{
		String: `START_REPLICATION SLOT ` + db.Name + ` LOGICAL 0/0 (proto_version '1', publication_names 'pub')`,
	})
	require.NoError(t, reader.Frontend().Flush())
	_, err = reader.ReceiveMessage(t.Context())
	require.NoError(t, err)

	s := slot(t, conn, db.Name)
	require.True(t, s.Active)
	require.Equal(t, reader.PID(), s.ActivePID)
	var active *catalog.SlotActiveError
	require.ErrorAs(t, catalog.DropSlot(t.Context(), conn, db.Name, true), &active)
	require.Equal(t, reader.PID(), active.PID)

	require.NoError(t, reader.Close(t.Context()))
	testkit.Eventually(t, patience, func() error { return catalog.DropSlot(t.Context(), conn, db.Name, false) })
	require.Nil(t, slot(t, conn, db.Name))
}

func TestSlotWithoutItsWALIsLost(t *testing.T) {
	cluster := testkit.PrivatePostgres(t, "max_slot_wal_keep_size=1MB", "max_wal_size=32MB")
	db := cluster.NewDatabase(t)
	conn := db.Conn(t)
	exec(t, conn, catalog.CreateSlotSQL(db.Name, 150000))
	require.NotNil(t, slot(t, conn, db.Name).SafeWALSize)
	for range 4 {
		exec(t, conn, `SELECT pg_logical_emit_message(false, '', 'x')`)
		exec(t, conn, `SELECT pg_switch_wal()`)
	}
	exec(t, conn, `CHECKPOINT`)
	require.Equal(t, "lost", slot(t, conn, db.Name).WALStatus)
	require.True(t, slot(t, conn, db.Name).Lost())
}

func TestSlotOfNewerServersSurvivesFailover(t *testing.T) {
	require.Equal(t, `SELECT pg_create_logical_replication_slot('s', 'pgoutput')`, catalog.CreateSlotSQL("s", 160004))
	require.Equal(t, `SELECT pg_create_logical_replication_slot('s', 'pgoutput', failover => true)`, catalog.CreateSlotSQL("s", 170000))
}

func TestSlotNamesThatPostgreSQLRefusesAreRefused(t *testing.T) {
	require.NoError(t, catalog.CheckSlotName("walfence_1"))
	for _, name := range []string{"", "Walfence", "a-b", "a b", `a"`, "é", strings.Repeat("a", 64), "a\n"} {
		require.Error(t, catalog.CheckSlotName(name), name)
	}
}
