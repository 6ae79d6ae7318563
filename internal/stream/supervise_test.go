package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

func TestConsumerGoesOnAfterTheServerRestarts(t *testing.T) {
	server, js := changes(t)
	var l ledger
	var g gaps
	run(t, js, ConsumerOptions{Gap: g.add, Log: transcriptLog()}, l.handle)
	publish(t, js, 1, 10)
	l.await(t, 1, 10)
	for round := range 3 {
		require.NoError(t, server.Restart())
		testkit.Eventually(t, patience, func() error { return js.Conn().FlushTimeout(time.Second) })
		first, back := 11+10*round, time.Now()
		publish(t, js, first, first+9)
		l.await(t, first, first+9)
		require.Less(t, time.Since(back), 3*time.Second, "must wait neither for heartbeats to be missed nor for lost answers")
	}
	awaitFloor(t, js, 40)
	require.Empty(t, g.all(), "nothing was lost")
}

func TestConsumerAsksAnewAfterAReconnect(t *testing.T) {
	_, js := changes(t)
	var l ledger
	var state states
	run(t, js, ConsumerOptions{State: state.set, Log: transcriptLog()}, l.handle)
	state.await(t, true, "")
	require.NoError(t, js.Conn().ForceReconnect())
	state.await(t, true, errReconnected.Error()) // what was asked for on the old connection may be lost
	testkit.Eventually(t, patience, func() error { return js.Conn().FlushTimeout(time.Second) })
	publish(t, js, 1, 10)
	l.await(t, 1, 10)
}

func TestDeletedConsumerIsMadeAgainAndReadsEverythingAgain(t *testing.T) {
	_, js := changes(t)
	var l ledger
	var g gaps
	run(t, js, ConsumerOptions{Gap: g.add, Log: transcriptLog()}, l.handle)
	publish(t, js, 1, 10)
	awaitFloor(t, js, 10)
	require.NoError(t, js.DeleteConsumer(t.Context(), Changes, Invalidator))
	publish(t, js, 11, 20)
	awaitFloor(t, js, 20)
	require.Empty(t, g.all(), "the stream still held everything")
	require.GreaterOrEqual(t, len(l.seen()), 30)
}

func TestRecreatedStreamIsAGap(t *testing.T) {
	_, js := changes(t)
	var l ledger
	g := gaps{fail: errAway}
	run(t, js, ConsumerOptions{Gap: g.add, Log: transcriptLog()}, l.handle)
	publish(t, js, 1, 10)
	awaitFloor(t, js, 10)
	require.NoError(t, js.DeleteStream(t.Context(), Changes))
	_, err := Ensure(t.Context(), js, Config{})
	require.NoError(t, err)
	publish(t, js, 11, 20)
	awaitFloor(t, js, 10)
	l.await(t, 11, 20)
	g.await(t, 2, "created anew") // the first call failed
}

func TestNewConsumerOnAStreamThatLostItsBeginningIsAGap(t *testing.T) {
	_, js := changes(t)
	publish(t, js, 1, 10)
	purge(t, js, 6)
	var l ledger
	var g gaps
	g.fail = errAway
	handled := func(ctx context.Context, batch []*nats.Msg) error {
		if len(g.all()) < 2 {
			t.Error("taken before the gap was dealt with")
		}
		return l.handle(ctx, batch)
	}
	run(t, js, ConsumerOptions{Gap: g.add, Log: transcriptLog()}, handled)
	l.await(t, 6, 10)
	g.await(t, 2, "lost its beginning")
}

func TestMessagesThatExpiredUnhandledAreAGap(t *testing.T) {
	t.Run("while nobody ran", func(t *testing.T) {
		_, js := changes(t)
		var l ledger
		var g gaps
		stop := run(t, js, ConsumerOptions{Gap: g.add}, l.handle)
		publish(t, js, 1, 10)
		awaitFloor(t, js, 10)
		stop()
		publish(t, js, 11, 15)
		expire(t, js, 16)
		publish(t, js, 16, 20)
		run(t, js, ConsumerOptions{Gap: g.add, Log: transcriptLog()}, l.handle)
		l.await(t, 16, 20)
		g.await(t, 1, "messages 11 to 15 expired")
	})
	t.Run("while the handler was stuck", func(t *testing.T) {
		server := testkit.NATS(t)
		js := connect(t, server.URL)
		_, err := Ensure(t.Context(), js, Config{MaxAge: 2 * time.Second})
		require.NoError(t, err)
		var g gaps
		entered, release := make(chan struct{}), make(chan struct{})
		run(t, js, ConsumerOptions{Gap: g.add, Workers: 1, BatchMessages: 1, Log: transcriptLog()}, func(ctx context.Context, _ []*nats.Msg) error {
			select {
			case entered <- struct{}{}:
			default:
			}
			return until(ctx, release)
		})
		publish(t, js, 1, 1)
		<-entered
		g.await(t, 1, "messages 1 to 1 expired")
		close(release)
		publish(t, js, 2, 2)
		awaitFloor(t, js, 2)
		require.Len(t, g.all(), 1)
	})
}

func TestConsumerWaitsForTheStream(t *testing.T) {
	server := testkit.NATS(t)
	js := connect(t, server.URL)
	var l ledger
	var state states
	run(t, js, ConsumerOptions{State: state.set, Log: transcriptLog()}, l.handle)
	state.await(t, false, "stream not found")
	_, err := Ensure(t.Context(), js, Config{})
	require.NoError(t, err)
	state.await(t, true, "")
	publish(t, js, 1, 1)
	l.await(t, 1, 1)
}

func TestConsumerIsBroughtUpToDate(t *testing.T) {
	_, js := changes(t)
	_, err := js.CreateConsumer(t.Context(), Changes, jetstream.ConsumerConfig{
		Durable: Invalidator, AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 3, MaxAckPending: 7,
	})
	require.NoError(t, err)
	var state states
	run(t, js, ConsumerOptions{State: state.set}, new(ledger).handle)
	state.await(t, true, "")
	consumer, err := js.Consumer(t.Context(), Changes, Invalidator)
	require.NoError(t, err)
	require.Equal(t, -1, consumer.CachedInfo().Config.MaxDeliver)
	require.Equal(t, MaxAckPending, consumer.CachedInfo().Config.MaxAckPending)
}

func TestAnswersForAnEarlierConsumerAreNotSent(t *testing.T) {
	_, js := changes(t)
	entered, release := make(chan struct{}), make(chan struct{})
	stop := run(t, js, ConsumerOptions{Workers: 1, Log: transcriptLog()}, func(ctx context.Context, _ []*nats.Msg) error {
		select {
		case entered <- struct{}{}:
			return until(ctx, release)
		default:
			return errAway // messages of the new stream are not handled
		}
	})
	publish(t, js, 1, 1)
	<-entered
	require.NoError(t, js.DeleteStream(t.Context(), Changes))
	_, err := Ensure(t.Context(), js, Config{})
	require.NoError(t, err)
	publish(t, js, 2, 2) // has the sequence that 1 had
	testkit.Eventually(t, patience, func() error {
		consumer, err := js.Consumer(t.Context(), Changes, Invalidator)
		if err == nil && consumer.CachedInfo().NumAckPending == 0 {
			err = errors.New("not sent yet")
		}
		return err
	})
	close(release)
	stop()
	have, err := floor(t.Context(), js)
	require.NoError(t, err)
	require.Zero(t, have)
}

// expire lets what is stored expire, and nothing that comes later.
func expire(t *testing.T, js jetstream.JetStream, first uint64) {
	t.Helper()
	_, err := Ensure(t.Context(), js, Config{MaxAge: time.Second})
	require.NoError(t, err)
	testkit.Eventually(t, patience, func() error {
		if have := info(t, js).State.FirstSeq; have != first {
			return fmt.Errorf("stream begins at %d, not yet at %d", have, first)
		}
		return nil
	})
	_, err = Ensure(t.Context(), js, Config{})
	require.NoError(t, err)
}

func purge(t *testing.T, js jetstream.JetStream, before uint64) {
	t.Helper()
	stream, err := js.Stream(t.Context(), Changes)
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(before)))
}
