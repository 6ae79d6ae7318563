package events

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// subscriberTimeout bounds one question to the server; one that may not be asked is never answered.
const subscriberTimeout = 5 * time.Second

// attach makes a consumer that begins at the next message, and reports a gap if that is gone. The stream is looked at
// after the consumer exists, so nothing can expire unseen between.
func (s *Subscriber) attach(ctx context.Context) (jetstream.Consumer, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	consumer, err := s.consumer(ctx)
	if err != nil {
		return nil, err
	}
	info, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	if reason := s.missed(info); reason != "" {
		s.opt.OnGap(reason)
		s.created, s.next = info.Created, max(info.State.FirstSeq, 1)
		return s.consumer(ctx)
	}
	s.created = info.Created
	return consumer, nil
}

// begin decides, once, where to begin.
func (s *Subscriber) begin(ctx context.Context) error {
	if s.next != 0 || !s.opt.FromTime.IsZero() {
		return nil
	}
	info, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.created, s.next = info.Created, info.State.LastSeq+1
	return nil
}

func (s *Subscriber) consumer(ctx context.Context) (jetstream.Consumer, error) {
	config := jetstream.ConsumerConfig{
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: time.Minute,
	}
	if s.next != 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, s.next
	} else {
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &s.opt.FromTime
	}
	if len(s.filters) == 1 {
		config.FilterSubject = s.filters[0] // stands in the request's subject, so that it can be permitted
	} else {
		config.FilterSubjects = s.filters
	}
	ctx, cancel := context.WithTimeout(ctx, subscriberTimeout)
	defer cancel()
	c, err := s.js.CreateConsumer(ctx, s.stream, config)
	if err != nil {
		return nil, fmt.Errorf("create consumer on %s: %w", s.stream, err)
	}
	return c, nil
}

func (s *Subscriber) look(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, subscriberTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, s.stream)
	if err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", s.stream, err)
	}
	return stream.CachedInfo(), nil
}

// missed returns why messages may have been missed, or nothing where the stream proves that none were.
func (s *Subscriber) missed(info *jetstream.StreamInfo) string {
	state := info.State
	switch {
	case !s.created.IsZero() && !s.created.Equal(info.Created):
		return "the stream was created anew"
	case s.next == 0 && state.FirstSeq > 1 && (state.Msgs == 0 || state.FirstTime.After(s.opt.FromTime)):
		return "the stream does not reach back to the time to begin at"
	case s.next == 0:
		return ""
	case state.FirstSeq > s.next:
		return fmt.Sprintf("messages %d to %d are gone", s.next, state.FirstSeq-1)
	case state.LastSeq+1 < s.next:
		return "the stream lost its end"
	}
	return ""
}
