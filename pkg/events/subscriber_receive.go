package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// lookEvery is how often a subscriber makes sure that the stream has not dropped what it has yet to receive.
const lookEvery = 2 * time.Second

// reception is one attachment to the stream, until it breaks.
type reception struct {
	s          *Subscriber
	consumer   jetstream.Consumer
	messages   jetstream.MessagesContext
	reconnects uint64 // when it was attached
	received   uint64 // messages from this consumer, which numbers them from 1
}

func (r *reception) run(ctx context.Context) error {
	looked := time.Now()
	for {
		m, err := r.messages.Next(jetstream.NextMaxWait(lookEvery / 2))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !r.s.nc.IsConnected():
			return errors.New("disconnected")
		case r.s.nc.Stats().Reconnects != r.reconnects:
			return errors.New("reconnected")
		case err == nil:
			err = r.take(m)
		case errors.Is(err, nats.ErrTimeout):
			err = nil
		}
		if err == nil && time.Since(looked) >= lookEvery {
			looked = time.Now()
			err = r.catchUp(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// take hands one message over. The consumer's own numbering shows what was lost on the way; the stream still has that.
func (r *reception) take(m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	if meta.Sequence.Consumer != r.received+1 {
		return errors.New("messages were lost on the way")
	}
	if err := r.s.deliver(meta.Sequence.Stream, m.Data()); err != nil {
		return err
	}
	r.received++
	r.s.next = meta.Sequence.Stream + 1
	return nil
}

// deliver returns an error only for what must be read again, by a newer program.
func (s *Subscriber) deliver(sequence uint64, body []byte) error {
	deliver := s.deliverEvent
	if s.opt.OnInvalidation != nil {
		deliver = s.deliverInvalidation
	}
	err := deliver(body)
	var newer *VersionError
	if errors.As(err, &newer) {
		return err
	}
	if err != nil {
		s.opt.OnGap(fmt.Sprintf("message %d cannot be read: %v", sequence, err))
	}
	return nil
}

func (s *Subscriber) deliverEvent(body []byte) error {
	e := new(Event)
	if err := Decode(body, e); err != nil {
		return err
	}
	if s.newEpoch(e.Source, e.Position.Epoch) || e.Kind == KindEpoch {
		s.opt.OnGap(fmt.Sprintf("epoch %d began: %s", e.Position.Epoch, e.Reason))
	}
	s.opt.OnEvent(e)
	return nil
}

func (s *Subscriber) deliverInvalidation(body []byte) error {
	i := new(Invalidation)
	if err := json.Unmarshal(body, i); err != nil {
		return fmt.Errorf("decode invalidation: %w", err)
	}
	if i.Version > Version {
		return &VersionError{Got: i.Version}
	}
	if s.newEpoch(i.Source, i.Epoch) {
		s.opt.OnGap(fmt.Sprintf("epoch %d began", i.Epoch))
	}
	s.opt.OnInvalidation(i)
	return nil
}

// newEpoch tells whether an epoch is newer than the newest known one of its source.
func (s *Subscriber) newEpoch(source string, epoch uint64) bool {
	known := s.epochs[source]
	s.epochs[source] = max(known, epoch)
	return known != 0 && epoch > known
}

// catchUp moves next past messages that are not for this subscriber, and returns an error if messages that may be for it
// have gone.
func (r *reception) catchUp(ctx context.Context) error {
	stream, err := r.s.look(ctx)
	if err != nil {
		return err
	}
	if r.s.missed(stream) != "" {
		return errors.New("the stream dropped messages that were not received")
	}
	ctx, cancel := context.WithTimeout(ctx, subscriberTimeout)
	defer cancel()
	info, err := r.consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("look at consumer: %w", err)
	}
	if info.NumPending == 0 && info.Delivered.Consumer == r.received {
		r.s.next = max(r.s.next, stream.State.LastSeq+1)
	}
	return nil
}
