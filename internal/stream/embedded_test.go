package stream

import (
	"net"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func embedded(t *testing.T, cfg Config) (*Embedded, jetstream.JetStream) {
	t.Helper()
	e, err := StartEmbedded(cfg, testLog(t))
	require.NoError(t, err)
	nc, err := e.Connect(t.Context(), "test", testLog(t))
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return e, js
}

func TestEmbeddedKeepsItsStreamsOverARestart(t *testing.T) {
	cfg := Config{URL: "embedded", Listen: "127.0.0.1:0", Store: t.TempDir()}
	e, js := embedded(t, cfg)
	_, err := Ensure(t.Context(), js, cfg)
	require.NoError(t, err)
	publish(t, js, 1, 3)
	created := info(t, js).Created
	js.Conn().Close()
	require.NoError(t, e.Close())

	e, js = embedded(t, cfg)
	defer func() { require.NoError(t, e.Close()) }()
	defer js.Conn().Close()
	s, err := Ensure(t.Context(), js, cfg)
	require.NoError(t, err)
	require.EqualValues(t, 3, s.Changes.State.Msgs)
	require.True(t, created.Equal(s.Changes.Created))
}

func TestEmbeddedServesOtherProcesses(t *testing.T) {
	e, js := embedded(t, Config{URL: "embedded", Listen: "127.0.0.1:0", Store: t.TempDir()})
	defer func() { require.NoError(t, e.Close()) }()
	defer js.Conn().Close()
	nc, err := Connect(t.Context(), Config{URL: "embedded", Listen: e.Addr()}, "invalidator", testLog(t))
	require.NoError(t, err)
	defer nc.Close()
	require.Equal(t, nats.CONNECTED, nc.Status())
}

func TestEmbeddedRefusesAStoreInUse(t *testing.T) {
	cfg := Config{URL: "embedded", Listen: "127.0.0.1:0", Store: t.TempDir()}
	e, js := embedded(t, cfg)
	defer func() { require.NoError(t, e.Close()) }()
	defer js.Conn().Close()
	_, err := StartEmbedded(cfg, testLog(t))
	require.ErrorIs(t, err, ErrStoreInUse)
	require.ErrorContains(t, err, cfg.Store)
}

func TestEmbeddedRefusesAnAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	cfg := Config{URL: "embedded", Listen: l.Addr().String(), Store: t.TempDir()}
	_, err = StartEmbedded(cfg, testLog(t))
	require.ErrorContains(t, err, "address already in use")
	require.NoError(t, l.Close())
	e, err := StartEmbedded(cfg, testLog(t)) // and lets go of the store
	require.NoError(t, err)
	require.NoError(t, e.Close())
}

func TestFitLowersALimitThatTheDiskCannotHold(t *testing.T) {
	cfg := Config{URL: "embedded", Listen: "127.0.0.1:0", Store: t.TempDir(), MaxBytes: 1 << 20}
	e, js := embedded(t, cfg)
	defer func() { require.NoError(t, e.Close()) }()
	defer js.Conn().Close()

	fit, lowered, err := e.Fit(cfg)
	require.NoError(t, err)
	require.False(t, lowered)
	require.Equal(t, cfg, fit)

	cfg.MaxBytes = 1 << 60
	fit, lowered, err = e.Fit(cfg)
	require.NoError(t, err)
	require.True(t, lowered)
	require.Less(t, fit.MaxBytes, cfg.MaxBytes)
	_, err = Ensure(t.Context(), js, fit)
	require.NoError(t, err)
}
