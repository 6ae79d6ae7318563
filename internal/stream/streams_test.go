package stream

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

func TestEnsureCreatesStreamsThatPushBackAndForget(t *testing.T) {
	js := testkit.NATS(t).JetStream(t)
	cfg := Config{MaxBytes: 1 << 20, MaxAge: time.Hour}
	_, err := Open(t.Context(), js)
	require.ErrorIs(t, err, ErrStreamMissing)
	first, err := Ensure(t.Context(), js, cfg)
	require.NoError(t, err)

	c := first.Changes.Config
	require.Equal(t, jetstream.DiscardNew, c.Discard)
	require.Equal(t, jetstream.LimitsPolicy, c.Retention)
	require.Equal(t, jetstream.FileStorage, c.Storage)
	require.EqualValues(t, 1<<20, c.MaxBytes)
	require.Equal(t, time.Hour, c.MaxAge)
	require.True(t, c.DenyDelete)
	require.Equal(t, jetstream.DiscardOld, first.Invalidations.Config.Discard)
	require.Equal(t, noDuplicates, first.Invalidations.Config.Duplicates)
	require.Equal(t, []string{"deadletters.>"}, first.DeadLetters.Config.Subjects)

	again, err := Ensure(t.Context(), js, cfg)
	require.NoError(t, err)
	require.True(t, first.Changes.Created.Equal(again.Changes.Created))
	_, err = Open(t.Context(), js)
	require.NoError(t, err)
}

func TestFullStreamRefusesInsteadOfDropping(t *testing.T) {
	js := testkit.NATS(t).JetStream(t)
	_, err := Ensure(t.Context(), js, Config{MaxBytes: 4096})
	require.NoError(t, err)
	body := make([]byte, 1000)
	for err == nil {
		_, err = js.Publish(t.Context(), "changes.shop.public.items", body)
	}
	require.ErrorContains(t, err, "maximum bytes exceeded")
	require.EqualValues(t, 1, info(t, js).State.FirstSeq)
}

func TestEnsureUpdatesLimitsButDropsNothing(t *testing.T) {
	js := testkit.NATS(t).JetStream(t)
	_, err := Ensure(t.Context(), js, Config{MaxBytes: 1 << 20, MaxAge: time.Hour})
	require.NoError(t, err)
	publish(t, js, 1, 100)
	s, err := Ensure(t.Context(), js, Config{MaxBytes: 2 << 20, MaxAge: 2 * time.Hour})
	require.NoError(t, err)
	require.EqualValues(t, 2<<20, s.Changes.Config.MaxBytes)
	require.Equal(t, 2*time.Hour, s.Changes.Config.MaxAge)
	require.Empty(t, s.Kept)

	s, err = Ensure(t.Context(), js, Config{MaxBytes: 1000})
	require.NoError(t, err)
	require.EqualValues(t, 2<<20, s.Changes.Config.MaxBytes)
	require.EqualValues(t, 100, s.Changes.State.Msgs)
	require.Len(t, s.Kept, 1)
}

func TestEnsureRefusesWhatBreaksThePromise(t *testing.T) {
	for says, change := range map[string]func(*jetstream.StreamConfig){
		"discard is DiscardOld, must be DiscardNew":     func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"retention is Interest, must be Limits":         func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
		"storage is Memory, must be File":               func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"message limit per subject is 1, must be -1":    func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"message size limit is 10, must be -1":          func(c *jetstream.StreamConfig) { c.MaxMsgSize = 10 },
		"subjects are [changes.a.>], must contain":      func(c *jetstream.StreamConfig) { c.Subjects = []string{"changes.a.>"} },
		"no_ack is true, must be false":                 func(c *jetstream.StreamConfig) { c.NoAck = true },
		"per-message TTL is true, must be false":        func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true },
		"change it with `nats stream edit CHANGES`, or": func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
	} {
		t.Run(strings.Fields(says)[0], func(t *testing.T) {
			js := testkit.NATS(t).JetStream(t)
			config := changesConfig(Config{})
			change(&config)
			_, err := js.CreateStream(t.Context(), config)
			require.NoError(t, err)
			_, err = Ensure(t.Context(), js, Config{})
			var unfit *UnfitError
			require.ErrorAs(t, err, &unfit)
			require.ErrorContains(t, err, says)
			_, err = Open(t.Context(), js)
			require.ErrorContains(t, err, says)
		})
	}
}

func TestLastIsTheNewestOfItsSource(t *testing.T) {
	_, js := changes(t)
	_, ok, err := Last(t.Context(), js, "shop")
	require.NoError(t, err)
	require.False(t, ok)

	publish(t, js, 1, 2)
	_, err = js.Publish(t.Context(), "changes.other.public.items", []byte("3"))
	require.NoError(t, err)
	m, ok, err := Last(t.Context(), js, "shop")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "2", string(m.Body))
	require.EqualValues(t, 2, m.Sequence)
	require.Equal(t, "changes.shop.public.items", m.Subject)
}

func TestLastIsAnErrorWhereItCannotBeKnown(t *testing.T) {
	js := testkit.NATS(t).JetStream(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, ok, err := Last(ctx, js, "shop")
	require.Error(t, err)
	require.False(t, ok)
}
