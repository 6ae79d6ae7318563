package catalog

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/pkg/events"
)

// Slot is a replication slot's row in pg_replication_slots. What the server's version does not have is zero.
type Slot struct {
	Name           string
	Plugin         string // "" if it is physical
	Database       string
	Active         bool
	ActivePID      uint32 // 0 unless Active
	Restart        events.LSN
	ConfirmedFlush events.LSN
	WALStatus      string // reserved, extended, unreserved or lost
	SafeWALSize    *int64 // bytes until the slot may be lost; nil if it never is
	RetainedBytes  int64  // of WAL that PostgreSQL keeps for it
	CatalogXminAge int64  // transactions since the oldest that it keeps the catalogs for
	TwoPhase       bool
	Failover       bool // 17 and later
	Synced         bool // 17 and later: copied here from the primary
	// Invalidation is why it is lost, from 17 on ("wal_removed", "rows_removed", ...); on 16 "conflict" if it is that.
	Invalidation  string
	InactiveSince time.Time // 17 and later
}

const slotQuery = `
SELECT slot_name, coalesce(plugin, ''), coalesce(database, ''), active, coalesce(active_pid, 0),
       coalesce(restart_lsn, '0/0')::text, coalesce(confirmed_flush_lsn, '0/0')::text, coalesce(wal_status, ''), safe_wal_size,
       coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0)::bigint,
       coalesce(age(catalog_xmin), 0)::bigint,
       two_phase, coalesce((j->>'failover')::bool, false), coalesce((j->>'synced')::bool, false),
       coalesce(j->>'invalidation_reason', CASE WHEN (j->>'conflicting')::bool THEN 'conflict' END, ''), (j->>'inactive_since')::timestamptz
FROM (SELECT s.*, to_jsonb(s) AS j FROM pg_replication_slots s WHERE slot_name = $1) AS slot`

// ReadSlot returns nil if there is no slot of that name.
func ReadSlot(ctx context.Context, conn *pgx.Conn, name string) (*Slot, error) {
	var s Slot
	var restart, flush string
	var inactive *time.Time
	err := conn.QueryRow(ctx, slotQuery, name).Scan(&s.Name, &s.Plugin, &s.Database, &s.Active, &s.ActivePID,
		&restart, &flush, &s.WALStatus, &s.SafeWALSize, &s.RetainedBytes, &s.CatalogXminAge,
		&s.TwoPhase, &s.Failover, &s.Synced, &s.Invalidation, &inactive)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		s.Restart, err = events.ParseLSN(restart)
	}
	if err == nil {
		s.ConfirmedFlush, err = events.ParseLSN(flush)
	}
	if err != nil {
		return nil, fmt.Errorf("read slot: %w", err)
	}
	if inactive != nil {
		s.InactiveSince = *inactive
	}
	return &s, nil
}

// Lost reports whether WAL that the slot needs is gone, so that nothing can be read from it any more.
func (s *Slot) Lost() bool { return s.WALStatus == "lost" || s.Invalidation != "" }

// Problems tells why a slot cannot be used from a database.
func (s *Slot) Problems(database string) Problems {
	var cause string
	switch {
	case s.Plugin != "pgoutput":
		cause = fmt.Sprintf("its plugin is %q, not pgoutput", s.Plugin)
	case s.Database != database:
		cause = "it belongs to database " + quote(s.Database)
	case s.TwoPhase:
		cause = "it decodes prepared transactions before they commit"
	default:
		return nil
	}
	return Problems{{
		Severity: Error, Cause: "slot " + quote(s.Name) + " was not made by walfence: " + cause, Hint: "let CDC_SLOT name another",
	}}
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// CheckSlotName refuses what PostgreSQL would refuse as a slot's name.
func CheckSlotName(name string) error {
	if !slotName.MatchString(name) {
		return fmt.Errorf("slot name %q: want 1 to 63 lower-case letters, digits and underscores", name)
	}
	return nil
}

// CreateSlotSQL is the statement that makes a slot as walfence needs it. From 17 on it survives a failover to a standby
// that synchronises slots. It must be a transaction of its own, after the one that created the publication.
func CreateSlotSQL(name string, version int) string {
	if version >= 170000 {
		return fmt.Sprintf("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', failover => true)", literal(name))
	}
	return fmt.Sprintf("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", literal(name))
}

// SlotActiveError is a slot that a connection is reading from.
type SlotActiveError struct {
	Slot string
	PID  uint32 // of that connection's server process
}

// Error says who uses the slot.
func (e *SlotActiveError) Error() string {
	return fmt.Sprintf("slot %s is in use by server process %d", quote(e.Slot), e.PID)
}

// DropSlot removes a slot if it is there. One that is in use is refused with a [*SlotActiveError], and one that cannot be
// ours with [ErrNotOurs] unless force is set.
func DropSlot(ctx context.Context, conn *pgx.Conn, name string, force bool) error {
	s, err := ReadSlot(ctx, conn, name)
	if err != nil || s == nil {
		return err
	}
	var database string
	if err := conn.QueryRow(ctx, "SELECT current_database()").Scan(&database); err != nil {
		return fmt.Errorf("drop slot: %w", err)
	}
	if problems := s.Problems(database); problems != nil && !force {
		return fmt.Errorf("drop slot: %w: %s", ErrNotOurs, problems[0].Cause)
	}
	if s.Active {
		return fmt.Errorf("drop slot: %w", &SlotActiveError{Slot: name, PID: s.ActivePID})
	}
	if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name); err != nil {
		return fmt.Errorf("drop slot: %w", err)
	}
	return nil
}
