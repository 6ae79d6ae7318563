// Package wal owns one replication connection: its server, its slot, reading and status.
//
// Its promise: it never confirms what it did not receive, nor less than was confirmed before, and status goes out whatever
// happens to what was read.
package wal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walfence/walfence/internal/gate"
	"github.com/walfence/walfence/pkg/events"
)

// Config says what to stream.
type Config struct {
	URL         string // of the database
	Slot        string // matches ^[a-z0-9_]{1,63}$
	Publication string // the same
}

// Conn is a replication connection. It serves one goroutine, but for [Conn.Bytes].
type Conn struct {
	cfg       Config
	pg        *pgconn.PgConn
	in        *socket
	server    gate.Server
	received  events.LSN // the highest position that this connection has brought
	confirmed events.LSN // the highest that was confirmed, by this connection or before it
	sent      time.Time  // when the last status went out
	checked   time.Time  // the socket's clock when it was last seen whether one is due
	asked     bool       // the server wants a status at once
}

// sessionSettings fix what the text of a value looks like, and when the server gives a silent connection up: it bounds how
// long a slot stays taken by a reader that is gone.
var sessionSettings = map[string]string{
	"replication": "database", "datestyle": "ISO, MDY", "intervalstyle": "postgres", "timezone": "UTC", "extra_float_digits": "1",
	"bytea_output": "hex", "client_encoding": "UTF8", "wal_sender_timeout": "10s", "statement_timeout": "0", "lock_timeout": "0",
	"idle_in_transaction_session_timeout": "0",
}

// ParseURL reads a database URL as ordinary connections use it. Of several hosts the one that accepts writes is taken.
func ParseURL(url string) (*pgconn.Config, error) {
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse DATABASE_URL: %w", err)
	}
	if len(cfg.Fallbacks) > 0 && cfg.ValidateConnect == nil {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	delete(cfg.RuntimeParams, "replication")
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "walfence"
	}
	return cfg, nil
}

// Connect opens a replication connection and finds out which server it leads to.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	pgCfg, err := ParseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	for name, value := range sessionSettings {
		pgCfg.RuntimeParams[name] = value
	}
	in := &socket{}
	pgCfg.BuildFrontend, pgCfg.DialFunc = in.frontend, dial
	pg, err := pgconn.ConnectConfig(ctx, pgCfg)
	if err != nil {
		return nil, fmt.Errorf("open replication connection: %w", err)
	}
	c := &Conn{cfg: cfg, pg: pg, in: in}
	if c.server, err = c.identify(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) identify(ctx context.Context) (gate.Server, error) {
	rows, err := c.query(ctx, gate.IdentifySQL)
	if err != nil {
		return gate.Server{}, fmt.Errorf("identify server: %w", err)
	}
	return gate.ReadServer(rows[0])
}

// query runs one statement with the simple protocol, the only one of a replication connection. It returns at least one row.
func (c *Conn) query(ctx context.Context, sql string) ([][][]byte, error) {
	results, err := c.pg.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) == 0 {
		return nil, errors.New("no row")
	}
	return results[0].Rows, nil
}

// Server returns which server this is.
func (c *Conn) Server() gate.Server { return c.server }

// PID returns the walsender's process id.
func (c *Conn) PID() uint32 { return c.pg.PID() }

// Bytes returns how many bytes were read. It may be called from any goroutine.
func (c *Conn) Bytes() uint64 { return c.in.bytes.Load() }

// Close closes the connection.
func (c *Conn) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.pg.Close(ctx) // whatever fails, the connection is gone
}

// CreateSlot creates the slot. It waits for the transactions that are running to end. The publication must exist: decoding
// looks it up as of the time of each change.
func (c *Conn) CreateSlot(ctx context.Context) error {
	_, err := pglogrepl.CreateReplicationSlot(ctx, c.pg, c.cfg.Slot, "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	if err != nil {
		return fmt.Errorf("create replication slot %s: %w", c.cfg.Slot, err)
	}
	return nil
}

// Start takes the slot and begins replication where the slot was confirmed: always from 0/0, since the server skips silently to any other
// position that it is given. The server waits for [Conn.Stream] not much longer than wal_sender_timeout.
func (c *Conn) Start(ctx context.Context) error {
	publication := "'" + strings.ReplaceAll(c.cfg.Publication, "'", "''") + "'"
	err := pglogrepl.StartReplication(ctx, c.pg, c.cfg.Slot, 0, pglogrepl.StartReplicationOptions{
		Mode:       pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "publication_names " + publication, "messages 'true'"},
	})
	if err != nil {
		return fmt.Errorf("start replication of slot %s: %w", c.cfg.Slot, err)
	}
	c.in.timed = true
	return nil
}
