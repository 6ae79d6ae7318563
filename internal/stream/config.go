package stream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// embeddedURL stands for a server inside cdc.
const embeddedURL = "embedded"

// Config says where JetStream is and how much it may keep. Zero limits mean the defaults of design.
type Config struct {
	URL    string // "embedded", or servers separated by commas; may hold a user and password, or a token
	Listen string // host:port of the embedded server; port 0 takes a free one
	Store  string // directory of the embedded server
	Creds  string // file with a JWT and its seed
	NKey   string // file with an NKey seed
	CA     string // file with the certificates of trusted authorities
	Cert   string // file with the client's certificate
	Key    string // file with its key

	MaxBytes int64         // of CHANGES
	MaxAge   time.Duration // of CHANGES
	Replicas int           // of every stream
}

// Embedded tells whether cdc runs the server itself.
func (c Config) Embedded() bool { return c.URL == embeddedURL }

// Servers returns the addresses to connect to, as nats.go takes them. It is for connecting only: they may hold passwords.
func (c Config) Servers() string {
	if c.Embedded() {
		return "nats://" + c.Listen
	}
	return c.URL
}

// ConfigError is a mistake in the settings: trying again cannot mend it.
type ConfigError struct {
	Setting string // name of the environment variable
	Err     error
}

// Error names the setting and never holds a password.
func (e *ConfigError) Error() string { return e.Setting + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ConfigError) Unwrap() error { return e.Err }

// Check reports the first mistake that can be seen without connecting, as a [ConfigError].
func (c Config) Check() error {
	if c.Embedded() {
		if _, _, err := splitListen(c.Listen); err != nil {
			return &ConfigError{"NATS_LISTEN", err}
		}
		return nil
	}
	for _, server := range strings.Split(c.URL, ",") {
		if err := checkServer(strings.TrimSpace(server)); err != nil {
			return &ConfigError{"NATS_URL", err}
		}
	}
	return c.checkFiles()
}

func (c Config) checkFiles() error {
	if c.Creds != "" {
		if _, err := os.ReadFile(c.Creds); err != nil {
			return &ConfigError{"NATS_CREDS", err}
		}
	}
	if c.NKey != "" {
		if _, err := nats.NkeyOptionFromSeed(c.NKey); err != nil {
			return &ConfigError{"NATS_NKEY", err}
		}
	}
	if c.CA != "" {
		if pem, err := os.ReadFile(c.CA); err != nil {
			return &ConfigError{"NATS_CA", err}
		} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return &ConfigError{"NATS_CA", fmt.Errorf("no certificate in %s", c.CA)}
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return &ConfigError{"NATS_CERT", errors.New("NATS_CERT and NATS_KEY go together")}
	}
	if c.Cert != "" {
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			return &ConfigError{"NATS_CERT", err}
		}
	}
	return nil
}

// checkServer takes what nats.go takes, and says what is wrong without repeating what may be a password.
func checkServer(server string) error {
	if server == "" {
		return errors.New("empty server address")
	}
	if !strings.Contains(server, "://") {
		server = "nats://" + server
	}
	u, err := url.Parse(server)
	if err != nil {
		return errors.New("not a URL; want nats://host:port (a password's special characters as %XX)")
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
	default:
		return fmt.Errorf("unknown scheme %q; want nats, tls, ws, wss, or just %q", u.Scheme, embeddedURL)
	}
	if u.Hostname() == "" {
		return errors.New("no host; want nats://host:port")
	}
	if u.Port() != "" {
		if _, err := parsePort(u.Port()); err != nil {
			return err
		}
	}
	return nil
}

func splitListen(listen string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", listen)
	}
	port, err = parsePort(p)
	return host, port, err
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return int(n), nil
}

// hosts returns the servers' host:port for logs: neither user nor password.
func hosts(servers string) string {
	var names []string
	for _, server := range strings.Split(servers, ",") {
		server = strings.TrimSpace(server)
		if _, rest, ok := strings.Cut(server, "://"); ok {
			server = rest
		}
		if at := strings.LastIndexByte(server, '@'); at >= 0 {
			server = server[at+1:]
		}
		name, _, _ := strings.Cut(server, "/")
		names = append(names, name)
	}
	return strings.Join(names, ",")
}
