package testkit

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func TestNATSKeepsStreamsAndAddressOverRestart(t *testing.T) {
	n := NATS(t)
	js := n.JetStream(t, nats.ReconnectWait(5*time.Millisecond))
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s", []byte("kept"))
	require.NoError(t, err)
	url := n.URL
	require.NoError(t, n.Restart())
	require.Equal(t, url, n.URL)
	Eventually(t, 10*time.Second, func() error {
		s, err := js.Stream(t.Context(), "S")
		if err != nil {
			return err
		}
		_, err = s.GetMsg(t.Context(), 1)
		return err
	})
}

func TestNATSTakesOptions(t *testing.T) {
	n := NATS(t, func(o *server.Options) { o.Username, o.Password = "u", "p" })
	_, err := nats.Connect(n.URL)
	require.ErrorIs(t, err, nats.ErrAuthorization)
	require.Equal(t, "u", n.Conn(t, nats.UserInfo("u", "p")).Opts.User)
}
