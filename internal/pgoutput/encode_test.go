package pgoutput_test

import (
	"encoding/binary"
	"time"

	"github.com/walfence/walfence/internal/pgoutput"
)

// encode writes what a decoder holds of a kind as PostgreSQL would, so that tests can compare both ways.
func encode(kind pgoutput.Kind, d *pgoutput.Decoder) []byte {
	b := []byte{byte(kind)}
	switch kind {
	case pgoutput.KindBegin:
		b = put64(b, uint64(d.Begin.FinalLSN))
		b = putTime(b, d.Begin.CommitTime)
		b = put32(b, d.Begin.XID)
	case pgoutput.KindCommit:
		b = append(b, 0)
		b = put64(b, uint64(d.Commit.LSN))
		b = put64(b, uint64(d.Commit.EndLSN))
		b = putTime(b, d.Commit.Time)
	case pgoutput.KindOrigin:
		b = put64(b, uint64(d.Origin.LSN))
		b = putString(b, d.Origin.Name)
	case pgoutput.KindRelation:
		b = putRelation(b, &d.Relation)
	case pgoutput.KindType:
		b = put32(b, d.Type.ID)
		b = putNamespace(b, d.Type.Namespace)
		b = putString(b, d.Type.Name)
	case pgoutput.KindMessage:
		b = append(b, bit(d.Message.Transactional, 1))
		b = put64(b, uint64(d.Message.LSN))
		b = putString(b, d.Message.Prefix)
		b = put32(b, uint32(len(d.Message.Content)))
		b = append(b, d.Message.Content...)
	case pgoutput.KindTruncate:
		b = put32(b, uint32(len(d.Truncate.Relations)))
		b = append(b, bit(d.Truncate.Cascade, 1)|bit(d.Truncate.RestartIdentity, 2))
		for _, id := range d.Truncate.Relations {
			b = put32(b, id)
		}
	default:
		b = putRow(b, kind, &d.Row)
	}
	return b
}

func putRelation(b []byte, rel *pgoutput.Relation) []byte {
	b = put32(b, rel.ID)
	b = putNamespace(b, rel.Namespace)
	b = putString(b, rel.Name)
	b = append(b, rel.ReplicaIdentity)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rel.Columns)))
	for _, c := range rel.Columns {
		b = append(b, bit(c.Key, 1))
		b = putString(b, c.Name)
		b = put32(b, c.Type)
		b = put32(b, uint32(c.Modifier))
	}
	return b
}

func putRow(b []byte, kind pgoutput.Kind, row *pgoutput.Row) []byte {
	b = put32(b, row.Relation)
	if row.OldKind != 0 {
		b = putTuple(append(b, row.OldKind), row.Old)
	}
	if kind != pgoutput.KindDelete {
		b = putTuple(append(b, 'N'), row.New)
	}
	return b
}

func putTuple(b []byte, t pgoutput.Tuple) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(t)))
	for _, c := range t {
		b = append(b, c.Kind)
		if c.Kind == pgoutput.ColumnText || c.Kind == pgoutput.ColumnBinary {
			b = append(put32(b, uint32(len(c.Data))), c.Data...)
		}
	}
	return b
}

func put32(b []byte, n uint32) []byte      { return binary.BigEndian.AppendUint32(b, n) }
func put64(b []byte, n uint64) []byte      { return binary.BigEndian.AppendUint64(b, n) }
func putString(b []byte, s string) []byte  { return append(append(b, s...), 0) }
func putTime(b []byte, t time.Time) []byte { return put64(b, uint64(micros(t))) }
func micros(t time.Time) int64             { return (t.Unix()-946684800)*1e6 + int64(t.Nanosecond())/1e3 }

func putNamespace(b []byte, s string) []byte {
	if s == "pg_catalog" {
		s = ""
	}
	return putString(b, s)
}

func bit(set bool, value byte) byte {
	if set {
		return value
	}
	return 0
}
