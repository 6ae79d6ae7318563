// Package pgoutput turns the bytes of one message of PostgreSQL's pgoutput plugin, protocol version 1, into a Go value.
//
// Its promise: a message is understood to its last byte or refused; nothing is read outside of it, whatever it holds, and
// nothing is allocated for a row. It does no I/O.
package pgoutput

import (
	"fmt"
)

// Decoder decodes one message at a time into the field of the message's kind. All fields but Relation are reused: they
// are valid until the next Decode, and what points into the message, only as long as the message's bytes are. The zero
// value is ready. A Decoder serves one goroutine.
type Decoder struct {
	Begin    Begin
	Commit   Commit
	Origin   Origin
	Relation Relation
	Type     Type
	Message  Message
	Row      Row // of an insert, update or delete
	Truncate Truncate
}

// UnknownMessageError is a message of a type that protocol version 1 does not have.
type UnknownMessageError struct{ Kind Kind }

// Error names the type byte.
func (e *UnknownMessageError) Error() string {
	return fmt.Sprintf("decode pgoutput message: unknown type %q", rune(e.Kind))
}

// MalformedError is a message that is not what its type byte says.
type MalformedError struct {
	Kind   Kind
	Fault  string
	Offset int // where reading stopped
	Length int // of the message
}

// Error says what is wrong and where, and shows none of the data.
func (e *MalformedError) Error() string {
	if e.Length == 0 {
		return "decode pgoutput message: it is empty"
	}
	return fmt.Sprintf("decode pgoutput %s: %s at byte %d of %d", e.Kind, e.Fault, e.Offset, e.Length)
}

// Decode decodes one message and returns its kind. The error is an [*UnknownMessageError] or a [*MalformedError]; after
// one, the message's field holds nothing of use.
func (d *Decoder) Decode(data []byte) (Kind, error) {
	r := reader{data: data}
	kind := Kind(r.byte())
	switch kind {
	case KindInsert, KindUpdate, KindDelete:
		d.row(&r, kind)
	case KindBegin:
		d.Begin = Begin{FinalLSN: r.lsn(), CommitTime: r.time(), XID: r.uint32()}
	case KindCommit:
		r.flags(0)
		d.Commit = Commit{LSN: r.lsn(), EndLSN: r.lsn(), Time: r.time()}
	case KindOrigin:
		d.Origin = Origin{LSN: r.lsn(), Name: r.string()}
	case KindRelation:
		d.Relation = relation(&r)
	case KindType:
		d.Type = Type{ID: r.uint32(), Namespace: r.namespace(), Name: r.string()}
	case KindMessage:
		d.message(&r)
	case KindTruncate:
		d.truncate(&r)
	default:
		if len(data) > 0 {
			return kind, &UnknownMessageError{Kind: kind}
		}
	}
	if r.left() > 0 {
		r.fail("trailing bytes")
	}
	if r.fault != "" {
		return kind, &MalformedError{Kind: kind, Fault: r.fault, Offset: r.at, Length: len(data)}
	}
	return kind, nil
}

func (d *Decoder) row(r *reader, kind Kind) {
	row := &d.Row
	row.Relation = r.uint32()
	row.OldKind, row.Old, row.New = 0, row.Old[:0], row.New[:0]
	part := r.byte()
	if kind != KindInsert && (part == OldKey || part == OldFull) {
		row.OldKind = part
		row.Old = r.tuple(row.Old)
		if kind == KindDelete {
			return
		}
		part = r.byte()
	}
	if kind == KindDelete || part != 'N' {
		r.fail("unknown part of a row")
		return
	}
	row.New = r.tuple(row.New)
}

func relation(r *reader) Relation {
	rel := Relation{ID: r.uint32(), Namespace: r.namespace(), Name: r.string(), ReplicaIdentity: r.byte()}
	n := r.count(uint32(r.uint16()), 10) // flags, an empty name, type, modifier
	rel.Columns = make([]RelationColumn, n)
	for i := range rel.Columns {
		rel.Columns[i] = RelationColumn{
			Key: r.flags(1) == 1, Name: r.string(), Type: r.uint32(), Modifier: int32(r.uint32()),
		}
	}
	return rel
}

func (d *Decoder) message(r *reader) {
	d.Message = Message{Transactional: r.flags(1) == 1, LSN: r.lsn(), Prefix: r.string()}
	d.Message.Content = r.take(r.count(r.uint32(), 1))
}

func (d *Decoder) truncate(r *reader) {
	count := r.uint32()
	options := r.flags(1 | 2)
	n := r.count(count, 4)
	t := Truncate{Relations: d.Truncate.Relations[:0], Cascade: options&1 != 0, RestartIdentity: options&2 != 0}
	for range n {
		t.Relations = append(t.Relations, r.uint32())
	}
	d.Truncate = t
}
