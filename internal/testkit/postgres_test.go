package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	first, second := NewDatabase(t), NewDatabase(t)
	require.Same(t, first.Cluster, second.Cluster)
	first.Exec(t, "CREATE TABLE things (id int); INSERT INTO things VALUES (1)")
	second.Exec(t, "CREATE TABLE things (id int)")
	var rows int
	require.NoError(t, second.Conn(t).QueryRow(t.Context(), "SELECT count(*) FROM things").Scan(&rows))
	require.Zero(t, rows)
}

func TestDatabaseGoesWithItsTestAlsoWhenASlotIsInUse(t *testing.T) {
	var name string
	ended := make(chan struct{})
	t.Run("user", func(t *testing.T) {
		d := NewDatabase(t)
		name = d.Name
		d.Exec(t, "CREATE PUBLICATION p", "SELECT pg_create_logical_replication_slot('"+d.Name+"', 'pgoutput')")
		conn, err := pgx.Connect(t.Context(), d.URL+"&replication=database")
		require.NoError(t, err)
		go func() {
			defer close(ended)
			_, _ = conn.PgConn().Exec(context.Background(), "START_REPLICATION SLOT "+d.Name+
				" LOGICAL 0/0 (proto_version '1', publication_names 'p')").ReadAll()
		}()
		other := d.Conn(t)
		Eventually(t, 10*time.Second, func() error {
			var pid int
			return other.QueryRow(t.Context(),
				"SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1", d.Name).Scan(&pid)
		})
	})
	<-ended
	conn, err := pgx.Connect(t.Context(), Postgres(t).URL("postgres"))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var left int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1)
		+ (SELECT count(*) FROM pg_replication_slots WHERE database = $1)`, name).Scan(&left))
	require.Zero(t, left)
}

func TestSharedPostgresCannotBeStopped(t *testing.T) {
	require.ErrorContains(t, Postgres(t).Stop(Fast), "PrivatePostgres")
	require.ErrorContains(t, Postgres(t).Kill(), "PrivatePostgres")
}

func TestPrivatePostgresKeepsDataAndPortOverEveryKindOfStop(t *testing.T) {
	c := PrivatePostgres(t, "fsync=on", "max_connections=30")
	d := c.NewDatabase(t)
	d.Exec(t, "CREATE TABLE things (id int)")
	port := c.Port
	for _, stop := range []func() error{
		func() error { return c.Stop(Fast) }, func() error { return c.Stop(Immediate) }, c.Kill,
	} {
		d.Exec(t, "INSERT INTO things VALUES (1)")
		require.NoError(t, stop())
		require.Error(t, c.Exec(d.Name, "SELECT 1"))
		require.NoError(t, c.Start())
	}
	require.NoError(t, c.Restart(Fast))
	require.Equal(t, port, c.Port)
	conn := d.Conn(t)
	var rows int
	var settings string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*), current_setting('fsync') || ' ' ||
		current_setting('max_connections') || ' ' || current_setting('wal_level') FROM things`).Scan(&rows, &settings))
	require.Equal(t, 3, rows)
	require.Equal(t, "on 30 logical", settings)
}

func TestPostgresAnswersOnItsSocket(t *testing.T) {
	d := NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), d.Cluster.SocketURL(d.Name))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.Equal(t, "unix", conn.PgConn().Conn().RemoteAddr().Network())
}

func TestAWrongSettingIsReportedWithTheServersWords(t *testing.T) {
	dir, err := scratch("pg")
	require.NoError(t, err)
	_, err = OpenCluster(dir, "wal_level=nonsense")
	require.ErrorContains(t, err, `invalid value for parameter "wal_level"`)
}

func TestAMissingPostgresNamesTheRemedy(t *testing.T) {
	t.Setenv("POSTGRES_VERSION", "1")
	_, err := postgresBin()
	require.ErrorContains(t, err, "make deps")
	require.NotContains(t, err.Error(), "\n")
	t.Setenv("PG_BIN", t.TempDir())
	_, err = postgresBin()
	require.ErrorContains(t, err, "no initdb in PG_BIN=")
}
