package stream

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckNamesTheMistakenSettingAndNoPassword(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for name, c := range map[string]struct {
		cfg     Config
		setting string
		says    string
	}{
		"scheme":       {Config{URL: "nat://a:hunter2@h:4222"}, "NATS_URL", `unknown scheme "nat"`},
		"http":         {Config{URL: "http://h:4222"}, "NATS_URL", `unknown scheme "http"`},
		"no host":      {Config{URL: "nats://:4222"}, "NATS_URL", "no host"},
		"bad port":     {Config{URL: "nats://h:99999"}, "NATS_URL", `"99999" is not a port`},
		"not a URL":    {Config{URL: "nats://u:hunter2@h:port"}, "NATS_URL", "not a URL"},
		"second empty": {Config{URL: "nats://h:4222,"}, "NATS_URL", "empty server address"},
		"empty":        {Config{}, "NATS_URL", "empty server address"},
		"listen":       {Config{URL: "embedded", Listen: "4222"}, "NATS_LISTEN", "not host:port"},
		"creds":        {Config{URL: "h", Creds: "/nowhere"}, "NATS_CREDS", "no such file"},
		"nkey":         {Config{URL: "h", NKey: empty}, "NATS_NKEY", "nkey"},
		"ca":           {Config{URL: "h", CA: empty}, "NATS_CA", "no certificate"},
		"cert":         {Config{URL: "h", Cert: empty, Key: empty}, "NATS_CERT", "tls"},
		"cert alone":   {Config{URL: "h", Cert: empty}, "NATS_CERT", "go together"},
	} {
		t.Run(name, func(t *testing.T) {
			var mistake *ConfigError
			require.ErrorAs(t, c.cfg.Check(), &mistake)
			require.Equal(t, c.setting, mistake.Setting)
			require.ErrorContains(t, mistake, c.says)
			require.NotContains(t, mistake.Error(), "hunter2")
		})
	}
}

func TestCheckAcceptsWhatCanBeConnectedTo(t *testing.T) {
	for _, url := range []string{"localhost", "h:4222", "nats://u:p@h:4222,nats://token@i", "tls://h", "wss://h/path"} {
		require.NoError(t, Config{URL: url}.Check(), url)
	}
	require.NoError(t, Config{URL: "embedded", Listen: "127.0.0.1:0"}.Check())
}

func TestHostsLeaveOutPasswordsAndTokens(t *testing.T) {
	require.Equal(t, "h:4222,i,j:1", hosts("nats://u:p@h:4222, tls://token@i/x,j:1"))
}
