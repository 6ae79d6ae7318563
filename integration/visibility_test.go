package integration

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

// synchronous sets synchronous_standby_names until the test ends, and waits until it counts.
func (r *rig) synchronous(names string) {
	r.t.Helper()
	r.t.Cleanup(func() { // or dropping the database would wait too
		_ = r.db.Cluster.Exec("postgres", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
	})
	r.exec("ALTER SYSTEM SET synchronous_standby_names = '"+names+"'", "SELECT pg_reload_conf()")
	testkit.Eventually(r.t, patience, func() error {
		var now string
		err := r.query("SHOW synchronous_standby_names", &now)
		if err == nil && now != names {
			err = fmt.Errorf("synchronous_standby_names is %q", now)
		}
		return err
	})
}

// query reads one value on a connection of its own.
func (r *rig) query(sql string, into any) error {
	conn, err := pgx.Connect(r.t.Context(), r.db.URL)
	if err != nil {
		return err
	}
	defer conn.Close(r.t.Context())
	return conn.QueryRow(r.t.Context(), sql).Scan(into)
}

// stall commits SQL in the background, and returns once the commit waits for a synchronous standby. What it returns gets the outcome.
func (r *rig) stall(sql string) <-chan error {
	r.t.Helper()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan struct{})
	r.t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		conn, err := pgx.Connect(ctx, r.db.URL)
		if err == nil {
			_, err = conn.Exec(ctx, sql)
			err = errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
		}
		done <- err
	}()
	testkit.Eventually(r.t, patience, func() error {
		var waiting bool
		err := r.query("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()", &waiting)
		if err == nil && !waiting {
			err = errors.New("no commit waits")
		}
		return err
	})
	return done
}

// local commits SQL without waiting for standbys.
func (r *rig) local(sql string) {
	r.t.Helper()
	r.exec("SET synchronous_commit = local", sql)
}

func TestACommitThatIsStreamedBeforeItIsVisibleIsHeldAndDelaysNoOther(t *testing.T) {
	t.Parallel()
	r := rigOn(t, testkit.PrivatePostgres(t), plainSchema, plainRules)
	r.start()
	r.local("INSERT INTO plain VALUES (1, 1, 0)")
	r.settle()
	r.synchronous("absent")
	stalled := r.stall("UPDATE plain SET n = 1 WHERE id = 1")
	for id := range 20 {
		other := fmt.Sprintf("2:plain:%d", id)
		r.plant(other, "1:plain:1")
		began := time.Now()
		r.local(fmt.Sprintf("INSERT INTO plain VALUES (2, %d)", id))
		r.gone(other)
		require.Less(t, time.Since(began), 2*time.Second)
	}
	var old int
	require.NoError(t, r.query("SELECT n FROM plain WHERE id = 1", &old))
	require.Zero(t, old, "every reader still gets the old row")
	require.NotEmpty(t, r.left("1:plain:1"), "removed too early: a reader would fill the old row again")
	require.Equal(t, 1.0, r.cdc.metric(t, "walfence_cdc_gate_waiting"))

	require.NoError(t, r.cdc.Kill()) // what is held is read again
	r.cdc = r.revive(r.cdc)
	r.plant("2:plain:100")
	r.local("INSERT INTO plain VALUES (2, 100)")
	r.gone("2:plain:100")
	require.NotEmpty(t, r.left("1:plain:1"))
	require.Empty(t, stalled)

	r.synchronous("")
	require.NoError(t, <-stalled)
	r.gone("1:plain:1")
	require.Zero(t, r.epochs())
}

// receive runs a real synchronous standby, one that keeps WAL only, until the test ends.
func (r *rig) receive(name string) {
	r.t.Helper()
	cmd := exec.Command(filepath.Join(r.db.Cluster.Bin, "pg_receivewal"), "--synchronous", "--no-loop", "--status-interval=1", "--directory="+r.t.TempDir(),
		fmt.Sprintf("--dbname=host=127.0.0.1 port=%d user=postgres application_name=%s", r.db.Cluster.Port, name))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(r.t, cmd.Start())
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it ends with the server
		_ = cmd.Wait()
	})
	testkit.Eventually(r.t, patience, func() error {
		var there bool
		err := r.query("SELECT count(*) > 0 FROM pg_stat_replication WHERE application_name = '"+name+"' AND state = 'streaming'", &there)
		if err == nil && !there {
			err = errors.New("the standby does not stream yet")
		}
		return err
	})
}

func TestBeingASynchronousStandbyIsSeenAndSaidAndCommitsGoOn(t *testing.T) {
	t.Parallel()
	r := rigOn(t, testkit.PrivatePostgres(t), plainSchema, plainRules)
	r.start() // before the standby, so that PostgreSQL prefers us
	r.receive("standby")
	r.synchronous("*")
	began := time.Now()
	r.exec("INSERT INTO plain VALUES (1, 1)") // waits for a synchronous standby
	require.Less(t, time.Since(began), 10*time.Second)
	r.cdc.awaitUnready(t, "synchronous_standby_names")
	reason := r.cdc.at.Ready(t.Context()).Error()
	require.Contains(t, reason, "walfence", "it names itself")
	for id := range 5 {
		r.exec(fmt.Sprintf("INSERT INTO plain VALUES (2, %d)", id))
	}
	require.Less(t, time.Since(began), 30*time.Second)
	r.plant("1:plain:1")
	r.synchronous("standby")
	r.cdc.awaitReady(t)
	r.gone("1:plain:1")
}
