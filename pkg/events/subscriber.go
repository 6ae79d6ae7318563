package events

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// SubscriberOptions is what a [Subscriber] receives. Exactly one of OnEvent and OnInvalidation is set.
//
// All callbacks come from the goroutine of [Subscriber.Run], one at a time. They may take their time: what they have not
// taken waits in the stream, for as long as the stream keeps it.
type SubscriberOptions struct {
	// OnEvent receives the changes of Source, in the order of the stream, each perhaps more than once. The event is the
	// callback's to keep.
	OnEvent func(*Event)
	Source  string
	Tables  []Table // only these; none stands for all

	// OnInvalidation receives what was removed from Cache, after it was. The invalidation is the callback's to keep.
	OnInvalidation func(*Invalidation)
	Cache          string
	Tenants        []string // only these, and what concerns all tenants; none stands for all

	// OnGap says, before anything newer arrives, that messages may have been missed: whatever the application derived
	// from earlier ones, a cache above all, may be wrong now and is to be cleared.
	OnGap func(reason string)
	// OnState, if set, tells whether messages can arrive. While they cannot, what was derived from them grows stale.
	OnState func(live bool, reason string)

	// Where to begin: at FromSequence if that is not 0, else at FromTime if that is not zero, else at what is published
	// after [Subscriber.Run] has reported that it is live.
	FromSequence uint64
	FromTime     time.Time
}

// Subscriber receives changes or invalidations. It keeps no state on the server that outlives it by more than a minute.
type Subscriber struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	opt     SubscriberOptions
	stream  string
	filters []string

	created time.Time         // when the stream was created that next belongs to
	next    uint64            // everything before it was received; 0: not known yet
	epochs  map[string]uint64 // the newest known, by source
}

// NewSubscriber checks the options. The connection stays the caller's.
func NewSubscriber(nc *nats.Conn, opt SubscriberOptions) (*Subscriber, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("use jetstream: %w", err)
	}
	s := &Subscriber{nc: nc, js: js, opt: opt, next: opt.FromSequence, epochs: map[string]uint64{}}
	switch {
	case (opt.OnEvent == nil) == (opt.OnInvalidation == nil):
		return nil, errors.New("subscribe: want exactly one of OnEvent and OnInvalidation")
	case opt.OnGap == nil:
		return nil, errors.New("subscribe: want OnGap: without it missed messages would go unnoticed")
	case opt.OnEvent != nil && opt.Source == "":
		return nil, errors.New("subscribe: want the source of the changes")
	case opt.OnInvalidation != nil && opt.Cache == "":
		return nil, errors.New("subscribe: want the cache of the invalidations")
	case opt.OnEvent != nil:
		s.stream, s.filters = "CHANGES", changesFilters(opt.Source, opt.Tables)
	default:
		s.stream, s.filters = "INVALIDATIONS", invalidationsFilters(opt.Cache, opt.Tenants)
	}
	if opt.OnState == nil {
		s.opt.OnState = func(bool, string) {}
	}
	return s, nil
}

func changesFilters(source string, tables []Table) []string {
	if len(tables) == 0 {
		return []string{subject("changes", source) + ".>"}
	}
	filters := []string{SourceSubject(source)}
	for _, t := range tables {
		filters = append(filters, ChangesSubject(source, t))
	}
	return filters
}

func invalidationsFilters(cache string, tenants []string) []string {
	if len(tenants) == 0 {
		return []string{subject("invalidations", cache) + ".>"}
	}
	filters := []string{GlobalInvalidationSubject(cache)}
	for _, tenant := range tenants {
		filters = append(filters, InvalidationSubject(cache, tenant))
	}
	return filters
}

// Run receives until ctx ends, and returns its error. It goes on whatever happens to the connection and the server, and
// calls OnGap where it cannot prove that it missed nothing. It may be called once.
func (s *Subscriber) Run(ctx context.Context) error {
	const first, most = 100 * time.Millisecond, 5 * time.Second
	wait := first
	for ctx.Err() == nil {
		live, err := s.attend(ctx)
		if ctx.Err() != nil {
			break
		}
		s.opt.OnState(false, err.Error())
		if live {
			wait = first
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, most)
	}
	return ctx.Err()
}

// attend receives until something breaks, and reports what, and whether messages could arrive.
func (s *Subscriber) attend(ctx context.Context) (live bool, err error) {
	reconnects := s.nc.Stats().Reconnects
	c, err := s.attach(ctx)
	if err != nil {
		return false, err
	}
	messages, err := c.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(500, max(4<<20, int(s.nc.MaxPayload())+64<<10)),
		jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(2*time.Second))
	if err != nil {
		return false, fmt.Errorf("pull messages: %w", err)
	}
	defer messages.Stop()
	s.opt.OnState(true, "")
	r := reception{s: s, consumer: c, messages: messages, reconnects: reconnects}
	return true, r.run(ctx)
}
