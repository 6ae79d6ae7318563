package watch

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func serve(t *testing.T, code int, body string) Program {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return Program{Name: "cdc", Address: strings.TrimPrefix(s.URL, "http://")}
}

func TestNotReadyIsAnErrorWithTheReasons(t *testing.T) {
	require.NoError(t, serve(t, http.StatusOK, "ok\n").Ready(t.Context()))
	require.EqualError(t, serve(t, http.StatusServiceUnavailable, "nats: away\npostgres: starting\n").Ready(t.Context()),
		"nats: away; postgres: starting")
	require.ErrorContains(t, Program{Name: "cdc", Address: "127.0.0.1:1"}.Ready(t.Context()), "ask cdc")
	require.Error(t, serve(t, http.StatusInternalServerError, "").Alive(t.Context()))
}

func TestSumTakesWhatHasTheLabels(t *testing.T) {
	m, err := serve(t, http.StatusOK, "# TYPE a counter\na{x=\"1\",y=\"1\"} 2\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"2\"} 5\n").Metrics(t.Context())
	require.NoError(t, err)
	require.Equal(t, 10.0, m.Sum("a"))
	require.Equal(t, 5.0, m.Sum("a", "x=1"))
	require.Equal(t, 3.0, m.Sum("a", "x=1", "y=2"))
	require.Zero(t, m.Sum("a", "z=1"))
	require.Zero(t, m.Sum("b"))
}

func histogram(t *testing.T, upTo1, upTo2, all int) Latency {
	t.Helper()
	m, err := serve(t, http.StatusOK, fmt.Sprintf("# TYPE h histogram\nh_bucket{le=\"1\"} %d\nh_bucket{le=\"2\"} %d\nh_bucket{le=\"+Inf\"} %d\nh_sum 1\nh_count %[3]d\n",
		upTo1, upTo2, all)).Metrics(t.Context())
	require.NoError(t, err)
	return m.Latency("h")
}

func TestQuantilesOfWhatWasAdded(t *testing.T) {
	first, second := histogram(t, 10, 10, 10), histogram(t, 10, 110, 110)
	require.Equal(t, 500*time.Millisecond, first.Quantile(0.5))
	require.Equal(t, 1500*time.Millisecond, second.Since(first).Quantile(0.5))
	require.Equal(t, first, first.Since(second), "it was restarted")
	require.Equal(t, second, first.Plus(second.Since(first)))
	require.Zero(t, Latency{}.Quantile(0.5))
	require.Equal(t, 3.0, Gained(3, 7))
	require.Equal(t, 4.0, Gained(7, 3))
}
