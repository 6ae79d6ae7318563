package stream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

// crowded is a stream filled to nine tenths of its limit, by 90 messages.
func crowded(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := connect(t, testkit.NATS(t).URL)
	const size = 10_000
	_, err := Ensure(t.Context(), js, Config{MaxBytes: 100 * size})
	require.NoError(t, err)
	body := []byte(strings.Repeat("x", size-22-len("changes.shop.public.items")-8)) // and JetStream's own of each message
	for range 90 {
		_, err := js.Publish(t.Context(), "changes.shop.public.items", body)
		require.NoError(t, err)
	}
	require.InDelta(t, 0.9*100*size, info(t, js).State.Bytes, 2000)
	return js
}

// acknowledge makes a durable consumer that has acknowledged up to a sequence.
func acknowledge(t *testing.T, js jetstream.JetStream, name string, upTo int) {
	t.Helper()
	c, err := js.CreateConsumer(t.Context(), Changes, jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	if upTo == 0 {
		return
	}
	batch, err := c.Fetch(upTo)
	require.NoError(t, err)
	for m := range batch.Messages() {
		require.NoError(t, m.DoubleAck(t.Context()))
	}
}

// rounds runs as many rounds as a purge needs to trust what it saw, and one more.
func rounds(t *testing.T, js jetstream.JetStream, opt JanitorOptions) uint64 {
	t.Helper()
	j := NewJanitor(js, opt)
	for range 4 {
		require.NoError(t, j.round(t.Context()))
	}
	return info(t, js).State.FirstSeq
}

func TestJanitorMakesRoomOfWhatAllHaveAcknowledged(t *testing.T) {
	js := crowded(t)
	acknowledge(t, js, "invalidator", 60)
	acknowledge(t, js, "other", 20)
	registry := prometheus.NewRegistry()
	require.EqualValues(t, 21, rounds(t, js, JanitorOptions{Metrics: registry}))
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP walfence_consumer_ack_floor_seq Sequence up to which it has acknowledged everything.
# TYPE walfence_consumer_ack_floor_seq gauge
walfence_consumer_ack_floor_seq{consumer="invalidator"} 60
walfence_consumer_ack_floor_seq{consumer="other"} 20
# HELP walfence_consumer_pending_messages Messages that a durable consumer has not been given.
# TYPE walfence_consumer_pending_messages gauge
walfence_consumer_pending_messages{consumer="invalidator"} 30
walfence_consumer_pending_messages{consumer="other"} 70
# HELP walfence_stream_last_seq Sequence of its newest message.
# TYPE walfence_stream_last_seq gauge
walfence_stream_last_seq 90
# HELP walfence_stream_purged_messages_total Handled messages that were purged to make room.
# TYPE walfence_stream_purged_messages_total counter
walfence_stream_purged_messages_total 20
`), "walfence_consumer_ack_floor_seq", "walfence_consumer_pending_messages", "walfence_stream_last_seq", "walfence_stream_purged_messages_total"))
}

func TestJanitorKeepsAWindowForReplays(t *testing.T) {
	js := crowded(t)
	acknowledge(t, js, "invalidator", 90)
	first := rounds(t, js, JanitorOptions{})
	require.InDelta(t, 31, first, 2, "purges to three fifths, not everything")
}

func TestJanitorPurgesNothingThatNobodyHasAcknowledged(t *testing.T) {
	js := crowded(t)
	require.EqualValues(t, 1, rounds(t, js, JanitorOptions{}), "no consumer")
	acknowledge(t, js, "invalidator", 0)
	require.EqualValues(t, 1, rounds(t, js, JanitorOptions{}), "a consumer that has acknowledged nothing")
}

func TestJanitorKeepsWhatItsBoundAsksFor(t *testing.T) {
	js := crowded(t)
	acknowledge(t, js, "invalidator", 90)
	require.EqualValues(t, 1, rounds(t, js, JanitorOptions{Bound: func(context.Context) (uint64, bool) { return 0, false }}), "unknown")
	require.EqualValues(t, 10, rounds(t, js, JanitorOptions{Bound: func(context.Context) (uint64, bool) { return 10, true }}))
}

func TestJanitorNeverPurgesTheLastMessage(t *testing.T) {
	js := connect(t, testkit.NATS(t).URL)
	_, err := Ensure(t.Context(), js, Config{MaxBytes: 10_000})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "changes.shop.public.items", make([]byte, 9_500))
	require.NoError(t, err)
	acknowledge(t, js, "invalidator", 1)
	rounds(t, js, JanitorOptions{})
	require.EqualValues(t, 1, info(t, js).State.Msgs)
}

func TestJanitorsPurgeIsNotALossToARunningConsumer(t *testing.T) {
	js := crowded(t)
	var g gaps
	run(t, js, ConsumerOptions{Gap: g.add}, func(context.Context, []*nats.Msg) error { return nil })
	awaitFloor(t, js, 90)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewJanitor(js, JanitorOptions{Every: 3 * lookEvery}).Run(ctx)
	}()
	testkit.Eventually(t, patience, func() error {
		if info(t, js).State.FirstSeq == 1 {
			return errors.New("nothing was purged")
		}
		return nil
	})
	cancel()
	<-done
	<-time.After(2 * lookEvery) // it looks at least once more
	require.Empty(t, g.all())
}
