package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

func (c *Consumer) config() jetstream.ConsumerConfig {
	config := jetstream.ConsumerConfig{
		Durable: c.opt.Name, Description: "walfence: shared by all invalidators",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       c.opt.AckWait,
		MaxDeliver:    -1, // a message that is given up is an invalidation lost
		MaxAckPending: MaxAckPending,
	}
	if c.opt.Source != "" {
		config.FilterSubject = sourceSubjects(c.opt.Source)
	}
	return config
}

// durable returns the consumer, created or brought up to date, once a gap before it has been dealt with.
func (c *Consumer) durable(ctx context.Context, stream jetstream.Stream) (*jetstream.ConsumerInfo, error) {
	info, err := c.info(ctx, stream)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return c.create(ctx, stream)
	}
	if err != nil {
		return nil, err
	}
	floor := info.AckFloor.Stream
	if !c.intake.Load().identity.equal(identity{stream.CachedInfo().Created, info.Created}) {
		c.seen = floor
	}
	if reason := lost(stream.CachedInfo(), min(c.seen, floor)); reason != "" {
		if err := c.gap(ctx, reason); err != nil {
			return nil, err
		}
	}
	c.seen = max(floor+1, stream.CachedInfo().State.FirstSeq) - 1
	return c.update(ctx, stream, info)
}

func (c *Consumer) info(ctx context.Context, stream jetstream.Stream) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := stream.Consumer(ctx, c.opt.Name)
	if err != nil {
		return nil, fmt.Errorf("open consumer %s: %w", c.opt.Name, err)
	}
	return consumer.CachedInfo(), nil
}

// create makes the consumer after dealing with the gap, if there is one: a process that dies between leaves it to the next.
func (c *Consumer) create(ctx context.Context, stream jetstream.Stream) (*jetstream.ConsumerInfo, error) {
	first := stream.CachedInfo().State.FirstSeq
	if first > 1 {
		if err := c.gap(ctx, "the consumer is new and the stream has lost its beginning"); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := stream.CreateOrUpdateConsumer(ctx, c.config())
	if err != nil {
		return nil, fmt.Errorf("create consumer %s: %w", c.opt.Name, err)
	}
	c.seen = max(first, 1) - 1
	return consumer.CachedInfo(), nil
}

func (c *Consumer) update(ctx context.Context, stream jetstream.Stream, info *jetstream.ConsumerInfo) (*jetstream.ConsumerInfo, error) {
	have, want := info.Config, c.config()
	if have.FilterSubject != want.FilterSubject || have.AckPolicy != want.AckPolicy || have.DeliverSubject != "" {
		return nil, &UnfitError{Stream: c.opt.Stream, Problems: []string{fmt.Sprintf(
			"its consumer %s takes %q and was made for something else than %q", c.opt.Name, have.FilterSubject, want.FilterSubject)}}
	}
	if have.AckWait == want.AckWait && have.MaxDeliver == want.MaxDeliver && have.MaxAckPending == want.MaxAckPending &&
		len(have.BackOff) == 0 && have.InactiveThreshold == 0 && !have.HeadersOnly {
		return info, nil
	}
	next := have
	next.AckWait, next.MaxDeliver, next.MaxAckPending = want.AckWait, want.MaxDeliver, want.MaxAckPending
	next.BackOff, next.InactiveThreshold, next.HeadersOnly = nil, 0, false
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := stream.UpdateConsumer(ctx, next)
	if err != nil {
		return nil, fmt.Errorf("update consumer %s: %w", c.opt.Name, err)
	}
	return consumer.CachedInfo(), nil
}

// lost tells whether the stream has dropped messages above a floor, below which all were handled.
func lost(stream *jetstream.StreamInfo, floor uint64) string {
	first := stream.State.FirstSeq
	if floor+1 >= first {
		return ""
	}
	return fmt.Sprintf("messages %d to %d expired before they were handled", floor+1, first-1)
}
