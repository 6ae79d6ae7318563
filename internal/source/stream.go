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
	info, err := s.cfg.JetStream.Stream(ctx, stream.Changes)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s.relay.ForgetStream()
		return errStreamRecreated
	}
	if err != nil {
		return nil
	}
	if !info.CachedInfo().Created.Equal(created) {
		s.relay.ForgetStream()
		return errStreamRecreated
	}
	newest, doubt := s.relay.Acked()
	if last := info.CachedInfo().State.LastSeq; last < newest.Seq || s.lost(ctx, info, doubt) {
		s.relay.ForgetStream()
		return fmt.Errorf("%w: its last sequence is %d, and %d was acked", errStreamTruncated, last, max(newest.Seq, doubt.Seq))
	}
	return nil
}

// lost looks for a message that was acked and is in doubt.
func (s *Source) lost(ctx context.Context, in jetstream.Stream, doubt stream.Receipt) bool {
	if doubt.Seq == 0 {
		return false
	}
	m, err := in.GetMsg(ctx, doubt.Seq)
	return err != nil || m.Header.Get(jetstream.MsgIDHeader) != doubt.ID
}
