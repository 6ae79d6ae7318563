package integration

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

const plainSchema = "CREATE TABLE plain (tenant_id int, id int, n int, PRIMARY KEY (tenant_id, id))"

const plainRules = `
  - {name: plain, table: plain, delete: ["{tenant}:plain:{id}"]}
`

// stops sends a signal and expects the program to end in time.
func (r *rig) stops(p *running, within time.Duration) int {
	r.t.Helper()
	require.NoError(r.t, p.Signal(syscall.SIGTERM))
	began := time.Now()
	code := p.Exit(r.t, 2*patience)
	require.Less(r.t, time.Since(began), within)
	return code
}

func TestSIGTERMMakesCDCConfirmWhatIsPublishedAndLeave(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.start()
	r.plant("1:plain:1")
	var before string // the commit's record follows
	conn := r.db.Conn(t)
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), "INSERT INTO plain VALUES (1, 1) RETURNING pg_current_wal_insert_lsn()").Scan(&before)
	}))
	r.gone("1:plain:1")
	require.Zero(t, r.stops(r.cdc, 10*time.Second), r.cdc.Stderr())
	testkit.Eventually(t, patience, func() error {
		var confirmed string
		var active, done bool
		err := conn.QueryRow(t.Context(), "SELECT confirmed_flush_lsn::text, active, confirmed_flush_lsn > $1::pg_lsn FROM pg_replication_slots WHERE slot_name = $2",
			before, r.db.Name).Scan(&confirmed, &active, &done)
		if err == nil && (active || !done) {
			err = fmt.Errorf("confirmed up to %s, the commit stands after %s, active %v", confirmed, before, active)
		}
		return err
	})
}

func TestSIGTERMUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	r, s := shopRig(t, testkit.Postgres(t))
	r.start()
	l := r.work(s)
	require.Zero(t, r.stops(r.cdc, 15*time.Second), r.cdc.Stderr())
	l.proceed(50)
	r.cdc = r.revive(r.cdc)
	require.Zero(t, r.stops(r.invalidator, 10*time.Second), r.invalidator.Stderr())
	l.proceed(50)
	r.invalidator = r.revive(r.invalidator)
	l.proceed(50)
	require.Zero(t, r.epochs())
	l.fresh(true)
}

func TestASecondSignalEndsCDCWhileItDrains(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.start()
	r.nats.Stop()
	r.exec("INSERT INTO plain VALUES (1, 1)")
	r.cdc.awaitUnready(t, "nats")
	testkit.Eventually(t, patience, func() error { return r.cdc.unpublished(t) })
	r.insists(r.cdc)
}

func TestASecondSignalEndsInvalidatorWhileItWaitsForRedis(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.start()
	require.NoError(t, r.client.Do(t.Context(), "CLIENT", "PAUSE", 60_000, "WRITE").Err())
	r.exec("INSERT INTO plain VALUES (1, 1)")
	testkit.Eventually(t, patience, func() error { return r.held() })
	r.insists(r.invalidator)
}

// insists asks a program to end that cannot do so at once, and then asks again.
func (r *rig) insists(p *running) {
	r.t.Helper()
	require.NoError(r.t, p.Signal(syscall.SIGTERM))
	<-time.After(500 * time.Millisecond)
	require.True(r.t, p.Running(), "it had nothing to finish")
	require.Equal(r.t, 1, r.stops(p, 2*time.Second))
}
