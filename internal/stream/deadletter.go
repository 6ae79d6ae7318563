package stream

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walfence/walfence/pkg/events"
)

// Headers of a dead letter, beside the original message's own.
const (
	HeaderCause    = "Walfence-Cause"
	HeaderRule     = "Walfence-Rule"
	HeaderSubject  = "Walfence-Subject"  // the original message's
	HeaderSequence = "Walfence-Sequence" // in CHANGES
)

// DeadLetter stores a copy of a message that could not be handled exactly, and returns once it is stored. An empty rule
// stands for all of them. A message that is handed over again is stored once.
func DeadLetter(ctx context.Context, js jetstream.JetStream, m *nats.Msg, source, rule, cause string) error {
	letter := nats.NewMsg(events.DeadLetterSubject(source, rule))
	for name, values := range m.Header {
		if name != jetstream.MsgIDHeader {
			letter.Header[name] = values
		}
	}
	letter.Header.Set(HeaderCause, cause)
	letter.Header.Set(HeaderRule, rule)
	letter.Header.Set(HeaderSubject, m.Subject)
	letter.Data = m.Data
	if meta, err := m.Metadata(); err == nil {
		sequence := strconv.FormatUint(meta.Sequence.Stream, 10)
		letter.Header.Set(HeaderSequence, sequence)
		letter.Header.Set(jetstream.MsgIDHeader, rule+"."+sequence+"."+strconv.FormatInt(meta.Timestamp.UnixNano(), 36))
	}
	if _, err := js.PublishMsg(ctx, letter); err != nil {
		return fmt.Errorf("store dead letter: %w", err)
	}
	return nil
}
