package stream

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

// states remembers what was reported of a connection or a consumer.
type states struct {
	mu   sync.Mutex
	ok   bool
	said []string
}

func (s *states) set(ok bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ok = ok
	s.said = append(s.said, reason)
}

// await waits until the state is ok, or not, and a reason that holds text was given.
func (s *states) await(t *testing.T, ok bool, text string) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if said := strings.Join(s.said, "\n"); s.ok != ok || !strings.Contains(said, text) {
			return errors.New("reported so far: " + said)
		}
		return nil
	})
}

func TestConnectKeepsTryingUntilTheServerIsThere(t *testing.T) {
	s := testkit.NATS(t)
	s.Stop()
	var state states
	connected := make(chan *nats.Conn, 1)
	go func() {
		nc, err := Connect(t.Context(), Config{URL: s.URL}, "test", testLog(t), OnState(state.set))
		if err == nil {
			connected <- nc
		}
	}()
	state.await(t, false, "cannot connect to NATS")
	require.NoError(t, s.Start())
	nc := <-connected
	defer nc.Close()
	state.await(t, true, "")

	s.Stop()
	state.await(t, false, "disconnected from NATS")
	require.Error(t, nc.Publish("changes.x", nil), "nothing may be sent later behind the publisher's back")
	require.NoError(t, s.Start())
	state.await(t, true, "")
}

func TestConnectEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Connect(ctx, Config{URL: "127.0.0.1:1"}, "test", testLog(t))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestConnectReturnsMistakesAtOnce(t *testing.T) {
	_, err := Connect(t.Context(), Config{URL: "nat://h"}, "test", testLog(t))
	var mistake *ConfigError
	require.ErrorAs(t, err, &mistake)
}

func TestPasswordsAreNeverPrinted(t *testing.T) {
	s := testkit.NATS(t, func(o *server.Options) { o.Username, o.Password = "walfence", "right" })
	host := strings.TrimPrefix(s.URL, "nats://")
	var log transcript
	var state states
	for _, url := range []string{"nats://walfence:hunter2@" + host, "nats://hunter2@" + host, "nats://u:hunter2@127.0.0.1:1"} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := Connect(ctx, Config{URL: url}, "test", log.logger(), OnState(state.set))
		cancel()
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
	nc, err := Connect(t.Context(), Config{URL: "nats://walfence:right@" + host}, "test", log.logger())
	require.NoError(t, err)
	nc.Close()
	require.NotContains(t, log.String()+strings.Join(state.said, ""), "hunter2")
	require.NotContains(t, log.String(), "right@")
	require.Contains(t, log.String(), "Authorization Violation")
}

func TestDeniedOperationIsReported(t *testing.T) {
	s := testkit.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.CREATE.>"}},
		}}}
	})
	var state states
	registry := prometheus.NewRegistry()
	url := strings.Replace(s.URL, "nats://", "nats://u:p@", 1)
	nc, err := Connect(t.Context(), Config{URL: url}, "test", transcriptLog(), OnState(state.set), Metrics(registry))
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = Ensure(ctx, js, Config{})
	require.Error(t, err)
	state.await(t, true, "STREAM.CREATE.CHANGES")
	require.Equal(t, 1.0, testutil.ToFloat64(errorCounter(registry).WithLabelValues("permission")))
}
