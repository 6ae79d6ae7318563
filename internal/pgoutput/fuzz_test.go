package pgoutput_test

import (
	"bytes"
	"testing"

	"github.com/walfence/walfence/internal/pgoutput"
)

// fuzz checks a kind of message: whatever follows the type byte is refused, or decoded to something that encodes to the
// very same bytes. So nothing is skipped, and nothing is read that is not there.
func fuzz(f *testing.F, kind pgoutput.Kind) {
	for _, data := range samples {
		if pgoutput.Kind(data[0]) == kind {
			f.Add(data[1:])
		}
	}
	for _, data := range captured(f) {
		if pgoutput.Kind(data[0]) == kind {
			f.Add(data[1:])
		}
	}
	var d pgoutput.Decoder // kept, so that one message could show through in the next
	f.Fuzz(func(t *testing.T, body []byte) {
		data := append([]byte{byte(kind)}, body...)
		before := bytes.Clone(data)
		got, err := d.Decode(data[:len(data):len(data)])
		if got != kind || !bytes.Equal(before, data) {
			t.Fatalf("kind %v, data now %x", got, data)
		}
		if err != nil {
			return
		}
		if again := encode(kind, &d); !bytes.Equal(withNamespace(kind, data), again) {
			t.Fatalf("decoded to\n%x\nfrom\n%x", again, data)
		}
	})
}

// withNamespace writes a spelled-out pg_catalog as PostgreSQL does: empty.
func withNamespace(kind pgoutput.Kind, data []byte) []byte {
	const name = "pg_catalog"
	if (kind == pgoutput.KindType || kind == pgoutput.KindRelation) && bytes.HasPrefix(data[5:], []byte(name+"\x00")) {
		return append(bytes.Clone(data[:5]), data[5+len(name):]...)
	}
	return data
}

func FuzzBegin(f *testing.F)    { fuzz(f, pgoutput.KindBegin) }
func FuzzCommit(f *testing.F)   { fuzz(f, pgoutput.KindCommit) }
func FuzzOrigin(f *testing.F)   { fuzz(f, pgoutput.KindOrigin) }
func FuzzRelation(f *testing.F) { fuzz(f, pgoutput.KindRelation) }
func FuzzType(f *testing.F)     { fuzz(f, pgoutput.KindType) }
func FuzzMessage(f *testing.F)  { fuzz(f, pgoutput.KindMessage) }
func FuzzInsert(f *testing.F)   { fuzz(f, pgoutput.KindInsert) }
func FuzzUpdate(f *testing.F)   { fuzz(f, pgoutput.KindUpdate) }
func FuzzDelete(f *testing.F)   { fuzz(f, pgoutput.KindDelete) }
func FuzzTruncate(f *testing.F) { fuzz(f, pgoutput.KindTruncate) }

func FuzzAnyMessage(f *testing.F) {
	for _, data := range samples {
		f.Add(data)
	}
	var d pgoutput.Decoder
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, err := d.Decode(data)
		if err == nil && kind.String() == "unknown" {
			t.Fatalf("decoded a message of unknown type %q", kind)
		}
	})
}
