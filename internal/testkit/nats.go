package testkit

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const natsPatience = 30 * time.Second

// NATSServer is a nats-server with JetStream inside this process. Its methods may be called from one goroutine at a
// time.
type NATSServer struct {
	// URL is where it listens, also after a restart.
	URL string
	// Dir holds the store and nats.log.
	Dir string
	// Options are what the next start uses.
	Options *server.Options

	server *server.Server
}

// NATS starts a server for one test. Changes apply to its options before it starts.
func NATS(t testing.TB, changes ...func(*server.Options)) *NATSServer {
	t.Helper()
	n, err := OpenNATS(scratchFor(t, "nats"), changes...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(n.Stop)
	return n
}

// OpenNATS starts a server on a free port that keeps its streams in dir.
func OpenNATS(dir string, changes ...func(*server.Options)) (*NATSServer, error) {
	n := &NATSServer{Dir: dir, Options: &server.Options{
		ServerName: "testkit", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir,
		NoSigs: true, LogFile: filepath.Join(dir, "nats.log"),
	}}
	for _, change := range changes {
		change(n.Options)
	}
	return n, n.Start()
}

// Start starts a stopped server on its old port and with its old streams.
func (n *NATSServer) Start() error {
	options := n.Options.Clone() // the server writes into what it gets
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("make nats server: %w", err)
	}
	s.ConfigureLogger()
	s.Start()
	if !s.ReadyForConnections(natsPatience) {
		s.Shutdown()
		s.WaitForShutdown()
		return errors.New("start nats server: not ready: " + tail(n.Options.LogFile, 10))
	}
	n.server, n.URL = s, s.ClientURL()
	if addr, ok := s.Addr().(*net.TCPAddr); ok {
		n.Options.Port = addr.Port
	}
	return nil
}

// Stop ends the server and waits for it. It may be called again.
func (n *NATSServer) Stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

// Restart stops the server and starts it again.
func (n *NATSServer) Restart() error {
	n.Stop()
	return n.Start()
}

// Conn opens a connection that is closed with the test.
func (n *NATSServer) Conn(t testing.TB, options ...nats.Option) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(n.URL, options...)
	if err != nil {
		t.Fatalf("connect to nats: %v", err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// JetStream opens a connection that is closed with the test, for its streams.
func (n *NATSServer) JetStream(t testing.TB, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(n.Conn(t, options...))
	if err != nil {
		t.Fatalf("use jetstream: %v", err)
	}
	return js
}
