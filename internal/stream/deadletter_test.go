package stream

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func TestDeadLetterIsACopyThatSaysWhereItCameFrom(t *testing.T) {
	_, js := changes(t)
	m := nats.NewMsg("changes.shop.public.items")
	m.Header.Set("Walfence-Continuity", "1")
	m.Header.Set(jetstream.MsgIDHeader, "id")
	m.Data = []byte("poison")
	_, err := js.PublishMsg(t.Context(), m)
	require.NoError(t, err)

	left := 2 // the second time stands for a redelivery
	run(t, js, ConsumerOptions{Log: transcriptLog()}, func(ctx context.Context, batch []*nats.Msg) error {
		if err := DeadLetter(ctx, js, batch[0], "shop", "a.rule", "cannot be decoded"); err != nil {
			return err
		}
		if left--; left > 0 {
			return errAway
		}
		return nil
	})
	awaitFloor(t, js, 1)

	letters, err := js.Stream(t.Context(), DeadLetters)
	require.NoError(t, err)
	require.EqualValues(t, 1, letters.CachedInfo().State.Msgs)
	letter, err := letters.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "deadletters.shop.a%2Erule", letter.Subject)
	require.Equal(t, "poison", string(letter.Data))
	require.Equal(t, "1", letter.Header.Get("Walfence-Continuity"))
	require.Equal(t, "cannot be decoded", letter.Header.Get(HeaderCause))
	require.Equal(t, "a.rule", letter.Header.Get(HeaderRule))
	require.Equal(t, "changes.shop.public.items", letter.Header.Get(HeaderSubject))
	require.Equal(t, "1", letter.Header.Get(HeaderSequence))
}
