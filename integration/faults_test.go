package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

// revive starts a program again that was killed, with the same settings, and waits until it is ready.
func (r *rig) revive(p *running) *running {
	r.t.Helper()
	again := r.program(p.at.Name, nil)
	again.awaitReady(r.t)
	return again
}

func TestKillingCDCUnderLoadLosesNothingAndBeginsNoEpoch(t *testing.T) {
	t.Parallel()
	r, s := shopRig(t, testkit.Postgres(t))
	r.start()
	l := r.work(s)
	for range 5 {
		require.NoError(t, r.cdc.Kill())
		l.proceed(50)
		r.cdc = r.revive(r.cdc)
		l.proceed(50)
		require.Zero(t, r.epochs())
	}
	l.fresh(true)
}

func TestKillingCDCWhileNATSIsAwayLosesNothingAndBeginsNoEpoch(t *testing.T) {
	t.Parallel()
	r, s := shopRig(t, testkit.Postgres(t))
	r.start()
	l := r.work(s)
	r.nats.Stop()
	l.proceed(1000) // time enough to confirm what is not in the stream
	require.NoError(t, r.cdc.unpublished(t))
	require.NoError(t, r.cdc.Kill())
	l.proceed(50)
	require.NoError(t, r.nats.Start())
	r.cdc = r.revive(r.cdc)
	l.proceed(50)
	require.Zero(t, r.epochs())
	l.fresh(true)
}

func TestKillingCDCWithJetStreamInsideUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	r, s := shopRig(t, testkit.Postgres(t))
	r.embed()
	r.start()
	r.connectEmbedded()
	l := r.work(s)
	for range 3 {
		require.NoError(t, r.cdc.Kill())
		l.proceed(50)
		r.cdc = r.revive(r.cdc)
		r.invalidator.awaitReady(t)
		l.proceed(50)
		require.Zero(t, r.epochs())
	}
	l.fresh(true)
}

func TestKillingInvalidatorUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	r, s := shopRig(t, testkit.Postgres(t))
	r.start()
	l := r.work(s)
	for range 5 {
		require.NoError(t, r.invalidator.Kill())
		l.proceed(50)
		r.invalidator = r.revive(r.invalidator)
		l.proceed(50)
	}
	l.fresh(true)
}

func TestKillingInvalidatorInTheMiddleOfABatchOnlyDelaysIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.start()
	require.NoError(t, r.client.Do(t.Context(), "CLIENT", "PAUSE", 60_000, "WRITE").Err())
	var keys []string
	for id := range 50 {
		r.exec(fmt.Sprintf("INSERT INTO plain VALUES (1, %d)", id))
		keys = append(keys, fmt.Sprintf("1:plain:%d", id))
	}
	testkit.Eventually(t, patience, r.held)
	require.NoError(t, r.invalidator.Kill())
	require.NoError(t, r.client.Do(t.Context(), "CLIENT", "UNPAUSE").Err())
	r.plant(keys...)
	r.invalidator = r.revive(r.invalidator)
	began := time.Now()
	r.gone(keys...)
	require.Less(t, time.Since(began), 10*time.Second)
}

func TestTwoInvalidatorsShareTheWorkAndOneIsEnough(t *testing.T) {
	t.Parallel()
	r, s := shopRig(t, testkit.Postgres(t))
	r.start()
	second := r.program("invalidator", nil)
	second.awaitReady(t)
	l := r.work(s)
	l.proceed(300)
	for _, p := range []*running{r.invalidator, second} {
		require.NotZero(t, p.metric(t, "walfence_keys_invalidated_total"))
	}
	require.NoError(t, second.Kill())
	l.proceed(100)
	l.fresh(true)
}

func TestPostgresFastRestartUnderLoadIsNoEpoch(t *testing.T) {
	t.Parallel()
	pg := testkit.PrivatePostgres(t)
	r, s := shopRig(t, pg)
	r.start()
	l := r.work(s)
	began := time.Now()
	require.NoError(t, pg.Stop(testkit.Fast))
	require.Less(t, time.Since(began), 10*time.Second, "PostgreSQL waits for what cdc does not confirm")
	r.cdc.awaitUnready(t, "postgres")
	require.NoError(t, pg.Start())
	r.cdc.awaitReady(t)
	l.proceed(100)
	require.Equal(t, 1.0, r.epochs(), "the first start's")
	l.fresh(true)
}

func TestPostgresImmediateStopUnderLoadLeavesNothingStale(t *testing.T) {
	t.Parallel()
	pg := testkit.PrivatePostgres(t)
	r, s := shopRig(t, pg)
	r.start()
	l := r.work(s)
	require.NoError(t, pg.Restart(testkit.Immediate))
	testkit.Eventually(t, patience, func() error {
		if n := r.epochs("reason=crash"); n != 1 {
			return fmt.Errorf("%v epochs because of a crash", n)
		}
		return nil
	})
	r.ready()
	l.proceed(300)
	require.Equal(t, 2.0, r.epochs(), "the first start's and the crash's")
	l.fresh(false)
}

func TestNATSRestartUnderLoadLosesNothingAndIsOverInSeconds(t *testing.T) {
	t.Parallel()
	r, s := shopRig(t, testkit.Postgres(t))
	r.start()
	l := r.work(s)
	for range 3 {
		r.nats.Stop()
		r.cdc.awaitUnready(t, "nats")
		r.invalidator.awaitUnready(t, "nats")
		l.proceed(50)
		require.NoError(t, r.nats.Start())
		began := time.Now()
		r.ready()
		r.settle()
		require.Less(t, time.Since(began), 10*time.Second)
	}
	require.Equal(t, 1.0, r.epochs(), "the first start's")
	l.fresh(true)
}

func TestRedisAwayUnderLoadHoldsEventsUntilItIsBack(t *testing.T) {
	t.Parallel()
	r, s := shopRig(t, testkit.Postgres(t))
	r.redis.Args = []string{"--appendonly", "yes", "--appendfsync", "always"} // so that what is cached is there again
	require.NoError(t, r.redis.Restart())
	r.start()
	l := r.work(s)
	require.NoError(t, r.redis.Kill())
	r.invalidator.awaitUnready(t, "cache main")
	l.proceed(100)
	r.cdc.awaitReady(t)
	require.NoError(t, r.redis.Start())
	r.invalidator.awaitReady(t)
	l.proceed(100)
	l.fresh(true)
}
