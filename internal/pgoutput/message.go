package pgoutput

import (
	"time"

	"github.com/walfence/walfence/pkg/events"
)

// Kind is a message's type byte on the wire.
type Kind byte

// The messages of protocol version 1. Which field of [Decoder] each one fills has the same name; inserts, updates and
// deletes fill Row.
const (
	KindBegin    Kind = 'B'
	KindCommit   Kind = 'C'
	KindOrigin   Kind = 'O'
	KindRelation Kind = 'R'
	KindType     Kind = 'Y'
	KindMessage  Kind = 'M'
	KindInsert   Kind = 'I'
	KindUpdate   Kind = 'U'
	KindDelete   Kind = 'D'
	KindTruncate Kind = 'T'
)

// String returns the message's name in PostgreSQL's documentation, in lower case.
func (k Kind) String() string {
	switch k {
	case KindBegin:
		return "begin"
	case KindCommit:
		return "commit"
	case KindOrigin:
		return "origin"
	case KindRelation:
		return "relation"
	case KindType:
		return "type"
	case KindMessage:
		return "message"
	case KindInsert:
		return "insert"
	case KindUpdate:
		return "update"
	case KindDelete:
		return "delete"
	case KindTruncate:
		return "truncate"
	}
	return "unknown"
}

// Begin opens a transaction. All that follows up to its Commit belongs to it.
type Begin struct {
	FinalLSN   events.LSN // where its commit record starts: the commit LSN that names it
	CommitTime time.Time
	XID        uint32 // without the epoch of an xid8
}

// Commit ends a transaction.
type Commit struct {
	LSN    events.LSN // where the commit record starts; Begin's FinalLSN
	EndLSN events.LSN // where it ends: what a confirm of this transaction names
	Time   time.Time
}

// Origin tells that the transaction was itself replicated from elsewhere.
type Origin struct {
	LSN  events.LSN // of the commit on the origin
	Name string
}

// Replica identities, as pg_class.relreplident and [Relation] have them.
const (
	IdentityDefault byte = 'd' // the primary key
	IdentityNothing byte = 'n'
	IdentityFull    byte = 'f' // all columns
	IdentityIndex   byte = 'i'
)

// Relation describes a table ahead of its first row, and again when it changed. It is the receiver's to keep.
type Relation struct {
	ID              uint32 // oid
	Namespace       string
	Name            string
	ReplicaIdentity byte
	Columns         []RelationColumn // the published ones, in the order of tuples
}

// RelationColumn is one published column.
type RelationColumn struct {
	Key      bool // is in the replica identity; with IdentityFull all are
	Name     string
	Type     uint32 // oid
	Modifier int32  // atttypmod
}

// Type names a data type that is not built in, ahead of the relation that uses it. For a domain the oid is its own, and the
// name its base type's.
type Type struct {
	ID        uint32 // oid
	Namespace string
	Name      string
}

// Message is what pg_logical_emit_message wrote.
type Message struct {
	Transactional bool // stands within a transaction; otherwise wherever it was decoded
	LSN           events.LSN
	Prefix        string
	Content       []byte // within the decoded bytes
}

// Row is an inserted, updated or deleted row. Both tuples are empty, not nil, where there is none.
type Row struct {
	Relation uint32
	// OldKind is OldKey, OldFull, or 0 if there is no old tuple.
	OldKind byte
	Old     Tuple
	New     Tuple
}

// What an old tuple holds: the replica identity's columns only (all others stand as NULL, whatever they were), or the
// whole row, which a table with IdentityFull has.
const (
	OldKey  byte = 'K'
	OldFull byte = 'O'
)

// Tuple is a row's columns in the order of [Relation].
type Tuple []Column

// Column is one value.
type Column struct {
	Kind byte   // ColumnNull, ColumnUnchanged, ColumnText or ColumnBinary
	Data []byte // within the decoded bytes; nil for null and unchanged
}

// Kinds of columns.
const (
	ColumnNull      byte = 'n'
	ColumnUnchanged byte = 'u' // out-of-line (TOAST) value that the update did not touch and that was not logged
	ColumnText      byte = 't'
	ColumnBinary    byte = 'b' // only if the option binary was asked for
)

// Truncate tells that tables were truncated by one statement, those reached by CASCADE included.
type Truncate struct {
	Relations       []uint32
	Cascade         bool
	RestartIdentity bool
}
