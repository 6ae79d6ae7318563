package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walfence/walfence/pkg/events"
)

// Stored is one message as a stream holds it.
type Stored struct {
	Subject  string
	Sequence uint64
	Time     time.Time // when it was stored
	Header   nats.Header
	Body     []byte
}

// Last returns the newest message of a source on CHANGES, and false if there is none. It comes from the stream's leader: a
// replica, which a direct get may ask, can lag behind what was acknowledged.
func Last(ctx context.Context, js jetstream.JetStream, source string) (*Stored, bool, error) {
	m, err := last(ctx, js, Changes, sourceSubjects(source))
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("get last message of source %s: %w", source, err)
	}
	return m, true, nil
}

func sourceSubjects(source string) string {
	return string(append(events.AppendSubjectPart([]byte("changes."), source), ".>"...))
}

func last(ctx context.Context, js jetstream.JetStream, stream, subject string) (*Stored, error) {
	request, err := json.Marshal(struct {
		Subject string `json:"last_by_subj"`
	}{subject})
	if err != nil {
		return nil, err
	}
	reply, err := js.Conn().RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.MSG.GET."+stream, request)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Body     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	m := answer.Message
	stored := &Stored{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Body: m.Body}
	if len(m.Header) > 0 {
		if stored.Header, err = nats.DecodeHeadersMsg(m.Header); err != nil {
			return nil, err
		}
	}
	return stored, nil
}
