package stream_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
)

// publishing is a publisher on a stream of its own, and what it was told.
type publishing struct {
	*stream.Publisher
	js jetstream.JetStream

	mu    sync.Mutex
	acked map[string]stream.Ack
	stamp uint64
}

func publish(t *testing.T, n *testkit.NATSServer, cfg jetstream.StreamConfig, opt stream.PublisherOptions) *publishing {
	nc := n.Conn(t, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectBufSize(-1))
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	cfg.Name, cfg.Subjects, cfg.Discard = "S", []string{"s.>"}, jetstream.DiscardNew
	_, err = js.CreateStream(t.Context(), cfg)
	require.NoError(t, err)
	p := &publishing{js: js, acked: map[string]stream.Ack{}}
	opt.Log = zaptest.NewLogger(t)
	opt.Header = "Stamp"
	opt.Stamp = func() (string, uint64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stamp++
		return fmt.Sprint(p.stamp), p.stamp
	}
	p.Publisher, err = stream.NewPublisher(nc, opt)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func (p *publishing) send(n int) {
	id := fmt.Sprint(n)
	p.Send(&stream.Message{Subject: "s.a", ID: id, Body: []byte(id), Done: func(a stream.Ack) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if _, twice := p.acked[id]; twice {
			panic("done twice: " + id)
		}
		p.acked[id] = a
	}})
}

func (p *publishing) flush(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, p.Flush(ctx))
}

// stored reads the stream back: bodies in order, and each message's stamp.
func (p *publishing) stored(t *testing.T) (bodies []string, stamps map[string]string) {
	stamps = map[string]string{}
	s, err := p.js.Stream(t.Context(), "S")
	require.NoError(t, err)
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		bodies = append(bodies, string(m.Data))
		stamps[string(m.Data)] = m.Header.Get("Stamp")
	}
	return bodies, stamps
}

func inOrder(n int) (want []string) {
	for i := range n {
		want = append(want, fmt.Sprint(i))
	}
	return want
}

func TestEveryMessageIsInTheStreamOnceAndInOrder(t *testing.T) {
	p := publish(t, testkit.NATS(t), jetstream.StreamConfig{}, stream.PublisherOptions{Window: 64})
	for i := range 3000 {
		p.send(i)
	}
	p.flush(t)
	bodies, stamps := p.stored(t)
	require.Equal(t, inOrder(3000), bodies)
	require.Len(t, p.acked, 3000)
	for body, ack := range p.acked {
		require.Equal(t, stamps[body], fmt.Sprint(ack.Stamp), "the ack's stamp is what the stream holds")
	}
	n, size, _, err := p.Queued()
	require.NoError(t, err)
	require.Zero(t, n+size)
}

func TestServerRestartsLoseAndReorderNothing(t *testing.T) {
	n := testkit.NATS(t)
	p := publish(t, n, jetstream.StreamConfig{}, stream.PublisherOptions{Window: 64, Timeout: time.Second})
	for round := range 5 {
		for i := range 1000 {
			p.send(round*1000 + i)
		}
		require.NoError(t, n.Restart())
	}
	p.flush(t)
	bodies, stamps := p.stored(t)
	seen := map[string]bool{}
	first := bodies[:0:0]
	for _, b := range bodies {
		if !seen[b] {
			first = append(first, b)
		}
		seen[b] = true
	}
	require.Equal(t, inOrder(5000), first)
	for body, ack := range p.acked {
		if ack.Stamp != 0 {
			require.Equal(t, stamps[body], fmt.Sprint(ack.Stamp), "a floor is confirmed only if it stands in the stream")
		}
	}
}

func TestAFullStreamStopsPublishingUntilThereIsRoom(t *testing.T) {
	p := publish(t, testkit.NATS(t), jetstream.StreamConfig{MaxMsgs: 10}, stream.PublisherOptions{Window: 4})
	for i := range 30 {
		p.send(i)
	}
	testkit.Eventually(t, 10*time.Second, func() error {
		if n, _, _, err := p.Queued(); n != 20 || err == nil {
			return fmt.Errorf("%d queued, error %v", n, err)
		}
		return nil
	})
	s, err := p.js.Stream(t.Context(), "S")
	require.NoError(t, err)
	var all []string
	for len(all) < 20 {
		bodies, _ := p.stored(t)
		all = append(all, bodies...)
		require.NoError(t, s.Purge(t.Context()))
		testkit.Eventually(t, 20*time.Second, func() error {
			if n, _, _, _ := p.Queued(); n > max(0, 20-len(all)) {
				return fmt.Errorf("%d queued", n)
			}
			return nil
		})
	}
	p.flush(t)
	bodies, _ := p.stored(t)
	require.Equal(t, inOrder(30), append(all, bodies...))
}

func TestAMessageThatIsThereAlreadyIsAckedAndVouchesForNoStamp(t *testing.T) {
	p := publish(t, testkit.NATS(t), jetstream.StreamConfig{}, stream.PublisherOptions{})
	p.send(0)
	p.flush(t)
	delete(p.acked, "0")
	p.send(0)
	p.flush(t)
	require.Equal(t, stream.Ack{Seq: 1, Duplicate: true}, p.acked["0"])
}

func TestAServerThatDoesNotAnswerIsTriedAgain(t *testing.T) {
	n := testkit.NATS(t)
	p := publish(t, n, jetstream.StreamConfig{}, stream.PublisherOptions{Timeout: 200 * time.Millisecond})
	require.NoError(t, p.js.DeleteStream(t.Context(), "S"))
	p.send(0)
	testkit.Eventually(t, 10*time.Second, func() error {
		if _, _, since, _ := p.Queued(); since.IsZero() {
			return fmt.Errorf("not failing")
		}
		return nil
	})
	_, err := p.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	p.flush(t)
	bodies, _ := p.stored(t)
	require.Equal(t, []string{"0"}, bodies)
}

func BenchmarkPublish(b *testing.B) {
	n := testkit.NATS(b, func(o *server.Options) { o.StoreDir = b.TempDir() })
	nc := n.Conn(b)
	js, err := jetstream.New(nc)
	require.NoError(b, err)
	_, err = js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(b, err)
	p, err := stream.NewPublisher(nc, stream.PublisherOptions{Header: "Walfence-Continuity", Stamp: func() (string, uint64) {
		return "v=1 system=7391234567890123456 timeline=3 slot=walfence epoch=1763887200000 publication=a1b2 stream=2026-11-23T08:00:00Z settling=false floor=0/16B3748 published=0/16B3700 published_xid=1234 published_us=1763887200123456", 1
	}})
	require.NoError(b, err)
	defer p.Close()
	body := make([]byte, 275)
	room := make(chan struct{}, 20000)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		room <- struct{}{}
		p.Send(&stream.Message{Subject: "s.public.items", ID: fmt.Sprintf("7391234567890123456.1.1763887200000.0/%X.0.0123456789abcdef", i), Body: body, Done: func(stream.Ack) { <-room }})
	}
	require.NoError(b, p.Flush(b.Context()))
}

func TestWhatWasInFlightWhenTheConnectionBrokeIsSentAgainAtOnce(t *testing.T) {
	n := testkit.NATS(t)
	// Long enough that waiting it out cannot be mistaken for noticing.
	p := publish(t, n, jetstream.StreamConfig{}, stream.PublisherOptions{Timeout: time.Minute, Window: 64})
	for i := range 20000 {
		p.send(i)
	}
	require.NoError(t, n.Restart())
	p.flush(t)
}
