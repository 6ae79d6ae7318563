// Package relay turns transactions into events on JetStream.
//
// Its promise: PostgreSQL is told to forget only what is in the stream, and every event's header says how far that is. A
// transaction streams through in constant memory, whatever its size.
package relay

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/gate"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/pkg/events"
)

// Config is what does not change from one session to the next.
type Config struct {
	Source string // the rules' name of the database
	Budget int64  // bytes that may be read and not be in the stream yet
	// Trail is how long an ack takes to be on disk: confirms wait for it.
	Trail   time.Duration
	Log     *zap.Logger
	Metrics prometheus.Registerer
}

// Relay publishes the events of one source, session after session. Its methods are safe for concurrent use.
type Relay struct {
	cfg       Config
	publisher *stream.Publisher
	budget    *budget
	metrics   *Metrics
	session   atomic.Pointer[Session]
}

// New starts a relay that publishes over nc. [Relay.Close] ends it.
func New(nc *nats.Conn, cfg Config) (*Relay, error) {
	r := &Relay{cfg: cfg, budget: newBudget(cfg.Budget)}
	r.metrics = newMetrics(cfg.Metrics, r)
	p, err := stream.NewPublisher(nc, stream.PublisherOptions{
		Header: events.HeaderContinuity, Stamp: r.stamp, Log: cfg.Log, Retried: r.metrics.retries.Inc,
	})
	if err != nil {
		return nil, err
	}
	r.publisher = p
	return r, nil
}

// Close stops publishing. What is not in the stream was not confirmed, and is read again.
func (r *Relay) Close() { r.publisher.Close() }

// Acked returns the newest message that the stream has acked, and one that it acked and may have lost since, or none.
func (r *Relay) Acked() (newest, doubt stream.Receipt) {
	return r.publisher.Newest(), r.publisher.Doubt()
}

// Settle ends a doubt that was looked into.
func (r *Relay) Settle(doubt stream.Receipt) { r.publisher.Settle(doubt) }

// ForgetStream forgets what was acked: the stream is another one, or has lost its tail.
func (r *Relay) ForgetStream() { r.publisher.Forget() }

// stamp gives the continuity header of the message that is sent now, and the floor that stands in it.
func (r *Relay) stamp() (string, uint64) {
	s := r.session.Load()
	c := events.Continuity{}
	c.Floor, c.Published = s.ledger.state()
	buf := make([]byte, 0, 320)
	buf = append(buf, *s.prefix.Load()...)
	return string(c.AppendProgress(buf)), uint64(c.Floor)
}

// Finish waits until what earlier sessions sent is in the stream. What is sent later bears the next session's header, and would
// prove continuity to whoever reads it before the epoch that the next session may have to announce.
func (r *Relay) Finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	if err := r.publisher.Flush(ctx); err != nil {
		return fmt.Errorf("publish what was read before: %w", err)
	}
	return nil
}

const finishTimeout = 10 * time.Second

// Session is one connection's reading. It is the connection's wal.Handler.
type Session struct {
	assembler
	relay  *Relay
	ledger *ledger
	origin atomic.Pointer[events.Continuity] // what the header says of the source; floor and published are the ledger's
	prefix atomic.Pointer[[]byte]            // the same as text
	beaten atomic.Uint64                     // the floor of the last heartbeat
	waits  atomic.Pointer[gate.Gate]         // for the status
	// expecting: nothing may be published until the newest published transaction has reappeared.
	expecting atomic.Bool
}

// Begin starts a session. Origin is the source as it is now; its floor and newest published transaction are where reading
// goes on. If a transaction is to be expected, nothing is published of what is read before it. The session before must have
// ended.
func (r *Relay) Begin(origin events.Continuity, expect *events.Transaction, tables Tables) *Session {
	s := &Session{relay: r, ledger: newLedger(origin.Floor, origin.Published)}
	s.describe(origin)
	c := &confirmer{trail: r.cfg.Trail}
	s.assembler = assembler{
		cfg: assemblerConfig{
			source: r.cfg.Source, slot: origin.Slot, system: origin.System, line: origin.Timeline, epoch: origin.Epoch,
			ledger: s.ledger, out: newOutlet(r.publisher, c, r.budget), tables: tables,
			confirm: func() events.LSN { return c.confirm(time.Now()) }, metrics: r.metrics, log: r.cfg.Log,
		},
		plans: map[uint32]*plan{}, known: origin, expect: expect,
	}
	s.expecting.Store(expect != nil)
	s.cfg.recognised = func() { s.expecting.Store(false) }
	r.session.Store(s)
	return s
}

// Admit makes transactions wait at g until they are visible. It comes before the first message.
func (s *Session) Admit(g *gate.Gate) {
	s.cfg.gate = g
	s.waits.Store(g)
}

// Abandon gives up what is not visible yet: the next session reads it again. The gate and the reading must have ended.
func (s *Session) Abandon() { s.cfg.out.abandon() }

func (s *Session) describe(origin events.Continuity) {
	s.origin.Store(&origin)
	prefix := origin.AppendSource(nil)
	s.prefix.Store(&prefix)
}

// Origin returns what the header says of the source.
func (s *Session) Origin() events.Continuity { return *s.origin.Load() }

// Settling sets whether the header tells that a second sweep is owed.
func (s *Session) Settling(owed bool) {
	origin := *s.origin.Load()
	origin.Settling = owed
	s.describe(origin)
}

// Announce publishes an event that belongs to no transaction, an epoch or a sweep, and waits until it and all before it
// are in the stream.
func (s *Session) Announce(ctx context.Context, e events.Event) error {
	s.send(e)
	if err := s.relay.publisher.Flush(ctx); err != nil {
		return fmt.Errorf("publish %s: %w", e.Kind, err)
	}
	return nil
}

func (s *Session) send(e events.Event) {
	floor, _ := s.ledger.state()
	origin := s.origin.Load()
	e.Source, e.Time = s.relay.cfg.Source, now()
	e.Position = events.Position{Epoch: origin.Epoch, LSN: floor}
	h := held{subject: events.SourceSubject(e.Source), body: e.AppendBody(nil)}
	if e.Table != (events.Table{}) {
		h.subject = events.ChangesSubject(e.Source, e.Table)
	}
	s.cfg.out.send(nil, h.subject, s.messageID(e.Position, &h), h.body, nil)
}

// Expecting reports whether the newest published transaction has yet to reappear, and so nothing may be published.
func (s *Session) Expecting() bool { return s.expecting.Load() }

// Beat publishes the floor, if it has moved and no event has carried it.
func (s *Session) Beat() {
	floor, _ := s.ledger.state()
	if s.Expecting() || floor <= s.cfg.out.confirmer.acked() || uint64(floor) <= s.beaten.Load() {
		return
	}
	if n, _, _, _ := s.relay.publisher.Queued(); n > 0 {
		return // these carry it, or the one after them will
	}
	s.beaten.Store(uint64(floor))
	s.send(events.Event{Kind: events.KindHeartbeat})
}

// Drain is part of wal.Handler: what is visible is published, and then the floor. What is not visible is read again.
func (s *Session) Drain() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		if s.relay.publisher.Flush(ctx) != nil {
			return // what is not in the stream is not confirmed
		}
		s.Beat()
		_ = s.relay.publisher.Flush(ctx)
	}()
	return done
}

const drainTimeout = 8 * time.Second
