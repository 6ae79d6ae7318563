package events_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walfence/walfence/pkg/events"
)

var ignoreArena = cmpopts.IgnoreUnexported(events.Event{})

func anyValue(old bool) *rapid.Generator[events.Value] {
	return rapid.Custom(func(t *rapid.T) events.Value {
		s := rapid.SampledFrom([]events.State{events.Absent, events.Null, events.Unchanged, events.Present}).Draw(t, "state")
		if s != events.Present {
			return events.Value{State: s}
		}
		if rapid.Bool().Draw(t, "bytes") {
			return events.Text(string(rapid.SliceOf(rapid.Byte()).Draw(t, "text")))
		}
		return events.Text(rapid.String().Draw(t, "text"))
	})
}

func anyEvent() *rapid.Generator[events.Event] {
	return rapid.Custom(func(t *rapid.T) events.Event {
		e := events.Event{
			Version: events.Version, Kind: events.KindRows, Source: "shop",
			Position: events.Position{Epoch: rapid.Uint64().Draw(t, "epoch"), LSN: events.LSN(rapid.Uint64().Draw(t, "lsn")), Ordinal: rapid.Uint64().Draw(t, "ordinal")},
			XID:      rapid.Uint64().Draw(t, "xid"), End: events.LSN(rapid.Uint64().Draw(t, "end")),
			Time:    time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "time")).UTC(),
			Table:   events.Table{Schema: rapid.StringN(1, 5, -1).Draw(t, "schema"), Name: rapid.StringN(1, 5, -1).Draw(t, "table")},
			Columns: rapid.SliceOfN(rapid.String(), 1, 4).Draw(t, "columns"),
		}
		n := len(e.Columns)
		e.Identity = rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "identity")
		if rapid.Bool().Draw(t, "has types") {
			e.Types = rapid.SliceOfN(rapid.Uint32(), n, n).Draw(t, "types")
		}
		for range rapid.IntRange(0, 5).Draw(t, "rows") {
			c := events.Change{Op: rapid.SampledFrom([]events.Op{events.Insert, events.Update, events.Delete}).Draw(t, "op")}
			if c.Op != events.Delete {
				c.New = rapid.SliceOfN(anyValue(false), n, n).Draw(t, "new")
			}
			if c.Op == events.Delete || c.Op == events.Update && rapid.Bool().Draw(t, "has old") {
				c.Old = rapid.SliceOfN(anyValue(true), n, n).Draw(t, "old")
			}
			e.Changes = append(e.Changes, c)
		}
		return e
	})
}

func TestWhatIsEncodedIsDecodedToTheSame(t *testing.T) {
	var got events.Event // reused from one to the next, as a worker does
	rapid.Check(t, func(t *rapid.T) {
		want := anyEvent().Draw(t, "event")
		body := want.AppendBody(nil)
		if !json.Valid(body) {
			t.Fatalf("not JSON: %s", body)
		}
		if err := events.Decode(body, &got); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if d := cmp.Diff(want, got, ignoreArena, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("%s\n%s", body, d)
		}
	})
}

func TestRowsOfATableOfWhichNoColumnIsNeededAreStillRows(t *testing.T) {
	want := events.Event{Version: events.Version, Kind: events.KindRows, Source: "shop", Table: events.Table{Schema: "public", Name: "settings"}}
	want.Changes = []events.Change{
		{Op: events.Insert, New: []events.Value{}},
		{Op: events.Update, New: []events.Value{}, Old: []events.Value{}},
		{Op: events.Delete, Old: []events.Value{}},
	}
	var got events.Event
	require.NoError(t, events.Decode(want.AppendBody(nil), &got))
	require.Equal(t, want.Changes, got.Changes)
}

func TestKindsWithoutRowsAreDecodedToTheSame(t *testing.T) {
	at := time.Date(2026, 11, 23, 8, 0, 0, 123456000, time.UTC)
	for _, want := range []events.Event{
		{Version: 1, Kind: events.KindTruncate, Source: "s", Time: at, XID: 7, End: 9, Table: events.Table{Schema: "public", Name: "t"}, Partition: events.Table{Schema: "p", Name: "t1"}},
		{Version: 1, Kind: events.KindEpoch, Source: "s", Time: at, Reason: "slot_missing", Position: events.Position{Epoch: 4}},
		{Version: 1, Kind: events.KindHeartbeat, Source: "s", Time: at},
	} {
		var got events.Event
		require.NoError(t, events.Decode(want.AppendBody(nil), &got))
		require.Empty(t, cmp.Diff(want, got, ignoreArena, cmpopts.EquateEmpty()))
	}
}

func TestAReaderOfAnOlderVersionIsTold(t *testing.T) {
	var e events.Event
	err := events.Decode([]byte(`{"v":2,"kind":"rows","rows":[["x",{}]]}`), &e)
	var newer *events.VersionError
	require.True(t, errors.As(err, &newer), "got %v", err)
	require.Equal(t, 2, newer.Got)
}

func TestUnknownFieldsAreSkipped(t *testing.T) {
	var e events.Event
	require.NoError(t, events.Decode([]byte(`{"v":1, "more":{"a":[1,"]"]}, "kind":"heartbeat","source":"s","epoch":1,"lsn":"0/1","ordinal":0,"time":"2026-11-23T08:00:00Z"}`), &e))
	require.Equal(t, events.KindHeartbeat, e.Kind)
}

func TestDamagedEventsAreRefused(t *testing.T) {
	var e events.Event
	whole := `{"v":1,"kind":"rows","source":"s","epoch":1,"lsn":"0/1","ordinal":0,"xid":"5","time":"2026-11-23T08:00:00Z","schema":"p","table":"t","columns":["a"],"identity":[true],"rows":[["i",["1"]]]}`
	require.NoError(t, events.Decode([]byte(whole), &e))
	for n := range len(whole) {
		require.Error(t, events.Decode([]byte(whole[:n]), &e), whole[:n])
	}
	for _, bad := range []string{
		whole + "x",
		strings.Replace(whole, `["1"]`, `["1","2"]`, 1),
		strings.Replace(whole, `"i"`, `"x"`, 1),
		strings.Replace(whole, `["i",["1"]]`, `["i"]`, 1),
		strings.Replace(whole, `["i",["1"]]`, `["i",["1"],["1"]]`, 1),
		strings.Replace(whole, `["i",["1"]]`, `["d"]`, 1),
		strings.Replace(whole, `[true]`, `[]`, 1),
		strings.Replace(whole, `[true]`, `[true],"types":[1,2]`, 1),
		strings.Replace(whole, `[true]`, `[true],"types":[4294967296]`, 1),
	} {
		require.Error(t, events.Decode([]byte(bad), &e), bad)
	}
}

func FuzzDecodeAgreesWithItself(f *testing.F) {
	f.Add([]byte(`{"v":1,"kind":"rows","columns":["a"],"identity":[true],"rows":[["u",["1"],[null]],["i",[true]],["d",[{"base64":"/w=="}]]],"end":"0/1"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var e, again events.Event
		if events.Decode(body, &e) != nil {
			return
		}
		require.NoError(t, events.Decode(e.AppendBody(nil), &again))
		require.Equal(t, e.AppendBody(nil), again.AppendBody(nil))
	})
}

func TestContinuityTravelsWhole(t *testing.T) {
	want := events.Continuity{
		System: 7391234567890123456, Timeline: 3, Slot: "walfence", Epoch: 1763887200000, Floor: 0x16B3748,
		Published:   events.Transaction{LSN: 0x16B3700, XID: 1 << 33, Time: time.UnixMicro(1763887200123456).UTC()},
		Publication: "a1b2", Stream: time.Date(2026, 11, 23, 8, 0, 0, 5, time.UTC), Settling: true,
		StatsReset: time.UnixMicro(1763887200000001).UTC(),
	}
	got, err := events.ParseContinuity(string(want.Append(nil)))
	require.NoError(t, err)
	require.Equal(t, want, got)

	_, err = events.ParseContinuity(strings.Replace(string(want.Append(nil)), "floor=0/16B3748", "floor=x", 1))
	require.ErrorContains(t, err, "floor")
	_, err = events.ParseContinuity(strings.Replace(string(want.Append(nil)), "v=1", "v=2", 1))
	require.ErrorContains(t, err, "newer")
}

func oneRow() events.Event {
	return events.Event{
		Kind: events.KindRows, Source: "bench", Position: events.Position{Epoch: 1763887200000, LSN: 0x16B3748}, XID: 7421, End: 0x16B3790,
		Time: time.UnixMicro(1763887200123456), Table: events.Table{Schema: "public", Name: "items"},
		Columns: []string{"id", "tenant_id"}, Identity: []bool{true, true},
		Changes: []events.Change{{Op: events.Update, New: []events.Value{events.Text("123456"), events.Text("17")}}},
	}
}

func BenchmarkEncode(b *testing.B) {
	e := oneRow()
	var buf []byte
	for b.Loop() {
		buf = e.AppendBody(buf[:0])
	}
	b.ReportMetric(float64(len(buf)), "bytes")
}

func BenchmarkDecode(b *testing.B) {
	for name, rows := range map[string]int{"1": 1, "100": 100} {
		b.Run(name, func(b *testing.B) {
			e := oneRow()
			for len(e.Changes) < rows {
				e.Changes = append(e.Changes, e.Changes[0])
			}
			body := e.AppendBody(nil)
			var got events.Event
			b.ReportAllocs()
			for b.Loop() {
				if err := events.Decode(body, &got); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
		})
	}
}
