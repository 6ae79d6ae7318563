package shop

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/integration/check"
	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/mapping"
)

func open(t *testing.T) (*Shop, *pgx.Conn) {
	t.Helper()
	s := New()
	conn := testkit.NewDatabase(t).Conn(t)
	require.NoError(t, s.Create(t.Context(), conn))
	return s, conn
}

func TestSchemaFitsTheRepositorysRulesWithoutAWarning(t *testing.T) {
	_, conn := open(t)
	text, err := os.ReadFile(filepath.Join(testkit.Top(), "rules.yaml"))
	require.NoError(t, err)
	program, err := mapping.Compile("rules.yaml", text, func(string) (string, bool) { return "redis://127.0.0.1", true })
	require.NoError(t, err)
	_, problems, err := catalog.Check(t.Context(), conn, program.Tables())
	require.NoError(t, err)
	require.Empty(t, problems)
}

// versions reads what stands behind every key of one of the views.
func versions(t *testing.T, conn *pgx.Conn, view check.View) map[string]check.Value {
	t.Helper()
	rows, err := conn.Query(t.Context(), view.All)
	require.NoError(t, err)
	all := map[string]check.Value{}
	var key string
	var value check.Value
	_, err = pgx.ForEachRow(rows, []any{&key, &value.Ver, &value.Content}, func() error {
		_, twice := all[key]
		require.False(t, twice, "%s: %s", view.Name, key)
		all[key] = value
		return nil
	})
	require.NoError(t, err)
	return all
}

func TestEveryStepChangesWhatItSaysAndNoQuietTenant(t *testing.T) {
	s, conn := open(t)
	rng := rand.New(rand.NewPCG(1, 2))
	before := make([]map[string]check.Value, len(s.Views()))
	for i, view := range s.Views() {
		before[i] = versions(t, conn, view)
		require.NotEmpty(t, before[i], view.Name)
	}
	weights := 0
	for _, st := range steps {
		weights += st.weight
		for range 20 {
			require.NoError(t, st.do(s, t.Context(), conn, rng))
		}
	}
	require.Equal(t, 100, weights)
	require.NoError(t, s.Truncate(t.Context(), conn))
	for i, view := range s.Views() {
		after := versions(t, conn, view)
		require.NotEqual(t, before[i], after, "%s: no step changes it", view.Name)
		for key, value := range after {
			require.LessOrEqual(t, s.History.Newest(key), value.Ver, key)
		}
	}
	profiles := versions(t, conn, s.profiles())
	for _, page := range s.Untouched() {
		require.Equal(t, before[0][page.Key], profiles[page.Key])
		require.EqualValues(t, 1, profiles[page.Key].Ver)
	}
}

func TestPickedKeysAreThoseOfTheViews(t *testing.T) {
	s, conn := open(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, view := range s.Views() {
		all, found := versions(t, conn, view), 0
		for range 200 {
			key, args := view.Pick(rng)
			var value check.Value
			err := conn.QueryRow(t.Context(), view.One, args...).Scan(&value.Ver, &value.Content)
			if errors.Is(err, pgx.ErrNoRows) {
				require.NotContains(t, all, key)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, all[key], value, key)
			found++
		}
		require.Greater(t, found, 20, view.Name)
	}
}
