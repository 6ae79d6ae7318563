package integration

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

// unpublished returns nil once cdc has read something that is not in the stream.
func (p *running) unpublished(t *testing.T) error {
	t.Helper()
	if p.metric(t, "walfence_cdc_unpublished_transactions") == 0 {
		return errors.New("cdc has published everything")
	}
	return nil
}

// held returns nil once the invalidator has messages that it has not acknowledged.
func (r *rig) held() error {
	consumer, err := r.jetstream.Consumer(r.t.Context(), "CHANGES", "invalidator")
	if err != nil {
		return err
	}
	if consumer.CachedInfo().NumAckPending == 0 {
		return errors.New("everything is acknowledged")
	}
	return nil
}

// works shows that a commit removes its key.
func (r *rig) works() {
	r.t.Helper()
	r.plant("7:plain:7", "7:plain:8")
	r.exec("INSERT INTO plain VALUES (7, 7, 1) ON CONFLICT (tenant_id, id) DO UPDATE SET n = plain.n + 1")
	r.gone("7:plain:7")
	require.NotEmpty(r.t, r.left("7:plain:8"))
}

func TestProgramsWaitForNATSThatIsAwayAtStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.nats.Stop()
	r.cdc, r.invalidator = r.program("cdc", nil), r.program("invalidator", nil)
	for _, p := range []*running{r.cdc, r.invalidator} {
		p.awaitUnready(t, "nats: ")
		require.NoError(t, p.at.Alive(t.Context()))
	}
	require.NoError(t, r.nats.Start())
	r.ready()
	r.works()
}

func TestInvalidatorWaitsForRedisThatIsAwayAtStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	require.NoError(t, r.redis.Kill())
	r.cdc, r.invalidator = r.program("cdc", nil), r.program("invalidator", nil)
	r.invalidator.awaitUnready(t, "cache main")
	r.cdc.awaitReady(t)
	r.exec("INSERT INTO plain VALUES (1, 1)")
	require.NoError(t, r.redis.Start())
	r.ready()
	r.works()
}

func TestInvalidatorWaitsForACDCThatHasNeverRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.invalidator = r.program("invalidator", nil)
	r.invalidator.awaitUnready(t, "stream")
	r.cdc = r.program("cdc", nil)
	r.ready()
	r.works()
}

func TestCDCWaitsForAPostgreSQLThatIsAwayAtStart(t *testing.T) {
	t.Parallel()
	pg := testkit.PrivatePostgres(t)
	r := rigOn(t, pg, plainSchema, plainRules)
	require.NoError(t, pg.Stop(testkit.Fast))
	r.cdc, r.invalidator = r.program("cdc", nil), r.program("invalidator", nil)
	r.cdc.awaitUnready(t, "postgres: ")
	require.NoError(t, r.cdc.at.Alive(t.Context()))
	require.NoError(t, pg.Start())
	r.ready()
	r.works()
}

func TestASecondCDCOnTheSlotSaysSoWaitsAndTakesOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.start()
	second := r.program("cdc", nil)
	second.awaitUnready(t, "another cdc")
	r.works()
	require.NoError(t, r.cdc.Kill())
	second.awaitReady(t)
	r.works()
	require.Zero(t, second.metric(t, "walfence_cdc_epochs_total"))
}
