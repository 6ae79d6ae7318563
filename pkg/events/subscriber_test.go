package events_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diary is what a subscriber was told, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, v ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, v...))
}

func (d *diary) event(e *events.Event)          { d.add("event %d", e.XID) }
func (d *diary) invalid(i *events.Invalidation) { d.add("keys %s", strings.Join(i.Keys, " ")) }
func (d *diary) gap(reason string)              { d.add("gap: %s", reason) }
func (d *diary) state(live bool, reason string) { d.add("live %v: %s", live, reason) }

func (d *diary) without(prefix string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.lines), func(l string) bool { return strings.HasPrefix(l, prefix) })
}

// await waits until the last line holds text.
func (d *diary) await(t *testing.T, text string) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.lines) == 0 || !strings.Contains(d.lines[len(d.lines)-1], text) {
			return fmt.Errorf("want %q last, have %q", text, d.lines)
		}
		return nil
	})
}

type bus struct {
	server *testkit.NATSServer
	js     jetstream.JetStream
}

func newBus(t *testing.T) *bus {
	server := testkit.NATS(t)
	b := &bus{server: server, js: server.JetStream(t)}
	b.stream(t, "CHANGES", "changes.>", 0)
	b.stream(t, "INVALIDATIONS", "invalidations.>", 0)
	return b
}

func (b *bus) stream(t *testing.T, name, subjects string, age time.Duration) {
	t.Helper()
	_, err := b.js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{
		Name: name, Subjects: []string{subjects}, MaxAge: age, Duplicates: 100 * time.Millisecond,
	})
	require.NoError(t, err)
}

func (b *bus) publish(t *testing.T, subject string, body []byte) uint64 {
	t.Helper()
	ack, err := b.js.Publish(t.Context(), subject, body)
	require.NoError(t, err)
	return ack.Sequence
}

var items = events.Table{Schema: "public", Name: "items"}

// change publishes an event of a table; its xid tells it from others.
func (b *bus) change(t *testing.T, table events.Table, xid uint64) {
	t.Helper()
	e := events.Event{
		Version: events.Version, Kind: events.KindTruncate, Source: "shop", Table: table, XID: xid,
		Position: events.Position{Epoch: 7, LSN: events.LSN(xid)}, Time: time.Unix(1, 0),
	}
	b.publish(t, events.ChangesSubject("shop", table), e.AppendBody(nil))
}

func (b *bus) invalidate(t *testing.T, subject string, i events.Invalidation) {
	t.Helper()
	i.Version, i.Source = events.Version, "shop"
	body, err := json.Marshal(i)
	require.NoError(t, err)
	b.publish(t, subject, body)
}

// subscribe runs a subscriber until the test ends, and returns once it is live.
func (b *bus) subscribe(t *testing.T, d *diary, opt events.SubscriberOptions) (stop func()) {
	t.Helper()
	nc := b.server.Conn(t, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	opt.OnGap, opt.OnState = d.gap, d.state
	s, err := events.NewSubscriber(nc, opt)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

func TestSubscriberReceivesChangesFromNowInOrder(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.change(t, items, 1)
	b.subscribe(t, d, events.SubscriberOptions{OnEvent: d.event, Source: "shop"})
	d.await(t, "live true")
	for xid := range uint64(300) {
		b.change(t, items, 100+xid)
	}
	d.await(t, "event 399")
	got := d.without("live")
	require.Len(t, got, 300)
	require.True(t, slices.IsSorted(got))
}

func TestSubscriberReceivesOnlyItsTables(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.subscribe(t, d, events.SubscriberOptions{OnEvent: d.event, Source: "shop", Tables: []events.Table{items}, FromSequence: 1})
	b.change(t, events.Table{Schema: "public", Name: "other"}, 1)
	b.change(t, items, 2)
	d.await(t, "event 2")
	require.Equal(t, []string{"event 2"}, d.without("live"))
}

func TestSubscriberBeginsWhereItIsTold(t *testing.T) {
	b := newBus(t)
	b.change(t, items, 1)
	b.change(t, items, 2)
	b.change(t, items, 3)

	bySequence := new(diary)
	b.subscribe(t, bySequence, events.SubscriberOptions{OnEvent: bySequence.event, Source: "shop", FromSequence: 2})
	bySequence.await(t, "event 3")
	require.Equal(t, []string{"event 2", "event 3"}, bySequence.without("live"))

	stream, err := b.js.Stream(t.Context(), "CHANGES")
	require.NoError(t, err)
	third, err := stream.GetMsg(t.Context(), 3)
	require.NoError(t, err)
	byTime := new(diary)
	b.subscribe(t, byTime, events.SubscriberOptions{OnEvent: byTime.event, Source: "shop", FromTime: third.Time})
	byTime.await(t, "event 3")
	require.Equal(t, []string{"event 3"}, byTime.without("live"))

	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(3)))
	late := new(diary)
	b.subscribe(t, late, events.SubscriberOptions{OnEvent: late.event, Source: "shop", FromTime: time.Unix(1, 0)})
	late.await(t, "event 3")
	require.Equal(t, []string{"gap: the stream does not reach back to the time to begin at", "event 3"}, late.without("live"))
}

func TestSubscriberReceivesInvalidationsOfItsTenantAndOfAll(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.subscribe(t, d, events.SubscriberOptions{OnInvalidation: d.invalid, Cache: "main", Tenants: []string{"t.1"}})
	d.await(t, "live true")
	b.invalidate(t, events.InvalidationSubject("main", "t.2"), events.Invalidation{Keys: []string{"b"}})
	b.invalidate(t, events.InvalidationSubject("main", "t.1"), events.Invalidation{Keys: []string{"a"}})
	b.invalidate(t, events.InvalidationSubject("other", "t.1"), events.Invalidation{Keys: []string{"c"}})
	b.invalidate(t, events.GlobalInvalidationSubject("main"), events.Invalidation{Keys: []string{"d"}})
	d.await(t, "keys d")
	require.Equal(t, []string{"keys a", "keys d"}, d.without("live"))
}

func TestSubscriberMissesNothingOverARestart(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.subscribe(t, d, events.SubscriberOptions{OnEvent: d.event, Source: "shop"})
	d.await(t, "live true")
	b.change(t, items, 1)
	d.await(t, "event 1")
	b.server.Stop()
	d.await(t, "live false")
	require.NoError(t, b.server.Start())
	b.js = b.server.JetStream(t)
	b.change(t, items, 2)
	d.await(t, "event 2")
	require.Equal(t, []string{"event 1", "event 2"}, d.without("live"))
}

func TestMessagesThatExpiredAreAGapBeforeAnythingNewer(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.subscribe(t, d, events.SubscriberOptions{OnInvalidation: d.invalid, Cache: "main"})
	d.await(t, "live true")
	subject := events.InvalidationSubject("main", "1")
	b.invalidate(t, subject, events.Invalidation{Keys: []string{"a"}})
	d.await(t, "keys a")
	b.server.Stop()
	d.await(t, "live false")
	require.NoError(t, b.server.Start())
	d.await(t, "live true")

	b.js = b.server.JetStream(t)
	b.server.Stop()
	d.await(t, "live false")
	other, err := testkit.OpenNATS(b.server.Dir) // the same streams where the subscriber cannot see them
	require.NoError(t, err)
	away := &bus{server: other, js: other.JetStream(t)}
	away.invalidate(t, subject, events.Invalidation{Keys: []string{"b"}})
	stream, err := away.js.Stream(t.Context(), "INVALIDATIONS")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	away.invalidate(t, subject, events.Invalidation{Keys: []string{"c"}})
	away.js.Conn().Close()
	other.Stop()
	require.NoError(t, b.server.Start())
	d.await(t, "keys c")
	require.Equal(t, []string{"keys a", "gap: messages 2 to 2 are gone", "keys c"}, d.without("live"))
}

func TestStreamCreatedAnewIsAGap(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.subscribe(t, d, events.SubscriberOptions{OnEvent: d.event, Source: "shop"})
	d.await(t, "live true")
	b.change(t, items, 1)
	d.await(t, "event 1")
	require.NoError(t, b.js.DeleteStream(t.Context(), "CHANGES"))
	b.stream(t, "CHANGES", "changes.>", 0)
	b.change(t, items, 2)
	d.await(t, "event 2")
	require.Equal(t, []string{"event 1", "gap: the stream was created anew", "event 2"}, d.without("live"))
}

func TestForeignMessagesThatExpireAreNoGap(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.stream(t, "CHANGES", "changes.>", 4*time.Second)
	b.subscribe(t, d, events.SubscriberOptions{OnEvent: d.event, Source: "shop", Tables: []events.Table{items}})
	d.await(t, "live true")
	testkit.Eventually(t, patience, func() error { // until more has expired than one look finds
		b.change(t, events.Table{Schema: "public", Name: "other"}, 0)
		stream, err := b.js.Stream(t.Context(), "CHANGES")
		if err == nil && stream.CachedInfo().State.FirstSeq < 40 {
			err = errors.New("too little has expired")
		}
		return err
	})
	b.change(t, items, 1)
	d.await(t, "event 1")
	require.Equal(t, []string{"event 1"}, d.without("live"))
}

func TestNewEpochIsAGap(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.subscribe(t, d, events.SubscriberOptions{OnInvalidation: d.invalid, Cache: "main"})
	d.await(t, "live true")
	subject := events.InvalidationSubject("main", "1")
	for i, epoch := range []uint64{7, 7, 8, 7, 8} {
		b.invalidate(t, subject, events.Invalidation{Keys: []string{fmt.Sprint(i)}, Epoch: epoch})
	}
	d.await(t, "keys 4")
	require.Equal(t, []string{"keys 0", "keys 1", "gap: epoch 8 began", "keys 2", "keys 3", "keys 4"}, d.without("live"))

	d = new(diary)
	b.subscribe(t, d, events.SubscriberOptions{OnEvent: d.event, Source: "shop"})
	d.await(t, "live true")
	e := events.Event{Version: events.Version, Kind: events.KindEpoch, Source: "shop", Position: events.Position{Epoch: 9}, Time: time.Unix(1, 0), Reason: "slot re-created", XID: 5}
	b.publish(t, events.SourceSubject("shop"), e.AppendBody(nil))
	d.await(t, "event 5")
	require.Equal(t, []string{"gap: epoch 9 began: slot re-created", "event 5"}, d.without("live"))
}

func TestMessageThatCannotBeReadIsAGap(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.subscribe(t, d, events.SubscriberOptions{OnEvent: d.event, Source: "shop"})
	d.await(t, "live true")
	b.publish(t, events.ChangesSubject("shop", items), []byte("{"))
	d.await(t, "gap: message 1 cannot be read")
	b.change(t, items, 2)
	d.await(t, "event 2")
}

func TestSubscriberWaitsAtANewerWireVersion(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.subscribe(t, d, events.SubscriberOptions{OnInvalidation: d.invalid, Cache: "main"})
	d.await(t, "live true")
	b.publish(t, events.InvalidationSubject("main", "1"), fmt.Appendf(nil, `{"v": %d}`, events.Version+1))
	b.invalidate(t, events.InvalidationSubject("main", "1"), events.Invalidation{Keys: []string{"a"}})
	d.await(t, "newer than")
	d.await(t, "live true")
	d.await(t, "newer than")
	require.Empty(t, d.without("live"))
}

func TestDeletedSubscriberConsumerIsMadeAgain(t *testing.T) {
	b, d := newBus(t), new(diary)
	b.subscribe(t, d, events.SubscriberOptions{OnEvent: d.event, Source: "shop"})
	d.await(t, "live true")
	stream, err := b.js.Stream(t.Context(), "CHANGES")
	require.NoError(t, err)
	for name := range stream.ConsumerNames(t.Context()).Name() {
		require.NoError(t, stream.DeleteConsumer(t.Context(), name))
	}
	b.change(t, items, 1)
	d.await(t, "event 1")
	require.Equal(t, []string{"event 1"}, d.without("live"))
}

func TestSubscriberOptionsAreChecked(t *testing.T) {
	nc := newBus(t).server.Conn(t)
	event, invalid, gap := func(*events.Event) {}, func(*events.Invalidation) {}, func(string) {}
	for says, opt := range map[string]events.SubscriberOptions{
		"exactly one of":       {OnGap: gap},
		"OnEvent and OnInval":  {OnGap: gap, OnEvent: event, OnInvalidation: invalid},
		"want OnGap":           {OnEvent: event, Source: "shop"},
		"source of the change": {OnEvent: event, OnGap: gap},
		"cache of the inval":   {OnInvalidation: invalid, OnGap: gap},
	} {
		_, err := events.NewSubscriber(nc, opt)
		require.ErrorContains(t, err, says)
	}
}
