package redis

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseURLReadsEveryForm(t *testing.T) {
	for raw, want := range map[string]target{
		"redis://h":                  {addrs: []string{"h:6379"}},
		"redis://127.0.0.1:7000/3":   {addrs: []string{"127.0.0.1:7000"}, db: 3},
		"redis://[::1]:7000":         {addrs: []string{"[::1]:7000"}},
		"redis://:p%40ss@h":          {addrs: []string{"h:6379"}, password: "p@ss"},
		"redis://u:p@x@h":            {addrs: []string{"h:6379"}, user: "u", password: "p@x"},
		"redis-cluster://a,b:7001":   {form: cluster, addrs: []string{"a:6379", "b:7001"}},
		"redis-cluster://a/0":        {form: cluster, addrs: []string{"a:6379"}},
		"redis-sentinel://a,b:1/m/2": {form: sentinel, addrs: []string{"a:26379", "b:1"}, primary: "m", db: 2},
		"redis-sentinel://u:p@a/m":   {form: sentinel, addrs: []string{"a:26379"}, primary: "m", user: "u", password: "p"},
		"redis-sentinel://a/m/0?sentinel_user=s&sentinel_password=q": {
			form: sentinel, addrs: []string{"a:26379"}, primary: "m", sentinelUser: "s", sentinelPassword: "q",
		},
	} {
		got, err := parseURL(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, got, raw)
	}
	for _, raw := range []string{"rediss://h", "rediss-cluster://h", "rediss-sentinel://h/m?servername=x"} {
		got, err := parseURL(raw)
		require.NoError(t, err, raw)
		require.NotNil(t, got.tls, raw)
	}
}

func TestMistakesInAURLAreNamedWithoutItsSecrets(t *testing.T) {
	for raw, cause := range map[string]string{
		"localhost:6379":                     "no scheme",
		"rediz://:sesame@h":                  `unknown scheme "rediz"`,
		"redis://:sesame":                    "a port is not a number",
		"redis://u:sesame/x@h":               "a port is not a number",
		"redis://:sesame%zz@h":               "%25",
		"redis://:sesame@h:70000":            "a port is not a number",
		"redis://:sesame@/0":                 "a host is missing",
		"redis://:sesame@h/zero":             "the database is not a number",
		"redis://:sesame@a,b":                "several hosts",
		"redis-cluster://:sesame@a/1":        "only database 0",
		"redis-sentinel://:sesame@a":         "the primary's name is missing",
		"redis://h?pasword=sesame":           `unknown parameter "pasword"`,
		"redis://h?sentinel_user=sesame":     `unknown parameter "sentinel_user"`,
		"redis://h?ca=sesame":                `unknown parameter "ca"`,
		"rediss://:sesame@h?ca=/nonexisting": "read ca",
	} {
		_, err := Open(raw)
		require.ErrorContains(t, err, cause, raw)
		require.NotContains(t, err.Error(), "sesame", raw)
	}
}
