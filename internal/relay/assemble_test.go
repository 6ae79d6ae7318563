package relay

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/gate"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

// reading returns a session that publishes to a server of the test's own, and what gives the events that came of it.
func reading(t *testing.T) (*Session, func() []events.Event) {
	nc := testkit.NATS(t).Conn(t)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = stream.Ensure(t.Context(), js, stream.Config{})
	require.NoError(t, err)
	r, err := New(nc, Config{Source: "shop", Budget: 1 << 20, Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
	require.NoError(t, err)
	t.Cleanup(r.Close)
	s := r.Begin(events.Continuity{System: 1, Timeline: 1, Slot: "s", Epoch: 1, Stream: time.Now()}, nil, oneTable{})
	g, err := gate.New(t.Context(), func(context.Context) (gate.Snapshot, error) { return gate.ParseSnapshot("1000:1000:") })
	require.NoError(t, err)
	s.Admit(g)
	return s, func() (all []events.Event) {
		require.NoError(t, r.Finish(t.Context()))
		in, err := js.Stream(t.Context(), stream.Changes)
		require.NoError(t, err)
		for seq := uint64(1); seq <= in.CachedInfo().State.LastSeq; seq++ {
			m, err := in.GetMsg(t.Context(), seq)
			require.NoError(t, err)
			var e events.Event
			require.NoError(t, events.Decode(m.Data, &e))
			all = append(all, e)
		}
		return all
	}
}

func TestARowThatDoesNotFitItsTableSweeps(t *testing.T) {
	for name, row := range map[string]wire{
		"no column": wire{'I'}.u32(1).byte('N').u16(0),
		"one":       wire{'U'}.u32(1).byte('N').u16(1).byte('n'),
		"old":       wire{'D'}.u32(1).byte('O').u16(1).byte('n'),
	} {
		s, published := reading(t)
		for _, m := range []wire{begin(16), relationMessage(), row, commit(16)} {
			require.NoError(t, s.Message(m), name)
		}
		all := published()
		require.Len(t, all, 1, name)
		require.Equal(t, events.KindSweep, all[0].Kind, name)
		require.Equal(t, events.LSN(24), all[0].End, name)
	}
}

func TestNoRowIsReadByALayoutThatMayBeAnOlderOne(t *testing.T) {
	s, published := reading(t)
	damaged := relationMessage()
	damaged = damaged[:len(damaged)-1]
	for _, m := range []wire{
		begin(16), relationMessage(), updateMessage(1), damaged, updateMessage(2), commit(16), begin(32), updateMessage(3), commit(32),
	} {
		require.NoError(t, s.Message(m))
	}
	all := published()
	require.Len(t, all, 3)
	require.Len(t, all[0].Changes, 1)
	require.Equal(t, events.KindSweep, all[1].Kind)
	require.Equal(t, events.KindSweep, all[2].Kind)
	require.Equal(t, events.LSN(32), all[2].Position.LSN)
}

func TestReadingWaitsWhenTooManyTransactionsFollowOneThatIsNotVisible(t *testing.T) {
	s, _ := reading(t)
	for range openAccounts - 1 {
		s.ledger.open(events.Transaction{})
	}
	require.Nil(t, s.Room())
	s.ledger.open(events.Transaction{})
	require.NotNil(t, s.Room())
	for range openAccounts {
		s.ledger.close(s.ledger.head, 1)
	}
	require.Nil(t, s.Room())
}

func TestAStreamThatBreaksOffIsNotFollowed(t *testing.T) {
	s, _ := reading(t)
	require.NoError(t, s.Message(begin(16)))
	require.NoError(t, s.Message(relationMessage()))
	require.ErrorContains(t, s.Message(begin(32)), "begin within")
	require.NoError(t, s.Message(commit(16)))
	require.ErrorContains(t, s.Message(updateMessage(1)), "outside a transaction")
	require.ErrorContains(t, s.Message(commit(16)), "cannot be followed")
}
