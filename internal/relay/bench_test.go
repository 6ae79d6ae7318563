package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/gate"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

// wire writes pgoutput messages of the benchmark's table.
type wire []byte

func (w wire) byte(b byte) wire { return append(w, b) }
func (w wire) u16(n int) wire   { return binary.BigEndian.AppendUint16(w, uint16(n)) }
func (w wire) u32(n int) wire   { return binary.BigEndian.AppendUint32(w, uint32(n)) }
func (w wire) u64(n int) wire   { return binary.BigEndian.AppendUint64(w, uint64(n)) }
func (w wire) str(s string) wire {
	return append(append(w, s...), 0)
}

var benchColumns = []string{"id", "tenant_id", "name", "price", "payload", "updated_at"}

func relationMessage() wire {
	w := wire{'R'}.u32(1).str("public").str("items").byte('i').u16(len(benchColumns))
	for i, c := range benchColumns {
		key := byte(0)
		if i < 2 {
			key = 1
		}
		w = w.byte(key).str(c).u32(25).u32(-1)
	}
	return w
}

func updateMessage(id int) wire {
	w := wire{'U'}.u32(1).byte('N').u16(len(benchColumns))
	for _, v := range []string{fmt.Sprint(id), fmt.Sprint(id % 50), "name of an item", "12.34", string(make([]byte, 200)), "2026-11-23 08:00:00+00"} {
		w = append(w.byte('t').u32(len(v)), v...)
	}
	return w
}

func begin(lsn int) wire  { return wire{'B'}.u64(lsn).u64(0).u32(700) }
func commit(lsn int) wire { return wire{'C'}.byte(0).u64(lsn).u64(lsn + 8).u64(0) }

type oneTable struct{}

func (oneTable) Find(uint32, events.Table) (Watched, bool, error) {
	return Watched{Table: events.Table{Schema: "public", Name: "items"}, Columns: []string{"id", "tenant_id"}}, true, nil
}

// BenchmarkRelay is what cdc does with a row beside reading it, the JetStream server that it embeds included.
func BenchmarkRelay(b *testing.B) {
	for _, rows := range []int{1, 100, 100000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) { benchmarkRelay(b, rows) })
	}
}

func benchmarkRelay(b *testing.B, rows int) {
	nc := testkit.NATS(b).Conn(b)
	js, err := jetstream.New(nc)
	require.NoError(b, err)
	_, err = stream.Ensure(b.Context(), js, stream.Config{})
	require.NoError(b, err)
	r, err := New(nc, Config{Source: "bench", Budget: 24 << 20, Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
	require.NoError(b, err)
	defer r.Close()
	s := r.Begin(events.Continuity{System: 1, Timeline: 1, Slot: "s", Epoch: 1, Stream: time.Now()}, nil, oneTable{})
	g, err := gate.New(b.Context(), func(context.Context) (gate.Snapshot, error) { return gate.ParseSnapshot("1000:1000:") })
	require.NoError(b, err)
	s.Admit(g)
	var updates []wire
	for id := range 1000 {
		updates = append(updates, updateMessage(123456+id))
	}
	send := func(m wire) {
		for room := s.Room(); room != nil; room = s.Room() {
			<-room
		}
		require.NoError(b, s.Message(m))
	}
	send(begin(1))
	send(relationMessage())
	send(commit(1))
	b.ReportAllocs()
	b.ResetTimer()
	for n, lsn := 0, 16; n < b.N; lsn += 16 {
		send(begin(lsn))
		for i := 0; i < rows && n < b.N; i, n = i+1, n+1 {
			send(updates[n%len(updates)])
		}
		send(commit(lsn))
	}
	<-s.Drain()
}
