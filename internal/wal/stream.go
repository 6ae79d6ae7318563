package wal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walfence/walfence/pkg/events"
)

// Handler takes what a connection reads. All calls come from the goroutine that streams and must not block.
type Handler interface {
	// Message takes one message of pgoutput, whose bytes are valid during the call.
	Message(data []byte) error
	// Keepalive tells that the server has sent everything up to an LSN.
	Keepalive(upTo events.LSN)
	// Room returns nil if the handler can take more, or a channel on which something arrives when it may be able to.
	Room() <-chan struct{}
	// Confirm returns up to where PostgreSQL may discard WAL.
	Confirm() events.LSN
	// Drain is called once, when nothing more will be read. The channel is closed when all that was read and can be
	// finished is.
	Drain() <-chan struct{}
}

// Status goes out when there is something new to confirm, but not more often than the first, and at least as often as the
// second, well within wal_sender_timeout.
const (
	confirmEvery = 500 * time.Millisecond
	statusEvery  = 3 * time.Second
	// A connection that brings nothing for so long, though every status asks for an answer, is dead.
	silence      = 15 * time.Second
	writeTimeout = 5 * time.Second
	drainTimeout = 10 * time.Second
)

// Stream reads, after [Conn.Start], until ctx ends, and then drains: it waits for what can be finished, confirms it and leaves. Slot is the slot's
// confirmed_flush_lsn. A nil error means that ctx ended.
func (c *Conn) Stream(ctx context.Context, slot events.LSN, h Handler) error {
	c.confirmed = slot
	c.in.notRead()
	// At once: PostgreSQL does not show that a walsender is a synchronous standby before its first status.
	if err := c.send(c.in.last, false); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := c.await(ctx, h); err != nil {
			return err
		}
		if err := c.receive(h); err != nil {
			return err
		}
		if err := c.status(h, false); err != nil {
			return err
		}
	}
	return c.drain(h)
}

// await waits until the handler has room. Status goes out meanwhile.
func (c *Conn) await(ctx context.Context, h Handler) error {
	for room := h.Room(); room != nil; room = h.Room() {
		select {
		case <-room:
		case <-ctx.Done():
			return nil
		case <-time.After(readTimeout):
		}
		c.in.notRead()
		if err := c.status(h, false); err != nil {
			return err
		}
	}
	return nil
}

// receive takes one message, or returns because none came for a while.
func (c *Conn) receive(h Handler) error {
	// With a background context pgconn starts no goroutine for the call; the socket has a deadline of its own.
	msg, err := c.pg.ReceiveMessage(context.Background())
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() && !c.pg.IsClosed() {
			return nil
		}
		return fmt.Errorf("read replication stream: %w", err)
	}
	switch msg := msg.(type) {
	case *pgproto3.CopyData:
		return c.copyData(msg.Data, h)
	case *pgproto3.ErrorResponse:
		return fmt.Errorf("read replication stream: %w", pgconn.ErrorResponseToPgError(msg))
	case *pgproto3.CopyDone:
		return errors.New("read replication stream: the server ended it")
	}
	return nil // a notice or a parameter's status
}

func (c *Conn) copyData(data []byte, h Handler) error {
	if len(data) == 0 {
		return errors.New("read replication stream: empty message")
	}
	switch data[0] {
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return fmt.Errorf("read replication stream: %w", err)
		}
		c.received = max(c.received, events.LSN(x.WALStart))
		return h.Message(x.WALData)
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return fmt.Errorf("read replication stream: %w", err)
		}
		c.received = max(c.received, events.LSN(k.ServerWALEnd))
		c.asked = c.asked || k.ReplyRequested
		h.Keepalive(events.LSN(k.ServerWALEnd))
		return nil
	}
	return fmt.Errorf("read replication stream: unknown message %q", data[0])
}

// status sends a status if one is due. Between two reads of the socket it does nothing.
func (c *Conn) status(h Handler, now bool) error {
	clock := c.in.last
	if clock.Equal(c.checked) && !c.asked && !now {
		return nil
	}
	c.checked = clock
	due := now || c.asked || clock.Sub(c.sent) >= statusEvery
	if !due && clock.Sub(c.sent) < confirmEvery {
		return nil
	}
	// Above what this connection received stands what an earlier one did: PostgreSQL would skip it without a word if the
	// database has gone back in time. Below what was confirmed before, some versions move the slot back.
	confirm := min(h.Confirm(), c.received)
	if confirm <= c.confirmed && !due {
		return nil
	}
	quiet := clock.Sub(c.in.heard)
	if quiet > silence {
		return fmt.Errorf("read replication stream: silent for %s", quiet.Round(time.Second))
	}
	c.confirmed = max(c.confirmed, confirm)
	return c.send(clock, quiet > statusEvery)
}

func (c *Conn) send(clock time.Time, askBack bool) error {
	c.sent, c.asked = clock, false
	if err := c.pg.Conn().SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	position := pglogrepl.LSN(c.confirmed)
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), c.pg,
		pglogrepl.StandbyStatusUpdate{
			WALWritePosition: position, WALFlushPosition: position, WALApplyPosition: position,
			ClientTime: clock, ReplyRequested: askBack,
		})
	if err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	return nil
}

// drain finishes what was read, confirms it and ends replication.
func (c *Conn) drain(h Handler) error {
	deadline := time.After(drainTimeout)
	for done := h.Drain(); done != nil; {
		select {
		case <-done:
			done = nil
		case <-deadline:
			done = nil
		case <-time.After(readTimeout):
		}
		c.in.notRead()
		if err := c.status(h, done == nil); err != nil {
			return err
		}
	}
	return nil
}
