package gate_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/gate"
	"github.com/walfence/walfence/internal/testkit"
)

func connect(t *testing.T, url string) *pgconn.PgConn {
	conn, err := pgconn.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func identify(t *testing.T, conn *pgconn.PgConn) gate.Server {
	results, err := conn.Exec(t.Context(), gate.IdentifySQL).ReadAll()
	require.NoError(t, err)
	server, err := gate.ReadServer(results[0].Rows[0])
	require.NoError(t, err)
	return server
}

func TestSnapshotsComeFromTheServerThatStreamsAndNoOther(t *testing.T) {
	db := testkit.NewDatabase(t)
	conn := connect(t, db.URL)
	server := identify(t, conn)
	require.NotZero(t, server.System)
	require.EqualValues(t, 1, server.Timeline)

	p, err := gate.NewPrimary(t.Context(), conn, server, 0)
	require.NoError(t, err)
	s, err := p.Snapshot(t.Context())
	require.NoError(t, err)
	require.NotZero(t, s.Xmax)

	other := testkit.PrivatePostgres(t)
	elsewhere := connect(t, other.URL("postgres"))
	p, err = gate.NewPrimary(t.Context(), elsewhere, server, 0)
	require.NoError(t, err)
	_, err = p.Snapshot(t.Context())
	require.ErrorContains(t, err, "another server")

	restarted := identify(t, elsewhere)
	require.NoError(t, other.Restart(testkit.Fast))
	again := connect(t, other.URL("postgres"))
	require.NotEqual(t, restarted, identify(t, again), "a restart makes it another server")
}

func TestOurOwnWalsenderAsASynchronousStandbyIsSeen(t *testing.T) {
	cluster := testkit.PrivatePostgres(t)
	require.NoError(t, cluster.Exec("postgres", "CREATE PUBLICATION p FOR ALL TABLES", "SELECT pg_create_logical_replication_slot('s', 'pgoutput')"))
	sender := connect(t, cluster.URL("postgres")+"&replication=database&application_name=walfence")
	require.NoError(t, pglogrepl.StartReplication(t.Context(), sender, "s", 0,
		pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication, PluginArgs: []string{"proto_version '1'", "publication_names 'p'"}}))

	// PostgreSQL shows no priority of a walsender that has never confirmed anything.
	position, err := pglogrepl.ParseLSN("0/1")
	require.NoError(t, err)
	require.NoError(t, pglogrepl.SendStandbyStatusUpdate(t.Context(), sender, pglogrepl.StandbyStatusUpdate{WALWritePosition: position}))

	conn := connect(t, cluster.URL("postgres"))
	snapshot := func() error {
		p, err := gate.NewPrimary(t.Context(), conn, identify(t, conn), sender.PID())
		if err != nil {
			return err
		}
		_, err = p.Snapshot(t.Context())
		_ = conn.Deallocate(t.Context(), "walfence_snapshot")
		return err
	}
	require.NoError(t, snapshot())
	require.NoError(t, cluster.Exec("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"))
	testkit.Eventually(t, 10*time.Second, func() error {
		err := snapshot()
		if err == nil {
			return context.DeadlineExceeded
		}
		var synchronous *gate.Synchronous
		require.ErrorAs(t, err, &synchronous)
		require.Equal(t, "walfence", synchronous.Name)
		return nil
	})
}
