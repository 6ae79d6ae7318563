package redis_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

// leastRights is all that the invalidator needs; on Cluster, clusterRights too.
const (
	leastRights   = "-@all +unlink +scan +info +ping"
	clusterRights = "+cluster|slots +cluster|nodes"
)

func user(rights string) []string {
	return strings.Fields("--user walfence on >sesame ~tenant:* ~{tenant:* resetchannels " + rights)
}

func as(url string) string { return strings.Replace(url, "://", "://walfence:sesame@", 1) }

func TestLeastRightsSuffice(t *testing.T) {
	check := func(t *testing.T, s server) {
		under, err := redis.Open(as(s.url))
		require.NoError(t, err)
		defer under.Close()
		s.fill(t, "tenant:7:user:1:profile", "tenant:7:user:2:profile")
		require.NoError(t, under.Ping(t.Context()))
		require.NoError(t, under.Remove(t.Context(), []string{"tenant:7:user:1:profile"}))
		_, err = under.Sweep(t.Context(), redis.Sweep{Patterns: []events.Pattern{users}})
		require.NoError(t, err)
		require.Empty(t, s.names(t))
		err = under.Remove(t.Context(), []string{"foreign"})
		require.True(t, redis.Permanent(err), err)
	}
	t.Run("single", func(t *testing.T) {
		check(t, open(t, testkit.Redis(t, user(leastRights)...).URL(0)))
	})
	t.Run("cluster", func(t *testing.T) {
		check(t, openCluster(t, testkit.RedisCluster(t, user(leastRights+" "+clusterRights)...)))
	})
}

func TestTLSTrustsTheGivenAuthorityAndNoOther(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := authority(t, dir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	testkit.Redis(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca,
		"--tls-auth-clients", "no")
	remove := func(query string) error {
		c, err := redis.Open(fmt.Sprintf("rediss://127.0.0.1:%d/0%s", port, query))
		require.NoError(t, err)
		defer c.Close()
		return c.Remove(t.Context(), []string{"k"})
	}
	require.NoError(t, remove("?ca="+ca))
	require.True(t, redis.Permanent(remove("")), "a certificate of an unknown authority")
	require.True(t, redis.Permanent(remove("?servername=elsewhere&ca="+ca)), "a certificate of another host")
}

// authority writes a certificate for 127.0.0.1 that is its own authority.
func authority(t *testing.T, dir string) (ca, cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "walfence test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, cert, key
}
