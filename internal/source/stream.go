package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walfence/walfence/internal/stream"
)

var (
	// errStreamRecreated ends a session whose stream is gone, or another one by now.
	errStreamRecreated = errors.New("the stream CHANGES is not the one that was published to")
	// errStreamTruncated ends a session whose stream lacks what it had acked.
	errStreamTruncated = errors.New("the stream CHANGES lost messages that it had acked")
)

// checkStream sees whether the stream still holds what it acked to this program. That it cannot be asked is no proof of
// anything, and no reason to stop reading.
func (s *Source) checkStream(ctx context.Context, created time.Time) error {
	newest, doubt := s.relay.Acked() // before the stream is asked, which goes on growing
	in, err := s.cfg.JetStream.Stream(ctx, stream.Changes)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s.relay.ForgetStream()
		return errStreamRecreated
	}
	if err != nil {
		return nil
	}
	info := in.CachedInfo()
	if !info.Created.Equal(created) {
		s.relay.ForgetStream()
		return errStreamRecreated
	}
	lost, err := s.lost(ctx, in, doubt)
	if err != nil {
		return nil
	}
	s.relay.Settle(doubt)
	if info.State.LastSeq < newest.Seq || lost {
		s.relay.ForgetStream()
		return fmt.Errorf("%w: its last sequence is %d, and %d was acked", errStreamTruncated, info.State.LastSeq, max(newest.Seq, doubt.Seq))
	}
	return nil
}

// lost looks for a message that was acked and is in doubt. An error is a stream that cannot be asked.
func (s *Source) lost(ctx context.Context, in jetstream.Stream, doubt stream.Receipt) (bool, error) {
	if doubt.Seq == 0 {
		return false, nil
	}
	m, err := in.GetMsg(ctx, doubt.Seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return m.Header.Get(jetstream.MsgIDHeader) != doubt.ID, nil
}
