package cache_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/cache/pgxreplica"
	"github.com/walfence/walfence/pkg/events"
)

func TestMetricsSayWhatHappened(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	registry := prometheus.NewRegistry()
	users := open[string](t, s.redis, cache.Options{Name: "users"}, cache.WithFeed(s.feed))
	pages := open[string](t, s.redis, cache.Options{Name: "pages"})
	registry.MustRegister(users.Collector(), pages.Collector())
	get(t, users, "k", "v")
	get(t, users, "k", "v")
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, label := range m.Label {
				name += " " + label.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"walfence_cache_reads_total users local": 1, "walfence_cache_reads_total users miss": 1, "walfence_cache_fills_total users stored": 1,
		"walfence_cache_load_seconds users": 1, "walfence_cache_feed_live users": 1, "walfence_cache_reads_total pages miss": 0,
	} {
		got, ok := values[name]
		require.True(t, ok, "%s in %v", name, values)
		require.Equal(t, want, got, name)
	}
}

// spans records what a tracer is told.
type spans struct{ names, ended []string }

func (s *spans) Start(ctx context.Context, name string) (context.Context, func(error)) {
	s.names = append(s.names, name)
	return ctx, func(error) { s.ended = append(s.ended, name) }
}

func TestAMissIsTraced(t *testing.T) {
	s := &spans{}
	c := open[string](t, testkit.Redis(t).Client(t), cache.Options{}, cache.WithTracer(s))
	get(t, c, "k", "v")
	require.Equal(t, []string{"cache.read", "cache.load", "cache.fill"}, s.names)
	require.Equal(t, []string{"cache.load", "cache.fill", "cache.read"}, s.ended)
}

func TestLoadersOfBothDriversReadInOneSessionAndProve(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	require.NoError(t, cache.NewApplied(client, "shop").Restore(t.Context(), highest(at(1, 1))))
	database := testkit.NewDatabase(t)
	db, err := sql.Open("pgx", database.URL)
	require.NoError(t, err)
	defer db.Close()
	var isolation, readOnly string
	const question = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
	for name, load := range map[string]cache.Load[string]{
		"database/sql": cache.OnReplica(db, func(ctx context.Context, tx *sql.Tx) (string, error) {
			return "v", tx.QueryRowContext(ctx, question).Scan(&isolation, &readOnly)
		}),
		"pgx": pgxreplica.Load(database.Conn(t), func(ctx context.Context, tx pgx.Tx) (string, error) {
			return "v", tx.QueryRow(ctx, question).Scan(&isolation, &readOnly)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			c := open[string](t, client, cache.Options{Source: "shop"})
			got, err := c.Get(t.Context(), "k", load)
			require.NoError(t, err)
			require.Equal(t, "v", got)
			require.Equal(t, "read committed on", isolation+" "+readOnly)
			require.EqualValues(t, 1, c.Stats().Refused, "a primary has no replay position: not proved")
			got, err = load(t.Context())
			require.NoError(t, err, "outside of a cache it just loads")
			require.Equal(t, "v", got)
		})
	}
}

func TestWaitForReturnsOnceACommitIsApplied(t *testing.T) {
	server := testkit.NATS(t)
	js := server.JetStream(t)
	for _, name := range []string{"CHANGES", "INVALIDATIONS"} {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{map[string]string{"CHANGES": "changes.>", "INVALIDATIONS": "invalidations.>"}[name]}})
		require.NoError(t, err)
	}
	consumer, err := js.CreateConsumer(t.Context(), "CHANGES", jetstream.ConsumerConfig{Durable: "invalidator", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	feed, err := cache.OpenFeed(server.Conn(t), cache.FeedOptions{Cache: "main", Source: "shop"})
	require.NoError(t, err)
	defer feed.Close()

	publish := func(floor events.LSN) {
		c := events.Continuity{Floor: floor, Slot: "s", Publication: "p", Stream: time.Now()}
		m := &nats.Msg{Subject: events.ChangesSubject("shop", events.Table{Schema: "public", Name: "users"}), Data: []byte("{}"), Header: nats.Header{}}
		m.Header.Set(events.HeaderContinuity, string(c.Append(nil)))
		_, err := js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
	}
	ack := func() {
		batch, err := consumer.Fetch(1)
		require.NoError(t, err)
		for m := range batch.Messages() {
			require.NoError(t, m.DoubleAck(t.Context()))
		}
	}
	notYet := func(lsn events.LSN) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := feed.WaitFor(ctx, lsn)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	notYet(10)
	publish(9)
	notYet(10)
	publish(10)
	notYet(10)
	ack()
	notYet(10)
	ack()
	require.NoError(t, feed.WaitFor(t.Context(), 10))
}

func TestResponsesCarryWhatCachesNeed(t *testing.T) {
	require.Equal(t, "max-age=10, s-maxage=3600, stale-while-revalidate=30, stale-if-error=60",
		cache.Freshness{MaxAge: 10 * time.Second, SharedMaxAge: time.Hour, StaleWhileRevalidate: 30 * time.Second, StaleIfError: time.Minute}.String())
	require.Equal(t, "private, max-age=10", cache.Freshness{Private: true, MaxAge: 10 * time.Second, SharedMaxAge: time.Hour}.String())
	require.Equal(t, "no-cache", cache.Freshness{}.String())

	h := http.Header{}
	cache.SetSurrogateKeys(h, "tenant:7:user:1", "a b")
	require.Equal(t, "tenant:7:user:1 a%20b", h.Get("Surrogate-Key"))

	etag := cache.ETag([]byte("body"))
	require.NotEqual(t, etag, cache.ETag([]byte("other")))
	for header, want := range map[string]bool{"": false, etag: true, "W/" + etag: true, `"x", ` + etag: true, "*": true, `"x"`: false} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("If-None-Match", header)
		w := httptest.NewRecorder()
		require.Equal(t, want, cache.NotModified(w, r, etag), header)
		require.Equal(t, etag, w.Header().Get("ETag"))
		if want {
			require.Equal(t, http.StatusNotModified, w.Code)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("If-None-Match", etag)
	require.False(t, cache.NotModified(httptest.NewRecorder(), r, etag))
	require.False(t, errors.Is(cache.ErrNotFound, cache.ErrUnavailable))
}
