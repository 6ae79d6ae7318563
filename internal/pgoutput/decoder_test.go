package pgoutput_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/pgoutput"
)

var samples = map[string][]byte{
	"begin":     encode('B', &pgoutput.Decoder{Begin: pgoutput.Begin{FinalLSN: 0x16B374D848, CommitTime: commitTime, XID: 4_000_000_000}}),
	"commit":    encode('C', &pgoutput.Decoder{Commit: pgoutput.Commit{LSN: 0x16B374D848, EndLSN: 0x16B374D878, Time: commitTime}}),
	"origin":    encode('O', &pgoutput.Decoder{Origin: pgoutput.Origin{LSN: 7, Name: "upstream"}}),
	"type":      encode('Y', &pgoutput.Decoder{Type: pgoutput.Type{ID: 16400, Namespace: "public", Name: "mood"}}),
	"message":   encode('M', &pgoutput.Decoder{Message: pgoutput.Message{Transactional: true, LSN: 9, Prefix: "p", Content: []byte("body")}}),
	"truncate":  encode('T', &pgoutput.Decoder{Truncate: pgoutput.Truncate{Relations: []uint32{1, 2}, Cascade: true, RestartIdentity: true}}),
	"relation":  encode('R', &pgoutput.Decoder{Relation: orders}),
	"insert":    encode('I', &pgoutput.Decoder{Row: pgoutput.Row{Relation: 16385, New: tuple}}),
	"update":    encode('U', &pgoutput.Decoder{Row: pgoutput.Row{Relation: 16385, New: tuple}}),
	"updateKey": encode('U', &pgoutput.Decoder{Row: pgoutput.Row{Relation: 16385, OldKind: 'K', Old: tuple[:2], New: tuple}}),
	"delete":    encode('D', &pgoutput.Decoder{Row: pgoutput.Row{Relation: 16385, OldKind: 'O', Old: tuple}}),
}

var (
	commitTime = time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
	orders     = pgoutput.Relation{
		ID: 16385, Namespace: "Sales", Name: "Order Items", ReplicaIdentity: pgoutput.IdentityIndex,
		Columns: []pgoutput.RelationColumn{{Key: true, Name: "id", Type: 20, Modifier: -1}, {Name: "note", Type: 1043, Modifier: 24}},
	}
	tuple = pgoutput.Tuple{
		{Kind: pgoutput.ColumnText, Data: []byte("42")},
		{Kind: pgoutput.ColumnNull},
		{Kind: pgoutput.ColumnUnchanged},
		{Kind: pgoutput.ColumnBinary, Data: []byte{0, 1}},
		{Kind: pgoutput.ColumnText, Data: []byte{}},
	}
)

func TestEveryMessageIsDecodedToWhatWasEncoded(t *testing.T) {
	for name, data := range samples {
		var d pgoutput.Decoder
		kind, err := d.Decode(data)
		require.NoError(t, err, name)
		require.Equal(t, data, encode(kind, &d), name)
	}
	var d pgoutput.Decoder
	_, err := d.Decode(samples["begin"])
	require.NoError(t, err)
	require.Equal(t, commitTime, d.Begin.CommitTime)
	_, err = d.Decode(samples["relation"])
	require.NoError(t, err)
	require.Equal(t, orders, d.Relation)
}

func TestTypesOfPgCatalogHaveTheirNamespace(t *testing.T) {
	var d pgoutput.Decoder
	_, err := d.Decode([]byte("Y\x00\x00\x00\x07\x00box\x00"))
	require.NoError(t, err)
	require.Equal(t, pgoutput.Type{ID: 7, Namespace: "pg_catalog", Name: "box"}, d.Type)
}

func TestCutMessageIsRefusedWhereverItIsCut(t *testing.T) {
	for name, data := range samples {
		for n := range len(data) {
			var d pgoutput.Decoder
			_, err := d.Decode(data[:n:n])
			require.Error(t, err, "%s cut at %d", name, n)
		}
	}
}

func TestTrailingBytesAreRefused(t *testing.T) {
	for name, data := range samples {
		var d pgoutput.Decoder
		_, err := d.Decode(append(bytes.Clone(data), 0))
		require.ErrorContains(t, err, "trailing bytes", name)
	}
}

func TestMalformedMessagesSayWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"nothing", "", "it is empty"},
		{"commit with flags", "C\x01" + string(make([]byte, 24)), "decode pgoutput commit: unknown flags at byte 2 of 26"},
		{"relation of 65535 columns", "R\x00\x00\x00\x01\x00t\x00d\xff\xff", "count is above what follows"},
		{"tuple of 65535 columns", "I\x00\x00\x00\x01N\xff\xff", "count is above what follows"},
		{"truncate of 4294967295 tables", "T\xff\xff\xff\xff\x00\x00\x00\x00\x01", "count is above what follows"},
		{"truncate with unknown option", "T\x00\x00\x00\x00\x04", "unknown flags"},
		{"message of 4 GB", "M\x00" + string(make([]byte, 8)) + "p\x00\xff\xff\xff\xff", "count is above what follows"},
		{"value of 4 GB", "I\x00\x00\x00\x01N\x00\x01t\xff\xff\xff\xff", "value ends early"},
		{"name without end", "O" + string(make([]byte, 8)) + "abc", "string does not end"},
		{"column of a later version", "I\x00\x00\x00\x01N\x00\x01x", "unknown kind of column"},
		{"insert with an old row", "I\x00\x00\x00\x01K\x00\x00N\x00\x00", "unknown part of a row"},
		{"delete with a new row", "D\x00\x00\x00\x01N\x00\x00", "unknown part of a row"},
	} {
		var d pgoutput.Decoder
		_, err := d.Decode([]byte(c.data))
		var malformed *pgoutput.MalformedError
		require.ErrorAs(t, err, &malformed, c.name)
		require.ErrorContains(t, err, c.want, c.name)
	}
}

func TestMessageOfAnUnknownTypeIsRefusedByItsType(t *testing.T) {
	var d pgoutput.Decoder
	_, err := d.Decode([]byte("S\x00\x00\x00\x01\x01")) // stream start, of protocol version 2
	var unknown *pgoutput.UnknownMessageError
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, pgoutput.Kind('S'), unknown.Kind)
	require.EqualError(t, err, `decode pgoutput message: unknown type 'S'`)
}

func TestRowForgetsTheRowBefore(t *testing.T) {
	var d pgoutput.Decoder
	for _, name := range []string{"updateKey", "insert", "delete"} {
		_, err := d.Decode(samples[name])
		require.NoError(t, err)
	}
	require.Empty(t, d.Row.New)
	_, err := d.Decode(samples["insert"])
	require.NoError(t, err)
	require.Zero(t, d.Row.OldKind)
	require.Empty(t, d.Row.Old)
}

func TestRelationIsTheReceiversToKeep(t *testing.T) {
	var d pgoutput.Decoder
	data := bytes.Clone(samples["relation"])
	_, err := d.Decode(data)
	require.NoError(t, err)
	kept := d.Relation
	clear(data)
	_, err = d.Decode(encode('R', &pgoutput.Decoder{Relation: pgoutput.Relation{ID: 1, Columns: make([]pgoutput.RelationColumn, 2)}}))
	require.NoError(t, err)
	require.Equal(t, orders, kept)
}

func TestRowsAreDecodedWithoutAllocating(t *testing.T) {
	var d pgoutput.Decoder
	for _, name := range []string{"insert", "update", "updateKey", "delete", "begin", "commit", "truncate"} {
		_, err := d.Decode(samples[name])
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = d.Decode(samples[name]) }), name)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"insert", "updateKey", "delete", "begin", "commit", "relation"} {
		b.Run(name, func(b *testing.B) {
			var d pgoutput.Decoder
			b.SetBytes(int64(len(samples[name])))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decode(samples[name]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
