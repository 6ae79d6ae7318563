package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestURLsAreCheckedWithoutRepeatingThem(t *testing.T) {
	for text, cause := range map[string]string{
		"postgres://u:p@h:5432/db": "",
		"postgresql://u@h1:5432,h2:5433/db?target_session_attrs=read-write":       "",
		"postgres:///db?host=/run/postgresql":                                     "",
		"postgres://u@/db?host=/run/postgresql":                                   "",
		"postgres://[::1]:5432/db":                                                "",
		"postgres://[::1]/db":                                                     "",
		"host=h user=u password='p q' dbname=d":                                   "",
		"h:5432/db":                                                               "it is not a URL",
		"postgres//u:hunter2@h/db":                                                "it is not a URL",
		"postgress://u:hunter2@h/db":                                              `unknown scheme "postgress", want one of postgres, postgresql`,
		"postgres://u:hunt/er2@h/db":                                              encodeHint,
		"postgres://u:hunt#er2@h/db":                                              encodeHint,
		"postgres://u:hunter2%zz@h/db":                                            encodeHint,
		"postgres://u:hunter2@h:543x/db":                                          "a port is not a number from 1 to 65535",
		"postgres://u:hunter2@:5432/db":                                           "a host is missing",
		"postgres://u:hunter2@h/db?sslmode=maybe":                                 "sslmode is invalid",
		"postgres://u:hunter2@h1:5432,h2:x/db":                                    "a port is not a number from 1 to 65535",
		"postgres://u:hunter2@h/db?connect_timeout=x&password=hunter2&sslmode=no": "connect_timeout",
	} {
		got := checkDatabaseURL(text)
		require.Contains(t, got, cause, text)
		require.Equal(t, cause == "", got == "", "%s: %s", text, got)
		require.NotContains(t, got, "hunt")
	}
	for text, cause := range map[string]string{
		"redis://h": "", "redis://:p@h:6379/0": "", "redis-cluster://u:p@h1:7000,h2": "", "rediss-sentinel://h1,h2/primary/0": "",
		"redi://h": "unknown scheme", "redis://h1,": "a host is missing", "redis://h:0": "a port is not a number",
		"localhost:6379": "it is not a URL",
	} {
		got := checkURL(text, schemesRedis)
		require.Contains(t, got, cause, text)
		require.Equal(t, cause == "", got == "", "%s: %s", text, got)
	}
}

func natsSettings(url string) NATS {
	return NATS{URL: NewSecret(url), Listen: "127.0.0.1:0", MaxBytes: 8e9, MaxAge: time.Hour, Replicas: 1}
}

func TestNATSTakesSeveralServersAndBareHosts(t *testing.T) {
	for _, url := range []string{"embedded", "h", "h:4222", "nats://u:p@h1:4222, tls://h2", "wss://h/path"} {
		require.Empty(t, natsSettings(url).Check(), url)
	}
	for _, url := range []string{"http://h", "nats://", "h1,,h2", "nats://h:x"} {
		require.Len(t, natsSettings(url).Check(), 1, url)
	}
}

func TestNATSFilesMustBeThereAndGoTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cert")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	n := natsSettings("h")
	n.Cert = file
	require.EqualError(t, n.Check(), "NATS_CERT: NATS_CERT and NATS_KEY go together: set both or none")
	n.Key = file + "x"
	require.ErrorContains(t, n.Check(), "NATS_KEY: stat "+file+"x: no such file")
	n.Key = file
	require.Empty(t, n.Check())
}

func TestSizesHaveUnits(t *testing.T) {
	for text, bytes := range map[string]Size{
		"8GB": 8e9, "8gb": 8e9, "1.5 MB": 1.5e6, "2GiB": 2 << 30, "512": 512, "3B": 3, "1kB": 1000, "1KiB": 1024, "0": 0, "1TB": 1e12,
	} {
		var s Size
		require.NoError(t, s.UnmarshalText([]byte(text)), text)
		require.Equal(t, bytes, s, text)
	}
	for _, text := range []string{"", "GB", "-1GB", "8XB", "8 G B", "1e30TB", "NaN", "Inf"} {
		var s Size
		require.ErrorContains(t, s.UnmarshalText([]byte(text)), "is not a size", text)
	}
	for size, text := range map[Size]string{8e9: "8GB", 1500: "1500B", 2e6: "2MB", 0: "0B", 3000: "3kB", 1e12: "1TB"} {
		require.Equal(t, text, size.String())
	}
}

func TestRulesSeeSecretsFromFilesAndTheRedisSetting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(path, []byte("redis://b\r\n"), 0o600))
	env := NewEnv([]string{"A=redis://a", "B_FILE=" + path, "C_FILE=" + path + "x", "EMPTY="}, nil, nil)
	lookup := env.InRules(Redis{URL: NewSecret("redis://main")})
	for name, want := range map[string]string{"A": "redis://a", "B": "redis://b", "REDIS_URL": "redis://main"} {
		got, ok := lookup(name)
		require.True(t, ok, name)
		require.Equal(t, want, got)
	}
	for _, name := range []string{"C", "D", "EMPTY"} {
		_, ok := lookup(name)
		require.False(t, ok, name)
	}
}
