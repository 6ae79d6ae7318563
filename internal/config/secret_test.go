package config

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	type outer struct {
		Exported Secret
		hidden   Secret
		pointer  *Secret
	}
	s := NewSecret("hunter2")
	o := outer{s, s, &s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		for _, value := range []any{s, &s, o, &o, []Secret{s}, map[string]Secret{"k": s}} {
			text := fmt.Sprintf(verb, value)
			require.NotContains(t, text, "hunter2", verb)
			require.NotContains(t, text, "68756e74657232", verb)
		}
	}
	text, err := json.Marshal(o)
	require.NoError(t, err)
	require.JSONEq(t, `{"Exported":"[redacted]"}`, string(text))
	core, logs := observer.New(zap.DebugLevel)
	zap.New(core).Info("m", zap.Any("secret", s), zap.Stringer("same", s))
	require.NotContains(t, fmt.Sprint(logs.All()[0].ContextMap()), "hunter2")
	require.Equal(t, "hunter2", s.Reveal())
	require.Empty(t, Secret{}.String())
	require.Empty(t, Secret{}.Reveal())
}

func TestRedactTakesSecretsOutOfTexts(t *testing.T) {
	for in, out := range map[string]string{
		"dial postgres://u:p@h:5432/db: refused":    "dial postgres://[redacted]@h:5432/db: refused",
		"postgres://u:p/w?x@y@h/db":                 "postgres://[redacted]@h/db",
		"nats://token@h":                            "nats://[redacted]@h",
		"redis://:p@h/0, and redis://:q@i/0":        "redis://[redacted]@h/0, and redis://[redacted]@i/0",
		`"url":"nats://a:b@h","n":1`:                `"url":"nats://[redacted]@h","n":1`,
		"redis-cluster://u:p@h1,h2":                 "redis-cluster://[redacted]@h1,h2",
		"postgres://h/db?sslmode=x&password=p&a=b":  "postgres://h/db?sslmode=x&password=[redacted]&a=b",
		"host=h password='p \\' q' dbname=d":        "host=h password=[redacted] dbname=d",
		"host=h PassWord = p dbname=d":              "host=h PassWord = [redacted] dbname=d",
		"sentinel_password=p&auth_token=q":          "sentinel_password=[redacted]&auth_token=[redacted]",
		"password authentication failed for user u": "password authentication failed for user u",
		"http://127.0.0.1:8081/metrics a=b":         "http://127.0.0.1:8081/metrics a=b",
	} {
		require.Equal(t, out, Redact(in))
	}
}
