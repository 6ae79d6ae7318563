package apply_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/apply"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

// items returns messages like those of the benchmark's workloads: rows of one event are of one transaction, over 50 tenants.
func items(b *testing.B, messages, rows int) []*nats.Msg {
	var out []*nats.Msg
	for i := range messages {
		var changes []events.Change
		for j := range rows {
			id := i*rows + j
			changes = append(changes, updated(fmt.Sprint(id), "name", fmt.Sprint(id%50)))
		}
		out = append(out, message(b, users(changes...)))
	}
	return out
}

func quiet(opt *apply.Options) {
	opt.Log = zap.NewNop()
	opt.Metrics = nil
}

// BenchmarkHandle has batches applied as a consumer's workers would: decoded, mapped, removed and told.
func BenchmarkHandle(b *testing.B) {
	for _, w := range []struct{ messages, rows int }{{1, 1}, {512, 1}, {512, 100}, {40, 256}} {
		b.Run(fmt.Sprintf("%dx%d", w.messages, w.rows), func(b *testing.B) {
			s := setUp(b, quiet, oneRule)
			batch := items(b, w.messages, w.rows)
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, s.Handle(b.Context(), batch))
			}
			rows := float64(b.N * w.messages * w.rows)
			b.ReportMetric(rows/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/rows, "ns/row")
		})
	}
}

// oneRule leaves the rule that makes one key per row.
func oneRule(opt *apply.Options) {
	one := strings.Replace(rules, `  - name: user-name
    table: users
    delete: ["tenant:{tenant}:name:{name}"]
`, "", 1)
	opt.Program = compile(nil, one)
}

// BenchmarkConsume drains a stream that is full already, through the consumer and its workers, until all is acknowledged.
func BenchmarkConsume(b *testing.B) {
	for _, w := range []struct{ messages, rows int }{{200_000, 1}, {10_000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", w.messages, w.rows), func(b *testing.B) {
			s := setUp(b, quiet, oneRule)
			p, err := stream.NewPublisher(s.nc, stream.PublisherOptions{})
			require.NoError(b, err)
			defer p.Close()
			batch := items(b, 1000, w.rows)
			for i := range w.messages {
				m := batch[i%len(batch)]
				p.Send(&stream.Message{Subject: m.Subject, Body: m.Data})
			}
			require.NoError(b, p.Flush(b.Context()))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				c := stream.NewConsumer(s.js, stream.ConsumerOptions{Workers: 2})
				ctx, stop := context.WithCancel(b.Context())
				var wg sync.WaitGroup
				wg.Go(func() { c.Run(ctx, s.Handle) })
				began := time.Now()
				testkit.Eventually(b, time.Minute, func() error { return s.drained(b) })
				b.ReportMetric(float64(w.messages)/time.Since(began).Seconds(), "events/s")
				b.ReportMetric(float64(w.messages*w.rows)/time.Since(began).Seconds(), "rows/s")
				stop()
				wg.Wait()
				require.NoError(b, s.js.DeleteConsumer(b.Context(), stream.Changes, stream.Invalidator))
			}
		})
	}
}

func (s *bench) drained(b *testing.B) error {
	c, err := s.js.Consumer(b.Context(), stream.Changes, stream.Invalidator)
	if err != nil {
		return err
	}
	if info := c.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
		return fmt.Errorf("%d pending", info.NumPending)
	}
	return nil
}
