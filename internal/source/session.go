package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/gate"
	"github.com/walfence/walfence/internal/relay"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/wal"
	"github.com/walfence/walfence/pkg/events"
)

// session connects, proves continuity, and streams until ctx ends or something fails.
func (s *Source) session(ctx context.Context) error {
	created, err := s.cfg.Ensure(ctx)
	if err != nil {
		return err
	}
	if err := s.relay.Finish(ctx); err != nil {
		return err
	}
	var c connections
	defer c.close()
	if c.admin, err = Connect(ctx, s.cfg.URL); err != nil {
		return err
	}
	if err := gate.CheckStandbyNames(ctx, c.admin.PgConn()); err != nil {
		return err
	}
	prep, server, err := s.meet(ctx, &c)
	if err != nil {
		return err
	}
	slotCreated, err := s.ensureSlot(ctx, &c, prep)
	if err != nil {
		return err
	}
	// From here on nobody else reads: only who has the slot may judge and publish.
	if err := c.wal.Start(ctx); err != nil {
		return err
	}
	if prep.slot, err = s.readSlot(ctx, c.admin); err != nil {
		return err
	}
	if err := s.checkStream(ctx, created); err != nil {
		return err
	}
	last, err := s.last(ctx)
	if err != nil {
		return err
	}
	found := relay.Found{
		System: server.System, Timeline: server.Timeline, SlotCreated: slotCreated, Confirmed: prep.slot.ConfirmedFlush,
		Publication: prep.fingerprint, Stream: created, TrustCrash: s.cfg.TrustCrash, Broken: s.broken,
	}
	if found.WALEnd, found.StatsReset, err = history(ctx, c.admin); err != nil {
		return err
	}
	session, debt, err := s.begin(ctx, &c, prep, last, found)
	if err != nil {
		return err
	}
	s.broken = ""
	return s.stream(ctx, &c, prep, server, session, debt)
}

// meet readies the database and makes all connections, within a time in which a database that answers can.
func (s *Source) meet(ctx context.Context, c *connections) (*prepared, gate.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	prep, err := s.prepare(ctx, c.admin)
	if err != nil {
		return nil, gate.Server{}, err
	}
	server, err := s.open(ctx, c)
	return prep, server, err
}

const meetTimeout = time.Minute

// open makes the other two connections and sees that all lead to one server.
func (s *Source) open(ctx context.Context, c *connections) (server gate.Server, err error) {
	c.wal, err = wal.Connect(ctx, wal.Config{URL: s.cfg.URL, Slot: s.cfg.Slot, Publication: s.cfg.Publication})
	if err != nil {
		return server, err
	}
	if c.gate, err = Connect(ctx, s.cfg.URL); err != nil {
		return server, err
	}
	server = c.wal.Server()
	for _, conn := range []*pgx.Conn{c.gate, c.admin} {
		other, err := identify(ctx, conn)
		if err != nil {
			return server, err
		}
		if other != server {
			return server, errors.New("connections lead to different servers: give DATABASE_URL a direct address, without a pooler or balancer")
		}
	}
	return server, nil
}

// ensureSlot creates the slot where there is none, or where PostgreSQL has given it up.
func (s *Source) ensureSlot(ctx context.Context, c *connections, prep *prepared) (created bool, err error) {
	if prep.slot != nil && !prep.slot.Lost() {
		return false, nil
	}
	if !s.cfg.Setup {
		return false, permanent(MissingSQL([]string{catalog.CreateSlotSQL(s.cfg.Slot, 0)}))
	}
	if prep.slot != nil {
		s.cfg.Log.Error("the slot was lost: it fell behind more than max_slot_wal_keep_size allows", zap.String("slot", s.cfg.Slot))
		if err := catalog.DropSlot(ctx, c.admin, s.cfg.Slot, false); err != nil {
			return false, err
		}
	}
	s.cfg.Log.Info("creating the slot; this waits for running transactions to end", zap.String("slot", s.cfg.Slot))
	if err := c.wal.CreateSlot(ctx); err != nil {
		return false, err
	}
	return true, nil
}

func (s *Source) readSlot(ctx context.Context, conn *pgx.Conn) (*catalog.Slot, error) {
	slot, err := catalog.ReadSlot(ctx, conn, s.cfg.Slot)
	if err == nil && slot == nil {
		err = fmt.Errorf("slot %s vanished", s.cfg.Slot)
	}
	return slot, err
}

// last reads what the stream knows of this source.
func (s *Source) last(ctx context.Context) (*events.Continuity, error) {
	// The answer is lost where the connection to NATS is.
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	stored, ok, err := stream.Last(ctx, s.cfg.JetStream, s.cfg.Program.Source())
	if err != nil || !ok {
		return nil, err
	}
	c, err := events.ParseContinuity(stored.Header.Get(events.HeaderContinuity))
	if err != nil {
		return nil, permanent(fmt.Errorf("read the last message of source %s: %w", s.cfg.Program.Source(), err))
	}
	return &c, nil
}

// history asks where WAL ends, and when the statistics were reset.
func history(ctx context.Context, conn *pgx.Conn) (end events.LSN, reset time.Time, err error) {
	var text string
	var at *time.Time
	err = conn.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text, stats_reset FROM pg_stat_bgwriter").Scan(&text, &at)
	if err != nil {
		return 0, reset, fmt.Errorf("read WAL position: %w", err)
	}
	if at != nil {
		reset = at.UTC()
	}
	end, err = events.ParseLSN(text)
	return end, reset, err
}

// begin starts the relay's session: in the known epoch if continuity is proved, else in a new one.
func (s *Source) begin(ctx context.Context, c *connections, prep *prepared, last *events.Continuity, found relay.Found) (*relay.Session, debt, error) {
	fingerprint, err := catalog.Fingerprint(ctx, c.admin, s.cfg.Publication)
	if err != nil {
		return nil, debt{}, err
	}
	tables, err := newDirectory(ctx, s.cfg.URL, c.admin, prep.tables, s.cfg.Program.Tables(), prep.plan.Ours)
	if err != nil {
		return nil, debt{}, err
	}
	// After the slot and the publication are what they are, and before anything is swept: what is visible in it, the first
	// sweep covers.
	flight, err := snapshot(ctx, c.admin)
	if err != nil {
		return nil, debt{}, err
	}
	origin := events.Continuity{
		System: found.System, Timeline: found.Timeline, Slot: s.cfg.Slot, Publication: fingerprint, Stream: found.Stream,
		StatsReset: found.StatsReset,
	}
	reason := relay.Judge(last, found)
	if reason == "" {
		expect := relay.Expect(last, found.Confirmed)
		if expect != nil && *expect == s.recognised {
			expect = nil
		}
		return s.resume(ctx, origin, last, expect, tables, prep.plan.Added, flight)
	}
	owed := newDebt(flight, everything)
	origin.Epoch, origin.Floor, origin.Settling = relay.NextEpoch(last, time.Now()), found.Confirmed, owed.tables != nil
	session := s.relay.Begin(origin, nil, tables)
	return session, owed, s.announceEpoch(ctx, session, reason)
}

func (s *Source) announceEpoch(ctx context.Context, session *relay.Session, reason string) error {
	s.metrics.epochs.WithLabelValues(reason).Inc()
	if reason == relay.ReasonFirstStart && s.cfg.Trust {
		s.cfg.Log.Warn("the first epoch begins; what caches hold is trusted", zap.String("reason", reason))
		return session.Announce(ctx, events.Event{Kind: events.KindHeartbeat})
	}
	s.cfg.Log.Warn("a new epoch begins: everything cached before it is invalid", zap.String("reason", reason))
	return session.Announce(ctx, events.Event{Kind: events.KindEpoch, Reason: reason})
}

// resume goes on in the known epoch. Tables that were added to the publication are swept: nothing was streamed of them.
func (s *Source) resume(ctx context.Context, origin events.Continuity, last *events.Continuity, expect *events.Transaction, tables relay.Tables, added []events.Table, flight gate.Snapshot) (*relay.Session, debt, error) {
	owed := newDebt(flight, added)
	if last.Settling {
		owed.tables = everything
	}
	origin.Epoch, origin.Floor, origin.Published = last.Epoch, last.Floor, last.Published
	// Until all are swept: whoever takes over in between would know the new publication, and not what it still owes.
	origin.Settling = len(added) > 0 || owed.tables != nil
	session := s.relay.Begin(origin, expect, tables)
	s.expect = expect
	s.cfg.Log.Info("continuity is proved", zap.Stringer("lsn", origin.Floor), zap.Bool("reread", expect != nil))
	for _, t := range added {
		if err := session.Announce(ctx, events.Event{Kind: events.KindSweep, Table: t, Reason: "table_added"}); err != nil {
			return nil, debt{}, err
		}
	}
	session.Settling(owed.tables != nil)
	return session, owed, nil
}

// stream runs everything that a session consists of until one part ends.
func (s *Source) stream(ctx context.Context, c *connections, prep *prepared, server gate.Server, session *relay.Session, owed debt) error {
	primary, err := gate.NewPrimary(ctx, c.gate.PgConn(), server, c.wal.PID())
	if err != nil {
		return err
	}
	g, err := gate.New(ctx, primary.Snapshot)
	if err != nil {
		return err
	}
	session.Admit(g)
	defer session.Abandon()
	s.recognised = events.Transaction{} // it served for this session
	// The parts outlive ctx: draining needs them all. They end with the reading, or when one of them fails.
	group, parts := errgroup.WithContext(context.WithoutCancel(ctx))
	parts, stop := context.WithCancel(parts)
	group.Go(func() error { return g.Run(parts) })
	group.Go(func() error { return s.tend(parts, c, session, owed) })
	group.Go(func() error {
		defer stop()
		reading, cancel := merge(ctx, parts)
		defer cancel()
		return c.wal.Stream(reading, prep.slot.ConfirmedFlush, session)
	})
	s.started = true
	s.cfg.Ready(true, "")
	s.metrics.sessions.WithLabelValues("began").Inc()
	s.cfg.Log.Info("streaming", zap.String("slot", s.cfg.Slot), zap.String("publication", s.cfg.Publication),
		zap.Stringer("lsn", prep.slot.ConfirmedFlush))
	return group.Wait()
}

// merge returns a context that ends with either.
func merge(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(a)
	unhook := context.AfterFunc(b, cancel)
	return ctx, func() { unhook(); cancel() }
}
