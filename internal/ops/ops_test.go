package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/internal/config"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, c *Conditions) *Server {
	t.Helper()
	s, err := Serve("127.0.0.1:0", c, NewRegistry("test"), zap.NewNop())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func get(t *testing.T, s *Server, path, accept string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+path, nil)
	require.NoError(t, err)
	request.Header.Set("Accept", accept)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestReadyOnlyWhileAllConditionsHoldAndReasonsAreListed(t *testing.T) {
	c := NewConditions("postgres", "nats")
	s := serve(t, c)
	code, body := get(t, s, "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "nats: starting\npostgres: starting\n", body)
	c.Set("nats", true, "ignored")
	c.Set("postgres", false, "slot is in use")
	code, body = get(t, s, "/readyz", "application/json")
	require.Equal(t, http.StatusServiceUnavailable, code)
	var answer struct {
		Ready      bool
		Conditions []Condition
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.False(t, answer.Ready)
	require.Equal(t, "slot is in use", answer.Conditions[1].Reason)
	require.Empty(t, answer.Conditions[0].Reason)
	c.Set("postgres", true, "")
	code, body = get(t, s, "/readyz", "")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ok\n", body)
	code, _ = get(t, s, "/livez", "")
	require.Equal(t, http.StatusOK, code)
}

func TestConditionKeepsSinceWhileOnlyItsReasonChanges(t *testing.T) {
	c := NewConditions("nats")
	first := c.All()[0].Since
	c.Set("nats", false, "still away")
	require.Equal(t, first, c.All()[0].Since)
	c.Set("nats", true, "")
	require.True(t, c.All()[0].Since.After(first))
}

func TestStatusShowsRegisteredPartsAndConditions(t *testing.T) {
	s := serve(t, NewConditions("postgres"))
	s.Register("relay", func() any { return map[string]int{"inflight": 7} })
	code, body := get(t, s, "/status", "")
	require.Equal(t, http.StatusOK, code)
	var answer map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.Equal(t, map[string]any{"inflight": 7.0}, answer["relay"])
	require.Equal(t, false, answer["ready"])
	require.Contains(t, answer, "conditions")
	require.Contains(t, answer["build"], "version")
}

func TestStatusThatCannotBeEncodedIsAnErrorAndNotHalfAnAnswer(t *testing.T) {
	s := serve(t, NewConditions())
	s.Register("bad", func() any { return func() {} })
	code, body := get(t, s, "/status", "")
	require.Equal(t, http.StatusInternalServerError, code)
	require.Equal(t, "internal error\n", body)
}

func TestMetricsTellBuildConditionsAndProcess(t *testing.T) {
	c := NewConditions("postgres", "nats")
	c.Set("nats", true, "")
	code, body := get(t, serve(t, c), "/metrics", "")
	require.Equal(t, http.StatusOK, code)
	for _, want := range []string{
		`walfence_build_info{commit=`, `program="test"`, `walfence_condition{name="nats"} 1`, `walfence_condition{name="postgres"} 0`,
		"go_goroutines", "process_resident_memory_bytes",
	} {
		require.Contains(t, body, want)
	}
}

func TestBoundAddressIsLoggedAndATakenOneIsAnError(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	s, err := Serve("127.0.0.1:0", NewConditions(), NewRegistry("test"), zap.New(core))
	require.NoError(t, err)
	require.Equal(t, s.Addr(), logs.FilterMessage("http listens").All()[0].ContextMap()["address"])
	require.NotContains(t, s.Addr(), ":0")
	_, err = Serve(s.Addr(), NewConditions(), NewRegistry("test"), zap.NewNop())
	require.ErrorContains(t, err, "listen for http: ")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
}

func TestLogIsJSONUnlessAskedOtherwiseAndHoldsNoPassword(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(config.Log{}, &out)
	require.NoError(t, err)
	log.Debug("not shown")
	log.Info("connects", zap.Error(errors.New("dial postgres://u:hunter2@h: refused")), zap.String("dsn", "host=h password=hunter2"))
	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line), out.String())
	require.Equal(t, "connects", line["msg"])
	require.Equal(t, "info", line["level"])
	require.Contains(t, line, "time")
	require.Equal(t, "dial postgres://[redacted]@h: refused", line["error"])
	require.NotContains(t, out.String(), "hunter2")
	out.Reset()
	log, err = NewLogger(config.Log{Level: "debug", Format: "console"}, &out)
	require.NoError(t, err)
	log.Debug("shown", zap.Int("n", 1))
	require.Contains(t, out.String(), "debug\tshown\t{\"n\": 1}")
	_, err = NewLogger(config.Log{Level: "loud"}, &out)
	require.ErrorContains(t, err, "read log level")
}
