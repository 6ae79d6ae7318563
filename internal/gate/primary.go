package gate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Server tells one running PostgreSQL server from every other: a clone, a restored copy, the same one after a restart.
type Server struct {
	System   uint64 // identifier that initdb drew
	Timeline uint32
	Started  string // postmaster's start, in seconds: the same text whatever the session's time zone
}

// IdentifySQL asks a server that is not in recovery who it is; [ReadServer] reads its row. In recovery it has a NULL.
const IdentifySQL = `SELECT pg_current_snapshot()::text, (SELECT system_identifier FROM pg_control_system()),
	extract(epoch FROM pg_postmaster_start_time()),
	CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END`

// ErrInRecovery is a server that is a standby: what it shows says nothing about the primary.
var ErrInRecovery = errors.New("the server is a standby in recovery; DATABASE_URL must name the primary")

// ReadServer reads a row of [IdentifySQL] in text format.
func ReadServer(row [][]byte) (Server, error) {
	if len(row) != 4 {
		return Server{}, fmt.Errorf("read server: %d columns", len(row))
	}
	if row[3] == nil {
		return Server{}, ErrInRecovery
	}
	system, err := strconv.ParseInt(string(row[1]), 10, 64) // a bigint, negative for half of the clusters after 2038
	if err != nil {
		return Server{}, fmt.Errorf("read system identifier: %w", err)
	}
	timeline, err := strconv.ParseUint(string(row[3]), 16, 32)
	if err != nil {
		return Server{}, fmt.Errorf("read timeline: %w", err)
	}
	return Server{System: uint64(system), Timeline: uint32(timeline), Started: string(row[2])}, nil
}

// Primary asks the server that streams for snapshots, over an ordinary connection of its own. It serves one goroutine.
type Primary struct {
	conn      *pgconn.PgConn
	server    Server
	walsender uint32
	checked   time.Time // when the walsender was last seen not to be synchronous
}

const (
	snapshotName = "walfence_snapshot"
	// A pause in which commits can hang before a walsender that became synchronous is seen.
	synchronousEvery = time.Second
	queryTimeout     = 5 * time.Second
)

// NewPrimary prepares an ordinary connection for the gate of what walsender (its backend's process id) streams from server.
func NewPrimary(ctx context.Context, conn *pgconn.PgConn, server Server, walsender uint32) (*Primary, error) {
	if _, err := conn.Prepare(ctx, snapshotName, IdentifySQL, nil); err != nil {
		return nil, fmt.Errorf("prepare snapshot query: %w", err)
	}
	return &Primary{conn: conn, server: server, walsender: walsender}, nil
}

// Snapshot is a [Query].
func (p *Primary) Snapshot(ctx context.Context) (Snapshot, error) {
	if ctx.Err() != nil {
		return Snapshot{}, ctx.Err()
	}
	// A deadline on the socket, and a background context: for any other, pgconn starts a goroutine and waits for its end,
	// which takes as long as the query.
	now := time.Now()
	if err := p.conn.Conn().SetDeadline(now.Add(queryTimeout)); err != nil {
		return Snapshot{}, fmt.Errorf("set deadline: %w", err)
	}
	if now.Sub(p.checked) > synchronousEvery {
		if err := p.checkSynchronous(context.Background()); err != nil {
			return Snapshot{}, err
		}
		p.checked = now
	}
	res := p.conn.ExecPrepared(context.Background(), snapshotName, nil, nil, nil).Read()
	if res.Err != nil {
		return Snapshot{}, res.Err
	}
	if len(res.Rows) != 1 {
		return Snapshot{}, fmt.Errorf("snapshot query returned %d rows", len(res.Rows))
	}
	server, err := ReadServer(res.Rows[0])
	if err != nil {
		return Snapshot{}, err
	}
	if server != p.server {
		return Snapshot{}, fmt.Errorf("the gate's connection leads to another server than the one that streams (%+v, not %+v): use a direct "+
			"connection, without a pooler or balancer", server, p.server)
	}
	return ParseSnapshot(string(res.Rows[0][0]))
}

func (p *Primary) checkSynchronous(ctx context.Context) error {
	res := p.conn.ExecParams(ctx, "SELECT application_name FROM pg_stat_replication WHERE pid = $1 AND sync_priority > 0",
		[][]byte{strconv.AppendUint(nil, uint64(p.walsender), 10)}, nil, nil, nil).Read()
	if res.Err != nil {
		return fmt.Errorf("look for synchronous walsender: %w", res.Err)
	}
	if len(res.Rows) > 0 {
		return &Synchronous{Name: string(res.Rows[0][0])}
	}
	return nil
}
