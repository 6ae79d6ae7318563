package source_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/walfence/walfence/internal/relay"
	"github.com/walfence/walfence/internal/source"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// rig is a source on a database and a JetStream server of a test's own.
type rig struct {
	t    *testing.T
	db   *testkit.Database
	nats *testkit.NATSServer
	js   jetstream.JetStream
	slot string
	cfg  func(*source.Config)

	mu     sync.Mutex
	ready  bool
	reason string
	stop   func()
	done   chan struct{}
	err    error // when done is closed
}

func newRig(t *testing.T, schema ...string) *rig {
	r := &rig{t: t, db: testkit.NewDatabase(t), nats: testkit.NATS(t), cfg: func(*source.Config) {}}
	r.slot = "s_" + r.db.Name
	r.js = r.nats.JetStream(t)
	r.db.Exec(t, schema...)
	return r
}

// start runs a source until halt, or the end of the test.
func (r *rig) start(rules string) {
	t := r.t
	r.mu.Lock()
	r.ready, r.reason = false, "starting"
	r.mu.Unlock()
	program, err := mapping.Compile("rules.yaml", []byte("version: 1\nsource: shop\ncaches: {main: {redis: \"redis://none\"}}\n"+rules), nil)
	require.NoError(t, err)
	log, metrics := zaptest.NewLogger(t), prometheus.NewRegistry()
	nc, err := stream.Connect(t.Context(), stream.Config{URL: r.nats.URL}, "test", log)
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	relayed, err := relay.New(nc, relay.Config{Source: "shop", Budget: 4 << 20, Log: log, Metrics: metrics})
	require.NoError(t, err)
	cfg := source.Config{
		URL: r.db.URL, Slot: r.slot, Publication: "walfence", Setup: true, Heartbeat: 200 * time.Millisecond, Program: program,
		Log: log, Metrics: metrics, JetStream: js,
		Ready: func(ok bool, reason string) { r.mu.Lock(); defer r.mu.Unlock(); r.ready, r.reason = ok, reason },
		Ensure: func(ctx context.Context) (time.Time, error) {
			s, err := stream.Ensure(ctx, js, stream.Config{})
			if err != nil {
				return time.Time{}, err
			}
			return s.Changes.Created, nil
		},
	}
	r.cfg(&cfg)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); r.err = source.New(cfg, relayed).Run(ctx) }()
	r.done = done
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			<-done
			relayed.Close()
			nc.Close()
		})
	}
	t.Cleanup(r.stop)
}

// halt stops the source and returns what it ended with.
func (r *rig) halt() error {
	r.stop()
	return r.err
}

// ended waits until the source ends by itself, and returns what it ended with.
func (r *rig) ended() error {
	select {
	case <-r.done:
	case <-time.After(20 * time.Second):
		require.Fail(r.t, "still running")
	}
	return r.err
}

func (r *rig) awaitReady() {
	testkit.Eventually(r.t, 20*time.Second, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.ready {
			return fmt.Errorf("not ready: %s", r.reason)
		}
		return nil
	})
}

// message is one of CHANGES.
type message struct {
	events.Event
	origin  events.Continuity
	subject string
	id      string
}

// events reads CHANGES from the beginning up to the event that done says is the last, heartbeats left out.
func (r *rig) events(done func(message) bool) (all []message) {
	t := r.t
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var s jetstream.Stream
	testkit.Eventually(t, 10*time.Second, func() (err error) { s, err = r.js.Stream(ctx, "CHANGES"); return err })
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	for {
		m, err := c.Next(jetstream.FetchContext(ctx))
		require.NoError(t, err, "after %d events", len(all))
		var got message
		require.NoError(t, events.Decode(m.Data(), &got.Event))
		got.origin, err = events.ParseContinuity(m.Headers().Get(events.HeaderContinuity))
		require.NoError(t, err)
		got.subject, got.id = m.Subject(), m.Headers().Get("Nats-Msg-Id")
		if got.Kind != events.KindHeartbeat {
			all = append(all, got)
		}
		if done(got) {
			return all
		}
	}
}

// until says that the event that holds a row with this first new value is the last.
func until(text string) func(message) bool {
	return func(m message) bool {
		for _, c := range m.Changes {
			if len(c.New) > 0 && c.New[0].Text == text {
				return true
			}
		}
		return false
	}
}

// rows shows the changes of events as text: op, new row, old row.
func rows(all []message) (out []string) {
	for _, m := range all {
		if m.Kind != events.KindRows {
			out = append(out, fmt.Sprintf("%s %s", m.Kind, m.Table))
			continue
		}
		for _, c := range m.Changes {
			out = append(out, fmt.Sprintf("%s %s %s %s", m.Table.Name, c.Op, tuple(c.New), tuple(c.Old)))
		}
	}
	return out
}

func tuple(values []events.Value) string {
	if values == nil {
		return "-"
	}
	text := "("
	for i, v := range values {
		if i > 0 {
			text += " "
		}
		text += [...]string{"absent", "null", "unchanged", v.Text}[v.State]
	}
	return text + ")"
}
