package check_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walfence/walfence/integration/check"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var things = check.View{
	Name: "thing",
	All:  "SELECT 'thing:' || id, ver, name FROM things",
	One:  "SELECT ver, name FROM things WHERE id = $1",
	Pick: func(rng *rand.Rand) (string, []any) {
		id := rng.IntN(3) + 1
		return fmt.Sprint("thing:", id), []any{id}
	},
}

// open makes a table of two things, one to three being what readers ask for, and an empty cache.
func open(t *testing.T) (*testkit.Database, *redis.Client, check.Cache) {
	t.Helper()
	db := testkit.NewDatabase(t)
	db.Exec(t, "CREATE TABLE things (id int PRIMARY KEY, ver bigint, name text); INSERT INTO things VALUES (1, 1, 'one'), (2, 7, 'two')")
	client := testkit.Redis(t).Client(t)
	c, err := check.Guarded(client)
	require.NoError(t, err)
	return db, client, c
}

func read(t *testing.T, c check.Cache, conn *pgx.Conn, id int) check.Value {
	t.Helper()
	page := check.Page{View: &things, Key: fmt.Sprint("thing:", id), Args: []any{id}}
	value, err := page.Read(t.Context(), c, conn)
	require.NoError(t, err)
	return value
}

func TestCompareFindsEveryValueThatIsNotTheDatabases(t *testing.T) {
	db, client, c := open(t)
	conn := db.Conn(t)
	for id := range 3 {
		read(t, c, conn, id+1)
	}
	compare := func() check.Report {
		report, err := check.Compare(t.Context(), conn, client, []check.View{things})
		require.NoError(t, err)
		require.Equal(t, 3, report.Compared)
		return report
	}
	require.Empty(t, compare().Stale)
	db.Exec(t, "UPDATE things SET ver = 2 WHERE id = 1; DELETE FROM things WHERE id = 2; INSERT INTO things VALUES (3, 1, 'three')")
	require.Equal(t, []check.Stale{
		{Key: "thing:1", Cached: check.Value{Ver: 1, Content: "one"}, Database: check.Value{Ver: 2, Content: "one"}},
		{Key: "thing:2", Cached: check.Value{Ver: 7, Content: "two"}},
		{Key: "thing:3", Database: check.Value{Ver: 1, Content: "three"}},
	}, compare().Stale)
}

func TestCompareLeavesGuardsAloneAndRefusesWhatNobodyFilled(t *testing.T) {
	db, client, _ := open(t)
	conn := db.Conn(t)
	for _, key := range []string{"thing:1", "{thing}:2"} {
		require.NoError(t, client.Set(t.Context(), cache.GuardKey(key), "id", 0).Err())
	}
	report, err := check.Compare(t.Context(), conn, client, []check.View{things})
	require.NoError(t, err)
	require.Zero(t, report)
	require.NoError(t, client.Set(t.Context(), "other", "not ours", 0).Err())
	_, err = check.Compare(t.Context(), conn, client, []check.View{things})
	require.ErrorContains(t, err, "other")
}

func TestCompareReadsAllPrimariesOfACluster(t *testing.T) {
	db, _, _ := open(t)
	nodes := testkit.RedisCluster(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].Addr}, ContextTimeoutEnabled: true})
	defer client.Close()
	c, err := check.Guarded(client)
	require.NoError(t, err)
	conn := db.Conn(t)
	for id := range 30 {
		read(t, c, conn, id+1)
	}
	report, err := check.Compare(t.Context(), conn, client, []check.View{things})
	require.NoError(t, err)
	require.Equal(t, 30, report.Compared)
}

func TestMissingNamesTheKeysThatAreGone(t *testing.T) {
	_, client, _ := open(t)
	require.NoError(t, client.Set(t.Context(), "a", "{}", 0).Err())
	missing, err := check.Missing(t.Context(), client, []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, missing)
}

func TestReadersTellTheHistoryHowLateTheyWere(t *testing.T) {
	db, _, c := open(t)
	history := check.NewHistory()
	work := check.Reading(c, []check.View{things}, history)
	conn := db.Conn(t)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		require.NoError(t, work(t.Context(), conn, rng))
	}
	require.Zero(t, history.Reads().Judged)
	db.Exec(t, "UPDATE things SET ver = 2 WHERE id = 1")
	history.Committed("thing:1", 2)
	for range 20 {
		require.NoError(t, work(t.Context(), conn, rng))
	}
	require.NotZero(t, history.Reads().Late, "nobody has removed the value")
	require.Equal(t, history.Reads().Judged, history.Reads().Late)
}

func TestCrewGoesOnAfterItsConnectionsAreEnded(t *testing.T) {
	db, _, _ := open(t)
	url := db.URL + "&application_name=crew"
	crew := check.StartCrew(t.Context(), url, 2, 0, 1, func(ctx context.Context, conn *pgx.Conn, _ *rand.Rand) error {
		_, err := conn.Exec(ctx, "SELECT 1")
		return err
	})
	moves := func() {
		from := crew.Rounds.Load()
		testkit.Eventually(t, 20*time.Second, func() error {
			if crew.Rounds.Load() < from+10 {
				return fmt.Errorf("no rounds: %w", crew.Err())
			}
			return nil
		})
	}
	moves()
	db.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crew'")
	moves()
	crew.Stop()
	require.NotZero(t, crew.Failed.Load())
	require.Error(t, crew.Err())
	crew.Stop()
}

func TestBarrierWaitsUntilAllOfTheStreamIsAcknowledged(t *testing.T) {
	db, client, _ := open(t)
	js := testkit.NATS(t).JetStream(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	consumer, err := js.CreateConsumer(t.Context(), "S", jetstream.ConsumerConfig{Durable: "C", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	for range 2 {
		_, err = js.Publish(t.Context(), "s", nil)
		require.NoError(t, err)
	}
	b := check.Barrier{
		SQL: "UPDATE things SET ver = ver + 1 WHERE id = 1", Key: "thing:1", Conn: db.Conn(t), Redis: client,
		JetStream: js, Changes: "S", Consumer: "C",
	}
	passed := make(chan error, 1)
	go func() { passed <- b.Wait(t.Context()) }()
	var ver int64
	conn := db.Conn(t)
	testkit.Eventually(t, 20*time.Second, func() error { // the marker is planted before it is committed
		if err := conn.QueryRow(t.Context(), "SELECT ver FROM things WHERE id = 1").Scan(&ver); err != nil || ver != 2 {
			return fmt.Errorf("version %d: %w", ver, err)
		}
		return nil
	})
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	again := b
	again.Conn, again.SQL = conn, "SELECT 1"
	require.ErrorContains(t, again.Wait(short), "its key is still cached")
	require.NoError(t, client.Del(t.Context(), "thing:1").Err())
	m, err := consumer.Next()
	require.NoError(t, err)
	require.NoError(t, m.DoubleAck(t.Context()))
	require.Empty(t, passed)
	m, err = consumer.Next()
	require.NoError(t, err)
	require.NoError(t, m.DoubleAck(t.Context()))
	require.NoError(t, <-passed)
}
