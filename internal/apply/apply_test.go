package apply_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/walfence/walfence/internal/apply"
	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const rules = `
version: 1
source: shop
tenant: {column: tenant_id}
caches:
  main: {redis: "${REDIS_URL}"}
rules:
  - name: user
    table: users
    delete: ["tenant:{tenant}:user:{id}"]
  - name: user-name
    table: users
    delete: ["tenant:{tenant}:name:{name}"]
  - name: settings
    table: settings
    tenant: global
    delete: [settings]
`

// bench is an applier with everything around it.
type bench struct {
	*apply.Applier
	js       jetstream.JetStream
	nc       *nats.Conn
	redis    *testkit.RedisServer
	client   *goredis.Client
	registry *prometheus.Registry

	mu    sync.Mutex
	ready map[string]string // condition: why it does not hold, or empty
}

func setUp(t testing.TB, change ...func(*apply.Options)) *bench {
	t.Helper()
	s := &bench{redis: testkit.Redis(t), registry: prometheus.NewRegistry(), ready: map[string]string{}}
	s.client = s.redis.Client(t)
	server := testkit.NATS(t)
	s.nc = server.Conn(t)
	s.js = server.JetStream(t)
	_, err := stream.Ensure(t.Context(), s.js, stream.Config{MaxBytes: 1 << 30})
	require.NoError(t, err)
	feed, err := stream.NewPublisher(s.nc, stream.PublisherOptions{})
	require.NoError(t, err)
	t.Cleanup(feed.Close)
	opt := apply.Options{
		Program: compile(t, rules), Caches: []apply.Cache{{Name: "main", Client: openRedis(t, s.redis.URL(0))}},
		Feed: feed, Letters: s.js, Ready: s.note, Log: zaptest.NewLogger(t), Metrics: s.registry,
	}
	for _, c := range change {
		c(&opt)
	}
	s.Applier = apply.New(opt)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return s
}

func openRedis(t testing.TB, url string) *redis.Client {
	c, err := redis.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func compile(t testing.TB, rules string) *mapping.Program {
	p, err := mapping.Compile("rules.yaml", []byte(rules), func(string) (string, bool) { return "redis://h", true })
	require.NoError(t, err)
	return p
}

func (s *bench) note(name string, ok bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready[name] = ""; !ok {
		s.ready[name] = reason
	}
}

func (s *bench) unready(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready[name]
}

// fill stores values, each with a guard.
func (s *bench) fill(t testing.TB, keys ...string) {
	t.Helper()
	for _, key := range keys {
		require.NoError(t, s.client.MSet(t.Context(), key, "old", cache.GuardKey(key), "id").Err())
	}
}

// left returns the values that are there, without guards.
func (s *bench) left(t testing.TB) []string {
	t.Helper()
	names, err := s.client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	left := []string{}
	for _, name := range names {
		if !strings.Contains(name, "walfence-guard") {
			left = append(left, name)
		}
	}
	return left
}

// feed returns everything in the feed, by subject.
func (s *bench) feed(t testing.TB) map[string][]events.Invalidation {
	t.Helper()
	feed := map[string][]events.Invalidation{}
	for _, m := range s.stored(t, stream.Invalidations) {
		var told events.Invalidation
		require.NoError(t, json.Unmarshal(m.Data, &told))
		feed[m.Subject] = append(feed[m.Subject], told)
	}
	return feed
}

func (s *bench) stored(t testing.TB, name string) []*jetstream.RawStreamMsg {
	t.Helper()
	st, err := s.js.Stream(t.Context(), name)
	require.NoError(t, err)
	var out []*jetstream.RawStreamMsg
	for seq := uint64(1); seq <= st.CachedInfo().State.LastSeq; seq++ {
		m, err := st.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		out = append(out, m)
	}
	return out
}

// handle has messages applied, those that are handled later included.
func (s *bench) handle(t testing.TB, messages ...*nats.Msg) {
	t.Helper()
	err := s.Handle(t.Context(), messages)
	if later, ok := err.(*stream.Later); ok {
		err = later.Wait(t.Context())
	}
	require.NoError(t, err)
}

var commit events.LSN = 100

// message returns an event as it comes from CHANGES.
func message(t testing.TB, e *events.Event) *nats.Msg {
	e.Version, e.Source = 1, "shop"
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	commit++
	e.Position = events.Position{Epoch: 1, LSN: commit}
	subject := events.SourceSubject("shop")
	if e.Table != (events.Table{}) {
		subject = events.ChangesSubject("shop", e.Table)
	}
	return &nats.Msg{Subject: subject, Data: e.AppendBody(nil)}
}

func users(changes ...events.Change) *events.Event {
	return &events.Event{
		Kind: events.KindRows, Table: events.Table{Schema: "public", Name: "users"}, XID: 7,
		Columns: []string{"id", "name", "tenant_id"}, Identity: []bool{true, true, true}, Changes: changes,
	}
}

func row(values ...string) []events.Value {
	var out []events.Value
	for _, v := range values {
		out = append(out, events.Text(v))
	}
	return out
}

func updated(values ...string) events.Change {
	return events.Change{Op: events.Update, New: row(values...)}
}

func TestHandleRemovesExactlyTheKeysAndTellsTheFeed(t *testing.T) {
	s := setUp(t)
	s.fill(t, "tenant:7:user:1", "tenant:7:name:ann", "tenant:7:user:2", "tenant:8:user:1", "settings")
	moved := events.Change{Op: events.Update, Old: row("2", "bob", "7"), New: row("2", "bob", "8")}
	messages := []*nats.Msg{message(t, users(updated("1", "ann", "7"))), message(t, users(updated("1", "ann", "7"), moved))}
	s.handle(t, messages...)

	require.ElementsMatch(t, []string{"tenant:8:user:1", "settings"}, s.left(t))
	require.Zero(t, s.client.Exists(t.Context(), cache.GuardKey("tenant:7:user:1")).Val())
	feed := s.feed(t)
	require.Len(t, feed, 2)
	seven := feed["invalidations.main.7"][0]
	require.ElementsMatch(t, []string{"tenant:7:user:1", "tenant:7:name:ann", "tenant:7:user:2", "tenant:7:name:bob"}, seven.Keys)
	require.ElementsMatch(t, []string{"user", "user-name"}, seven.Rules)
	require.Equal(t, commit, seven.LSN)
	require.False(t, seven.Global)
	require.ElementsMatch(t, []string{"tenant:8:user:2", "tenant:8:name:bob"}, feed["invalidations.main.8"][0].Keys)
	require.Equal(t, commit, s.Status().LSN)
	require.NoError(t, testutil.GatherAndCompare(s.registry, strings.NewReader(`
# HELP walfence_keys_invalidated_total Keys removed from a cache, each once per batch.
# TYPE walfence_keys_invalidated_total counter
walfence_keys_invalidated_total{action="delete",rule="user"} 3
walfence_keys_invalidated_total{action="delete",rule="user-name"} 3
`), "walfence_keys_invalidated_total"))
}

func TestTruncateSweepsTheRulesOfItsTableForAllTenants(t *testing.T) {
	s := setUp(t)
	s.fill(t, "tenant:7:user:1", "tenant:8:user:1", "tenant:8:name:x", "settings", "tenant:8:user:1:more")
	truncate := &events.Event{Kind: events.KindTruncate, Table: events.Table{Schema: "public", Name: "users"}}
	s.handle(t, message(t, truncate), message(t, truncate))

	require.ElementsMatch(t, []string{"settings", "tenant:8:user:1:more"}, s.left(t))
	told := s.feed(t)["invalidations.main._"]
	require.Len(t, told, 2, "one per rule, though two events asked")
	require.True(t, told[0].Global)
	require.False(t, told[0].All)
	require.True(t, told[0].Patterns[0].Match("tenant:7:user:1") || told[1].Patterns[0].Match("tenant:7:user:1"))
	require.EqualValues(t, 1, testutil.CollectAndCount(s.registry, "walfence_sweeps_total"))
}

func TestARowThatDoesNotTellItsKeySweepsForItsTenantOnly(t *testing.T) {
	s := setUp(t)
	s.fill(t, "tenant:7:user:1", "tenant:7:name:ann", "tenant:7:name:bob", "tenant:8:name:ann")
	e := users(events.Change{Op: events.Update, New: []events.Value{events.Text("1"), {State: events.Unchanged}, events.Text("7")}})
	e.Identity[1] = false
	s.handle(t, message(t, e))
	require.ElementsMatch(t, []string{"tenant:8:name:ann"}, s.left(t))
	told := s.feed(t)["invalidations.main.7"]
	require.Len(t, told, 2)
}

func TestAnEpochInvalidatesEverythingAndMakesUnreadyUntilThen(t *testing.T) {
	s := setUp(t)
	s.fill(t, "tenant:7:user:1", "tenant:8:name:x", "settings", "someone else's")
	err := s.Handle(t.Context(), []*nats.Msg{message(t, &events.Event{Kind: events.KindEpoch, Reason: "timeline"})})
	later, ok := err.(*stream.Later)
	require.True(t, ok, err)
	require.Contains(t, s.unready(apply.ConditionEpoch), "timeline")
	require.NoError(t, later.Wait(t.Context()))
	require.Empty(t, s.unready(apply.ConditionEpoch))
	require.ElementsMatch(t, []string{"someone else's"}, s.left(t))
	told := s.feed(t)["invalidations.main._"]
	require.True(t, told[0].All && told[0].Global)
	require.Equal(t, "timeline", told[0].Reason)
}

func TestUnreadyWhileAnEpochCannotBeApplied(t *testing.T) {
	s := setUp(t)
	require.NoError(t, s.redis.Kill())
	done := make(chan error)
	go func() { done <- s.Gap(t.Context(), "expired") }()
	testkit.Eventually(t, 5*time.Second, func() error {
		if why := s.unready(apply.ConditionEpoch); !strings.Contains(why, "expired") {
			return fmt.Errorf("unready because of %q", why)
		}
		return nil
	})
	require.NoError(t, s.redis.Start())
	require.NoError(t, <-done)
	require.Empty(t, s.unready(apply.ConditionEpoch))
}

func TestAnUndecodableEventIsKeptAndSweepsWhatItsSubjectNames(t *testing.T) {
	s := setUp(t)
	s.fill(t, "tenant:7:user:1", "settings")
	s.handle(t, &nats.Msg{Subject: "changes.shop.public.users", Data: []byte(`{"v":1,"kind":"rows"`)})
	require.Equal(t, []string{"settings"}, s.left(t))
	letters := s.stored(t, stream.DeadLetters)
	require.Len(t, letters, 1)
	require.Equal(t, `{"v":1,"kind":"rows"`, string(letters[0].Data))

	s.fill(t, "tenant:7:user:1", "settings")
	s.handle(t, &nats.Msg{Subject: "changes.shop.public.unknown", Data: []byte("\xff")})
	require.Empty(t, s.left(t), "a subject that no rule knows tells nothing: everything")
}

func TestAHeartbeatMovesTheStatusAndNothingElse(t *testing.T) {
	s := setUp(t)
	s.handle(t, message(t, &events.Event{Kind: events.KindHeartbeat, Time: time.Now().Add(-time.Second)}))
	require.Greater(t, s.Status().Behind, 0.9)
	require.Less(t, s.Status().Silent, 5.0)
	require.Empty(t, s.feed(t))
}

func TestLargeRemovalsAreToldInMessagesThatFit(t *testing.T) {
	s := setUp(t)
	var changes []events.Change
	for i := range 20 {
		changes = append(changes, updated(fmt.Sprint(i), strings.Repeat(`"`, 3900)+fmt.Sprint(i), "7"))
	}
	messages := []*nats.Msg{message(t, users(changes...))}
	for i := range 100 {
		messages = append(messages, message(t, users(updated(fmt.Sprint(i), strings.Repeat("<", 3900)+fmt.Sprint(i), "7"))))
	}
	s.handle(t, messages...)
	keys := 0
	for _, m := range s.stored(t, stream.Invalidations) {
		require.Less(t, len(m.Data), 256<<10)
		var told events.Invalidation
		require.NoError(t, json.Unmarshal(m.Data, &told))
		keys += len(told.Keys)
	}
	require.Equal(t, 100+20+100, keys)
}

func TestATenantTooLongForASubjectIsToldToAll(t *testing.T) {
	s := setUp(t)
	tenant := strings.Repeat("x", 2000)
	s.handle(t, message(t, users(updated("1", "ann", tenant))))
	told := s.feed(t)["invalidations.main._"]
	require.Len(t, told, 1)
	require.Contains(t, told[0].Keys, "tenant:"+tenant+":user:1")
	require.Empty(t, told[0].Tenant)
}
