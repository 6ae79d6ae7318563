package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/pkg/events"
)

const (
	pastPatience = 10 * time.Second
	// mostPassed bounds how far back the newest events of a source are looked for: others and heartbeats stand between.
	mostPassed = 20_000
)

// past is what CHANGES still has of one source.
type past struct {
	nc     *nats.Conn
	stream jetstream.Stream
	source string
}

// openPast connects at once or not at all.
func openPast(ctx context.Context, n config.NATS, source string) (*past, error) {
	connecting, cancel := context.WithTimeout(ctx, feedPatience)
	defer cancel()
	nc, err := stream.Connect(connecting, streamConfig(n), "invalidator", zap.NewNop())
	if err != nil {
		return nil, mistaken(err)
	}
	p := &past{nc: nc, source: source}
	js, err := jetstream.New(nc)
	if err == nil {
		p.stream, err = js.Stream(connecting, stream.Changes)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open stream %s: %w", stream.Changes, err)
	}
	return p, nil
}

func (p *past) close() { p.nc.Close() }

// prefix is what the subjects of the source begin with.
func (p *past) prefix() string { return strings.TrimSuffix(events.SourceSubject(p.source), "_._") }

// last returns the newest n events, the oldest of them first. Heartbeats do not count.
func (p *past) last(ctx context.Context, n int) ([]*events.Event, error) {
	var found []*events.Event
	state := p.stream.CachedInfo().State
	for seq := state.LastSeq; len(found) < n && seq >= max(state.FirstSeq, 1) && state.LastSeq-seq < mostPassed; seq-- {
		m, err := p.stream.GetMsg(ctx, seq)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			continue
		case err != nil:
			return nil, fmt.Errorf("read message %d: %w", seq, err)
		case !strings.HasPrefix(m.Subject, p.prefix()):
			continue
		}
		e, err := decoded(m.Data)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", seq, err)
		}
		if e.Kind != events.KindHeartbeat {
			found = append(found, e)
		}
	}
	slices.Reverse(found)
	return found, nil
}

// since hands over all events that came into the stream from a time on until now. The event is valid until visit returns.
func (p *past) since(ctx context.Context, from time.Time, visit func(*events.Event)) error {
	consumer, err := p.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{p.prefix() + ">"}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream.Changes, err)
	}
	left := consumer.CachedInfo().NumPending
	if left == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream.Changes, err)
	}
	defer messages.Stop()
	var e events.Event
	for ; left > 0; left-- {
		waiting, cancel := context.WithTimeout(ctx, pastPatience)
		m, err := messages.Next(jetstream.NextContext(waiting))
		cancel()
		if err != nil {
			return fmt.Errorf("read stream %s: %w", stream.Changes, err)
		}
		if err := events.Decode(m.Data(), &e); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		if e.Kind != events.KindHeartbeat {
			visit(&e)
		}
	}
	return nil
}
