package events

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

func TestMessageLostOnTheWayEndsTheReception(t *testing.T) {
	js := testkit.NATS(t).JetStream(t)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "INVALIDATIONS", Subjects: []string{"invalidations.>"}})
	require.NoError(t, err)
	for range 3 {
		_, err := js.Publish(t.Context(), "invalidations.main.1", []byte(`{"v":1}`))
		require.NoError(t, err)
	}
	consumer, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
	require.NoError(t, err)
	batch, err := consumer.Fetch(3, jetstream.FetchMaxWait(5*time.Second))
	require.NoError(t, err)
	var messages []jetstream.Msg
	for m := range batch.Messages() {
		messages = append(messages, m)
	}
	require.Len(t, messages, 3)

	got := 0
	s, err := NewSubscriber(js.Conn(), SubscriberOptions{Cache: "main", OnInvalidation: func(*Invalidation) { got++ }, OnGap: func(string) {}})
	require.NoError(t, err)
	r := reception{s: s}
	require.NoError(t, r.take(messages[0]))
	require.ErrorContains(t, r.take(messages[2]), "lost on the way")
	require.Equal(t, 1, got)
	require.EqualValues(t, 2, s.next, "is read again")
}
