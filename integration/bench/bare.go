package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// bareReader is pglogrepl as its own example uses it, over TCP with pgconn's own buffers: it receives, parses and throws
// away. It sends a status when asked and every ten seconds, and confirms nothing.
type bareReader struct {
	conn        *pgconn.PgConn
	slot        string
	publication string
	sent        time.Time
	// changed and committed, if set, are told of every update's first column, and of every commit.
	changed   func(column string)
	committed func()
}

const statusEvery = 10 * time.Second

func openBareReader(ctx context.Context, url, slot, publication string) (*bareReader, error) {
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open replication connection: %w", err)
	}
	return &bareReader{conn: conn, slot: slot, publication: publication}, nil
}

func (b *bareReader) start(ctx context.Context) error {
	err := pglogrepl.StartReplication(ctx, b.conn, b.slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names '" + b.publication + "'"},
	})
	if err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	b.sent = time.Now()
	return nil
}

// read reads until more returns false, which is asked after every commit with the number of rows so far.
func (b *bareReader) read(more func(rows int) bool) error {
	rows := 0
	for {
		// With a background context pgconn starts no goroutine for the call. Closing the connection ends it.
		message, err := b.conn.ReceiveMessage(context.Background())
		if err != nil {
			return fmt.Errorf("read replication stream: %w", err)
		}
		data, ok := message.(*pgproto3.CopyData)
		if !ok {
			return fmt.Errorf("read replication stream: unexpected %T", message)
		}
		if data.Data[0] == pglogrepl.PrimaryKeepaliveMessageByteID {
			if err := b.keepalive(data.Data[1:]); err != nil {
				return err
			}
			continue
		}
		kind, err := b.parse(data.Data[1:])
		if err != nil {
			return err
		}
		if kind == pglogrepl.MessageTypeUpdate {
			rows++
		}
		if kind == pglogrepl.MessageTypeCommit && !more(rows) {
			return nil
		}
	}
}

func (b *bareReader) parse(data []byte) (pglogrepl.MessageType, error) {
	x, err := pglogrepl.ParseXLogData(data)
	if err != nil {
		return 0, fmt.Errorf("parse replication message: %w", err)
	}
	message, err := pglogrepl.Parse(x.WALData)
	if err != nil {
		return 0, fmt.Errorf("parse replication message: %w", err)
	}
	switch m := message.(type) {
	case *pglogrepl.UpdateMessage:
		if b.changed != nil {
			b.changed(string(m.NewTuple.Columns[0].Data))
		}
	case *pglogrepl.CommitMessage:
		if b.committed != nil {
			b.committed()
		}
	}
	return message.Type(), nil
}

func (b *bareReader) keepalive(data []byte) error {
	k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data)
	if err != nil {
		return fmt.Errorf("parse replication message: %w", err)
	}
	if !k.ReplyRequested && time.Since(b.sent) < statusEvery {
		return nil
	}
	b.sent = time.Now()
	if err := pglogrepl.SendStandbyStatusUpdate(context.Background(), b.conn, pglogrepl.StandbyStatusUpdate{}); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	return nil
}

func (b *bareReader) close() error {
	// An open stream cannot be ended politely: the socket goes.
	if err := b.conn.Conn().Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close replication connection: %w", err)
	}
	return nil
}
