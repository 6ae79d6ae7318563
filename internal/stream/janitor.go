package stream

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// The janitor begins when CHANGES is fuller than janitorBegins of its limit, and purges down to janitorEnds: what is left
// is the window from which a cache that went back in time can be replayed.
const (
	janitorBegins = 0.8
	janitorEnds   = 0.6
)

// JanitorOptions is how a [Janitor] works. Zero values have defaults.
type JanitorOptions struct {
	Stream string        // Changes
	Every  time.Duration // 3 s
	// Bound returns the lowest sequence that must stay whatever the consumers have acknowledged, and false if that is
	// not known, when nothing is purged. Without it the consumers alone decide.
	Bound   func(ctx context.Context) (sequence uint64, ok bool)
	Log     *zap.Logger
	Metrics prometheus.Registerer
}

// Janitor makes room in a stream that would otherwise refuse new messages once it is full.
type Janitor struct {
	js      jetstream.JetStream
	opt     JanitorOptions
	metrics janitorMetrics

	// earlier holds the floors of the last two rounds. What is purged was below the older one: each consumer has seen by
	// then that it had passed it, and does not take the purge for a loss.
	earlier [2]uint64
}

// NewJanitor returns a janitor that does nothing yet.
func NewJanitor(js jetstream.JetStream, opt JanitorOptions) *Janitor {
	opt.Stream = cmp.Or(opt.Stream, Changes)
	opt.Every = cmp.Or(opt.Every, 3*time.Second)
	if opt.Bound == nil {
		opt.Bound = func(context.Context) (uint64, bool) { return ^uint64(0), true }
	}
	if opt.Log == nil {
		opt.Log = zap.NewNop()
	}
	return &Janitor{js: js, opt: opt, metrics: newJanitorMetrics(opt.Metrics)}
}

// Run looks after the stream until ctx ends.
func (j *Janitor) Run(ctx context.Context) {
	tick := time.NewTicker(j.opt.Every)
	defer tick.Stop()
	failing := false
	for {
		err := j.round(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			j.opt.Log.Warn("cannot look after the stream", zap.Error(err))
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (j *Janitor) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	stream, err := j.js.Stream(ctx, j.opt.Stream)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", j.opt.Stream, err)
	}
	info := stream.CachedInfo()
	j.metrics.stream(info.State)
	floor, err := j.floor(ctx, stream)
	if err != nil {
		return err
	}
	passed := j.earlier[0]
	j.earlier = [2]uint64{j.earlier[1], floor}
	if float64(info.State.Bytes) <= janitorBegins*float64(info.Config.MaxBytes) {
		return nil
	}
	bound, ok := j.opt.Bound(ctx)
	if !ok {
		return nil
	}
	return j.purge(ctx, stream, min(floor+1, passed+1, bound))
}

// floor returns the lowest acknowledgement of all durable consumers; 0 if there is none, since nobody has then seen
// anything.
func (j *Janitor) floor(ctx context.Context, stream jetstream.Stream) (uint64, error) {
	floor, found := ^uint64(0), false
	consumers := stream.ListConsumers(ctx)
	for info := range consumers.Info() {
		if info.Config.Durable == "" {
			continue
		}
		j.metrics.consumer(info)
		floor, found = min(floor, info.AckFloor.Stream), true
	}
	if err := consumers.Err(); err != nil {
		return 0, fmt.Errorf("list consumers: %w", err)
	}
	if !found {
		return 0, nil
	}
	return floor, nil
}

// purge drops what stands before keep, as much as is needed and never the last message: it holds the source's state.
func (j *Janitor) purge(ctx context.Context, stream jetstream.Stream, keep uint64) error {
	info := stream.CachedInfo()
	s := info.State
	excess := float64(s.Bytes) - janitorEnds*float64(info.Config.MaxBytes)
	needed := uint64(excess/float64(s.Bytes)*float64(s.Msgs)) + 1
	before := min(keep, s.LastSeq, s.FirstSeq+needed)
	if before <= s.FirstSeq {
		return nil
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil {
		return fmt.Errorf("purge stream %s: %w", j.opt.Stream, err)
	}
	j.metrics.purged.Add(float64(before - s.FirstSeq))
	j.opt.Log.Info("made room in the stream", zap.Uint64("seq", before), zap.Uint64("messages", before-s.FirstSeq),
		zap.Uint64("bytes", s.Bytes))
	return nil
}

type janitorMetrics struct {
	bytes, messages, first, last prometheus.Gauge
	purged                       prometheus.Counter
	pending, ackPending, floor   *prometheus.GaugeVec
}

func newJanitorMetrics(r prometheus.Registerer) janitorMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return register(r, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}))
	}
	consumer := func(name, help string) *prometheus.GaugeVec {
		return register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"consumer"}))
	}
	return janitorMetrics{
		bytes:    gauge("walfence_stream_bytes", "Bytes in CHANGES."),
		messages: gauge("walfence_stream_messages", "Messages in CHANGES."),
		first:    gauge("walfence_stream_first_seq", "Sequence of its oldest message."),
		last:     gauge("walfence_stream_last_seq", "Sequence of its newest message."),
		purged: register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "walfence_stream_purged_messages_total", Help: "Handled messages that were purged to make room.",
		})),
		pending:    consumer("walfence_consumer_pending_messages", "Messages that a durable consumer has not been given."),
		ackPending: consumer("walfence_consumer_ack_pending_messages", "Messages that it was given and has not acknowledged."),
		floor:      consumer("walfence_consumer_ack_floor_seq", "Sequence up to which it has acknowledged everything."),
	}
}

func (m janitorMetrics) stream(s jetstream.StreamState) {
	m.bytes.Set(float64(s.Bytes))
	m.messages.Set(float64(s.Msgs))
	m.first.Set(float64(s.FirstSeq))
	m.last.Set(float64(s.LastSeq))
}

func (m janitorMetrics) consumer(info *jetstream.ConsumerInfo) {
	m.pending.WithLabelValues(info.Name).Set(float64(info.NumPending))
	m.ackPending.WithLabelValues(info.Name).Set(float64(info.NumAckPending))
	m.floor.WithLabelValues(info.Name).Set(float64(info.AckFloor.Stream))
}
