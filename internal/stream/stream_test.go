package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walfence/walfence/internal/testkit"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// changes is a server with the three streams.
func changes(t *testing.T) (*testkit.NATSServer, jetstream.JetStream) {
	t.Helper()
	server := testkit.NATS(t)
	js := connect(t, server.URL)
	_, err := Ensure(t.Context(), js, Config{})
	require.NoError(t, err)
	return server, js
}

// connect connects the way that the programs do.
func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := Connect(t.Context(), Config{URL: url}, t.Name(), testLog(t))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

// publish stores messages whose bodies are the numbers from first to last.
func publish(t *testing.T, js jetstream.JetStream, first, last int) {
	t.Helper()
	for i := first; i <= last; i++ {
		_, err := js.Publish(t.Context(), "changes.shop.public.items", []byte(strconv.Itoa(i)))
		require.NoError(t, err)
	}
}

func info(t *testing.T, js jetstream.JetStream) *jetstream.StreamInfo {
	t.Helper()
	stream, err := js.Stream(t.Context(), Changes)
	require.NoError(t, err)
	return stream.CachedInfo()
}

func floor(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	consumer, err := js.Consumer(ctx, Changes, Invalidator)
	if err != nil {
		return 0, err
	}
	return consumer.CachedInfo().AckFloor.Stream, nil
}

// awaitFloor waits until everything up to a sequence is acknowledged.
func awaitFloor(t *testing.T, js jetstream.JetStream, want uint64) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		have, err := floor(t.Context(), js)
		if err == nil && have != want {
			err = fmt.Errorf("ack floor is %d, want %d", have, want)
		}
		return err
	})
}

var errAway = errors.New("redis is away")
