package testkit

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Database is one test's database. Slots and publications made in it go with it.
type Database struct {
	// Cluster is the server it is on.
	Cluster *Cluster
	// Name is unique in the process. Slots have one name space per server, so tests that run at the same time should
	// name theirs after it.
	Name string
	// URL reaches it over TCP as the superuser.
	URL string
}

var databases atomic.Int64

// NewDatabase creates an empty database for the test on the server that all tests share.
func NewDatabase(t testing.TB) *Database {
	t.Helper()
	return Postgres(t).NewDatabase(t)
}

// NewDatabase creates an empty database for the test, and drops it and its slots after the test.
func (c *Cluster) NewDatabase(t testing.TB) *Database {
	t.Helper()
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := c.Exec("postgres", "CREATE DATABASE "+name); err != nil {
		t.Fatalf("%v", err)
	}
	d := &Database{Cluster: c, Name: name, URL: c.URL(name)}
	t.Cleanup(func() {
		if !c.process.running() {
			return // stopped by the test
		}
		if err := poll(10*time.Second, d.drop); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return d
}

// drop ends the slots' users first: DROP DATABASE takes unused slots with it and refuses used ones.
func (d *Database) drop() error {
	return d.Cluster.Exec("postgres", fmt.Sprintf(
		"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = '%s' AND active_pid IS NOT NULL",
		d.Name), fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", d.Name))
}

// Exec runs SQL like Cluster.Exec, and fails the test if that fails.
func (d *Database) Exec(t testing.TB, sql ...string) {
	t.Helper()
	if err := d.Cluster.Exec(d.Name, sql...); err != nil {
		t.Fatalf("%v", err)
	}
}

// Conn opens a connection that is closed with the test.
func (d *Database) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.URL)
	if err != nil {
		t.Fatalf("connect to database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the test may have killed the server
	})
	return conn
}
