package events

import "time"

// Kind says what an event tells.
type Kind string

const (
	// KindRows tells of inserted, updated and deleted rows of one table in one transaction.
	KindRows Kind = "rows"
	// KindTruncate tells that one table was truncated.
	KindTruncate Kind = "truncate"
	// KindSweep asks for everything derived from one table, or with no table from any, to be invalidated: something
	// changed that left no rows in the stream. Reason says what.
	KindSweep Kind = "sweep"
	// KindEpoch starts an epoch: everything cached before it is invalid. Reason says why.
	KindEpoch Kind = "epoch"
	// KindHeartbeat changes nothing. It carries the floor when nothing else does.
	KindHeartbeat Kind = "heartbeat"
)

// Op is what a change did to a row.
type Op byte

// The three operations on a row, as they stand on the wire.
const (
	Insert Op = 'i'
	Update Op = 'u'
	Delete Op = 'd'
)

// String returns "insert", "update" or "delete".
func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	}
	return "unknown"
}

// State is what is known of a column's value. The four are different things and stay so on the wire.
type State uint8

const (
	// Absent: not known, because PostgreSQL did not log it (it is not in the replica identity of an old row).
	Absent State = iota
	// Null: SQL NULL.
	Null
	// Unchanged: an out-of-line (TOAST) value that the update did not touch, and that was therefore not logged.
	Unchanged
	// Present: the value is in Text.
	Present
)

// Value is one column of one row.
type Value struct {
	State State
	Text  string // PostgreSQL's text output (ISO dates, UTC) if State is Present
}

// Text returns a present value.
func Text(s string) Value { return Value{State: Present, Text: s} }

// Change is one row that was inserted, updated or deleted.
type Change struct {
	Op  Op
	New []Value // by Event.Columns; nil for a delete
	// Old is by Event.Columns; nil for an insert, and for an update that changed no column of the replica identity
	// (then the identity's columns had the values that they have in New; the others are absent).
	Old []Value
}

// OldValue returns what column i held before the change: from the old row; where an update logged none, a column of the
// replica identity had its new value, and any other is absent.
func (e *Event) OldValue(c *Change, i int) Value {
	switch {
	case c.Old != nil:
		return c.Old[i]
	case c.Op == Update && e.Identity[i]:
		return c.New[i]
	}
	return Value{}
}

// NewValue returns what column i holds after the change. A value that an update left unchanged is taken from the old
// row if that has it.
func (e *Event) NewValue(c *Change, i int) Value {
	if c.New == nil {
		return Value{}
	}
	v := c.New[i]
	if v.State == Unchanged && c.Old != nil && c.Old[i].State != Absent {
		return c.Old[i]
	}
	return v
}

// Table names a table. Both parts are as PostgreSQL stores them, without quotes.
type Table struct {
	Schema string `json:"schema"`
	Name   string `json:"table"`
}

// String returns schema.name, unquoted.
func (t Table) String() string { return t.Schema + "." + t.Name }

// Event is one message on CHANGES: changes of one transaction on one table, or one of the other kinds.
//
// The strings of a decoded event share one copy of its body and stay valid as long as they are held. Its slices are valid
// until the next [Decode] into the same Event.
type Event struct {
	Version  int
	Kind     Kind
	Source   string   // the rules file's name of the database
	Position Position // of its first change
	XID      uint64   // the transaction's xid8; 0 where there is no transaction
	Time     time.Time
	// End is the end LSN of the transaction, on its last event; else 0.
	End LSN
	// Table is the table that rules name: for a partition, the partitioned table. Empty for kinds without one.
	Table Table
	// Partition is the table that PostgreSQL named, where it is a partition of Table.
	Partition Table
	Columns   []string // the columns that rules need of it
	Identity  []bool   // by Columns: is in the table's replica identity
	// Types are by Columns PostgreSQL's oids of their types; empty where no rule needs to know them.
	Types   []uint32
	Changes []Change
	Reason  string // of a sweep or an epoch

	arena []Value // holds the tuples of a decoded event
}

// Transaction identifies a transaction well enough to recognise it when it is read again.
type Transaction struct {
	LSN  LSN // commit LSN
	XID  uint64
	Time time.Time // commit time, microseconds
}

// Continuity is what every message on CHANGES carries in its header, so that the stream is its reader's state: what the
// source was, how far everything is in the stream, and what the newest published transaction was. The body has none of it:
// a replayed event has an equal body.
type Continuity struct {
	System      uint64 // PostgreSQL's system identifier
	Timeline    uint32
	Slot        string
	Epoch       uint64
	Floor       LSN         // everything that ended at or before it is in the stream
	Published   Transaction // the newest one, by LSN, that is in the stream
	Publication string      // fingerprint of the publication's catalog rows
	Stream      time.Time   // when the stream was created
	// StatsReset is when PostgreSQL last reset its statistics. A crash resets them, and may have lost commits.
	StatsReset time.Time
	// Settling tells that the second sweep of something that could not be streamed is still owed.
	Settling bool
}
