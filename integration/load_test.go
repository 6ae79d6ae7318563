package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/integration/check"
	"github.com/walfence/walfence/integration/shop"
	"github.com/walfence/walfence/internal/testkit"
)

// load is the example shop at work: four writers and four readers, and what they must find afterwards.
type load struct {
	r                *rig
	shop             *shop.Shop
	cache            check.Cache
	quiet            []string // keys of tenants that nobody changes
	writers, readers *check.Crew
}

// shopRig makes servers with the example shop in them, and the repository's rules.
func shopRig(t *testing.T, pg *testkit.Cluster) (*rig, *shop.Shop) {
	t.Helper()
	r := rigOn(t, pg, "SELECT", "")
	rules, err := os.ReadFile(filepath.Join(testkit.Top(), "rules.yaml"))
	require.NoError(t, err)
	r.env["RULES"] = r.write("shop.yaml", string(rules)+markerRules)
	s := shop.New()
	require.NoError(t, s.Create(t.Context(), r.db.Conn(t)))
	return r, s
}

const (
	loadWriters, loadReaders = 4, 4
	loadEvery                = 5 * time.Millisecond
)

// work starts the load. Both programs must be ready.
func (r *rig) work(s *shop.Shop) *load {
	r.t.Helper()
	l := &load{r: r, shop: s}
	cached, err := check.Guarded(r.client)
	require.NoError(r.t, err)
	l.cache = cached
	pages := s.Untouched()
	conn, err := pgx.Connect(r.t.Context(), r.db.URL)
	require.NoError(r.t, err)
	defer conn.Close(r.t.Context())
	require.NoError(r.t, shop.Fill(r.t.Context(), l.cache, conn, pages))
	for _, page := range pages {
		l.quiet = append(l.quiet, page.Key)
	}
	seed := rand.Uint64()
	r.t.Logf("seed of the load: %d", seed)
	l.writers = check.StartCrew(r.t.Context(), r.db.URL, loadWriters, loadEvery, seed, s.Write)
	l.readers = check.StartCrew(r.t.Context(), r.db.URL, loadReaders, loadEvery, seed+1, check.Reading(l.cache, s.Views(), s.History))
	r.t.Cleanup(l.writers.Stop)
	r.t.Cleanup(l.readers.Stop)
	l.proceed(200)
	return l
}

// proceed waits until so many further transactions are committed.
func (l *load) proceed(commits uint64) {
	l.r.t.Helper()
	until := l.writers.Rounds.Load() + commits
	testkit.Eventually(l.r.t, 2*patience, func() error {
		if done := l.writers.Rounds.Load(); done < until {
			return fmt.Errorf("%d of %d commits: %w", done, until, l.writers.Err())
		}
		return nil
	})
}

// fresh stops writing, waits until everything is applied, and compares everything that is cached. With apart, no key of a tenant that nobody
// changed may have gone.
func (l *load) fresh(apart bool) {
	t := l.r.t
	t.Helper()
	l.writers.Stop()
	l.r.settle()
	l.readers.Stop()
	conn, err := pgx.Connect(t.Context(), l.r.db.URL)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	views := append(l.shop.Views(), check.View{Name: "marker", All: "SELECT '1:marker', 0::bigint, '' WHERE false"})
	report, err := check.Compare(t.Context(), conn, l.r.client, views)
	require.NoError(t, err)
	require.NotZero(t, report.Compared)
	require.Empty(t, report.Stale)
	if apart {
		touched, err := check.Missing(t.Context(), l.r.client, l.quiet)
		require.NoError(t, err)
		require.Empty(t, touched, "keys of tenants that nobody changed")
	}
	reads := l.shop.History.Reads()
	t.Logf("%d commits, %d cached values compared; %d of %d reads late, at worst %v", l.writers.Rounds.Load(), report.Compared,
		reads.Late, reads.Judged, reads.Lateness.Max)
}
