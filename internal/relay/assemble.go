package relay

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/gate"
	"github.com/walfence/walfence/internal/pgoutput"
	"github.com/walfence/walfence/pkg/events"
)

// An event carries up to so many rows or, once it has so many bytes, no further row. One whose rows are larger still than
// what the stream takes becomes a sweep of its table.
const (
	eventRows  = 256
	eventBytes = 64 << 10
	eventLimit = 512 << 10
	// Buffers for so many tables of one transaction are open at once; then the oldest is published.
	openEvents = 32
)

// HeartbeatPrefix marks the logical messages that cdc itself emits. Their content is the slot's name.
const HeartbeatPrefix = "walfence"

// assembler turns what the connection reads into events, and lets them through when they are visible. It serves the
// goroutine that reads.
type assembler struct {
	cfg     assemblerConfig
	decoder pgoutput.Decoder
	plans   map[uint32]*plan
	tx      transaction
	open    []*plan // with an open event, oldest first
	// known is where the session began: what committed before floor is in the stream, and published is the newest of all.
	known events.Continuity
	// expect must reappear before anything is published; nil if it has, or need not.
	expect *events.Transaction
}

type assemblerConfig struct {
	source  string
	slot    string
	system  uint64
	line    uint32 // timeline
	epoch   uint64
	gate    *gate.Gate
	ledger  *ledger
	out     *outlet
	tables  Tables
	confirm func() events.LSN
	// recognised is called when what was expected has reappeared.
	recognised func()
	metrics    *Metrics
	log        *zap.Logger
}

// transaction is the one that is being read.
type transaction struct {
	inside  bool
	id      events.Transaction
	number  uint64 // in the ledger
	ordinal uint64 // of the next change
	aside   *aside // where its events wait; nil if it was visible when it began
	held    held   // its newest event, which may be its last
	swept   bool   // it has swept everything
	// muted: it is in the stream already, or nothing may be published yet.
	muted   bool
	changed bool // muted, and it has changes of watched tables
}

// held is a finished event that waits to know whether it is the transaction's last one.
type held struct {
	subject string
	body    []byte
	ordinal uint64
}

// Keepalive is part of wal.Handler.
func (a *assembler) Keepalive(upTo events.LSN) {
	if !a.tx.inside && a.expect == nil {
		a.cfg.ledger.keepalive(upTo)
	}
}

// Room is part of wal.Handler.
func (a *assembler) Room() <-chan struct{} {
	if n, _ := a.cfg.ledger.pending(); n >= openAccounts {
		return a.cfg.out.budget.freed
	}
	return a.cfg.out.budget.room()
}

// Confirm is part of wal.Handler.
func (a *assembler) Confirm() events.LSN { return a.cfg.confirm() }

// Message is part of wal.Handler.
func (a *assembler) Message(data []byte) error {
	kind, err := a.decoder.Decode(data)
	if err != nil {
		return a.undecodable(kind, err)
	}
	switch kind {
	case pgoutput.KindInsert, pgoutput.KindUpdate, pgoutput.KindDelete, pgoutput.KindTruncate:
		if !a.tx.inside {
			return fmt.Errorf("the stream cannot be followed: %s outside a transaction", kind)
		}
	case pgoutput.KindBegin:
		if a.tx.inside {
			return fmt.Errorf("the stream cannot be followed: begin within the transaction of %s", a.tx.id.LSN)
		}
	}
	switch kind {
	case pgoutput.KindInsert:
		a.row(events.Insert)
	case pgoutput.KindUpdate:
		a.row(events.Update)
	case pgoutput.KindDelete:
		a.row(events.Delete)
	case pgoutput.KindBegin:
		return a.begin(&a.decoder.Begin)
	case pgoutput.KindCommit:
		return a.commit(&a.decoder.Commit)
	case pgoutput.KindRelation:
		a.relation(&a.decoder.Relation)
	case pgoutput.KindTruncate:
		a.truncate(&a.decoder.Truncate)
	case pgoutput.KindMessage:
		a.message(&a.decoder.Message)
	}
	return nil // a type's name and an origin change nothing
}

// undecodable widens: what the message said is unknown, so anything may have changed.
func (a *assembler) undecodable(kind pgoutput.Kind, err error) error {
	if !a.tx.inside || kind == pgoutput.KindCommit {
		return fmt.Errorf("the stream cannot be followed: %w", err)
	}
	if kind == pgoutput.KindRelation { // of which table is unknown, and no row may be read by an old layout
		for len(a.open) > 0 {
			a.finish(a.open[0])
		}
		clear(a.plans)
	}
	a.widen("undecodable", err)
	return nil
}

// widen sweeps everything, once for a transaction: it becomes visible as a whole.
func (a *assembler) widen(reason string, err error) {
	a.cfg.metrics.widened.WithLabelValues(reason).Inc()
	if a.tx.swept || a.tx.muted {
		return
	}
	a.tx.swept = true
	a.cfg.log.Error("a change cannot be read exactly, sweeping everything", zap.String("reason", reason), zap.Error(err),
		zap.Stringer("lsn", a.tx.id.LSN))
	a.special(events.Event{Kind: events.KindSweep, Reason: reason})
}

func (a *assembler) begin(b *pgoutput.Begin) error {
	id := events.Transaction{LSN: b.FinalLSN, XID: a.cfg.gate.Widen(b.XID), Time: b.CommitTime}
	a.tx = transaction{inside: true, id: id, number: a.cfg.ledger.open(id)}
	a.cfg.metrics.transactions.Inc()
	a.tx.muted = id.LSN < a.known.Floor || a.expect != nil
	if a.expect != nil {
		return a.recognise(id)
	}
	if !a.tx.muted {
		a.tx.aside = a.cfg.out.admit(a.cfg.gate, id.XID)
	}
	return nil
}

// recognise compares a transaction with the one that must reappear.
func (a *assembler) recognise(id events.Transaction) error {
	switch {
	case id.LSN < a.expect.LSN:
		return nil
	case id.LSN > a.expect.LSN || id.XID != a.expect.XID || !id.Time.Equal(a.expect.Time):
		return fmt.Errorf("%w (at %s xid %d of %s instead of %s xid %d of %s)", ErrRewound, id.LSN, id.XID, id.Time, a.expect.LSN,
			a.expect.XID, a.expect.Time)
	case id.LSN >= a.known.Floor:
		return ErrReread
	}
	a.cfg.log.Info("the newest published transaction was recognised", zap.Stringer("lsn", id.LSN), zap.Uint64("xid", id.XID))
	a.expect = nil
	a.cfg.recognised()
	return nil
}

func (a *assembler) commit(c *pgoutput.Commit) error {
	if !a.tx.inside || c.LSN != a.tx.id.LSN {
		return fmt.Errorf("the stream cannot be followed: commit at %s within the transaction of %s", c.LSN, a.tx.id.LSN)
	}
	// All that changed before the floor was published, and is no newer than the newest that was.
	if a.tx.changed && a.expect == nil && c.LSN < a.known.Floor && c.LSN > a.known.Published.LSN {
		return fmt.Errorf("%w (a transaction at %s that was never published)", ErrRewound, c.LSN)
	}
	for len(a.open) > 0 {
		a.finish(a.open[0])
	}
	if a.tx.held.body != nil {
		a.tx.held.body = events.AppendEnd(a.tx.held.body, c.EndLSN)
		a.publish()
	}
	a.cfg.ledger.close(a.tx.number, c.EndLSN)
	a.tx.inside = false
	return nil
}

// relation learns what a table looks like. Rows that were read by its old layout are finished first.
func (a *assembler) relation(r *pgoutput.Relation) {
	if old := a.plans[r.ID]; old != nil && old.open {
		a.finish(old)
	}
	delete(a.plans, r.ID)
	w, ok, err := a.cfg.tables.Find(r.ID, events.Table{Schema: r.Namespace, Name: r.Name})
	if err != nil { // whatever comes for it sweeps
		a.cfg.log.Error("a relation cannot be looked up", zap.String("relation", r.Namespace+"."+r.Name), zap.Error(err))
		return
	}
	if !ok {
		a.plans[r.ID] = &plan{}
		return
	}
	a.plans[r.ID] = newPlan(a.cfg.source, r, w)
}

func (a *assembler) row(op events.Op) {
	row := &a.decoder.Row
	a.cfg.metrics.changes.Inc()
	p := a.plans[row.Relation]
	switch {
	case p == nil:
		a.unknown(row.Relation)
		return
	case !p.watched:
		return
	case a.tx.muted:
		a.tx.changed = true
		return
	case !p.fits(op, row):
		a.widen("layout", fmt.Errorf("a row of relation %d does not have the columns that were announced", row.Relation))
		return
	}
	if p.open && (p.w.Rows() >= eventRows || p.w.Len() >= eventBytes) {
		a.finish(p)
	}
	if !p.open {
		a.start(p)
	}
	p.write(op, row)
	a.tx.ordinal++
}

// unknown widens: a row of a relation that was never announced, or could not be looked up.
func (a *assembler) unknown(oid uint32) {
	a.widen("unknown_relation", fmt.Errorf("relation %d", oid))
}

func (p *plan) fits(op events.Op, row *pgoutput.Row) bool {
	n := len(p.layout)
	return (len(row.New) == n || op == events.Delete) && (len(row.Old) == n || row.OldKind == 0)
}

// start begins an event of the current transaction.
func (a *assembler) start(p *plan) {
	if len(a.open) >= openEvents {
		a.finish(a.open[0])
	}
	p.head.Position = events.Position{Epoch: a.cfg.epoch, LSN: a.tx.id.LSN, Ordinal: a.tx.ordinal}
	p.head.XID, p.head.Time = a.tx.id.XID, a.tx.id.Time
	p.w.Begin(&p.head)
	p.open, p.ordinal = true, a.tx.ordinal
	a.open = append(a.open, p)
}

// finish ends the open event of a table.
func (a *assembler) finish(p *plan) {
	body := p.w.End()
	h := held{subject: p.subject, ordinal: p.ordinal}
	if len(body) <= eventLimit {
		h.body = append(make([]byte, 0, len(body)+len(`,"end":"FFFFFFFF/FFFFFFFF"`)), body...)
	} else {
		h.body = a.tooLarge(p, len(body))
	}
	p.w.Reset(body)
	p.open = false
	a.open = slices.DeleteFunc(a.open, func(q *plan) bool { return q == p })
	a.hold(h)
}

func (a *assembler) tooLarge(p *plan, size int) []byte {
	a.cfg.log.Warn("an event is too large for the stream, sweeping its table", zap.Stringer("relation", p.head.Table),
		zap.Int("bytes", size))
	a.cfg.metrics.widened.WithLabelValues("too_large").Inc()
	sweep := p.head
	sweep.Kind, sweep.Reason = events.KindSweep, "too_large"
	return sweep.AppendBody(nil)
}

// special publishes an event of the current transaction that has no rows.
func (a *assembler) special(e events.Event) {
	e.Source, e.XID, e.Time = a.cfg.source, a.tx.id.XID, a.tx.id.Time
	e.Position = events.Position{Epoch: a.cfg.epoch, LSN: a.tx.id.LSN, Ordinal: a.tx.ordinal}
	subject := events.SourceSubject(a.cfg.source)
	if e.Table != (events.Table{}) {
		subject = events.ChangesSubject(a.cfg.source, e.Table)
	}
	a.hold(held{subject: subject, body: e.AppendBody(nil), ordinal: a.tx.ordinal})
	a.tx.ordinal++
}

func (a *assembler) truncate(t *pgoutput.Truncate) {
	for _, oid := range t.Relations {
		p := a.plans[oid]
		switch {
		case p == nil:
			a.unknown(oid)
		case p.watched && a.tx.muted:
			a.tx.changed = true
		case p.watched:
			if p.open {
				a.finish(p)
			}
			a.cfg.metrics.changes.Inc()
			a.special(events.Event{Kind: events.KindTruncate, Table: p.head.Table, Partition: p.head.Partition})
		}
	}
}

// message takes a logical message. Only our own heartbeat within a transaction means something.
func (a *assembler) message(m *pgoutput.Message) {
	if a.tx.inside && m.Transactional && m.Prefix == HeartbeatPrefix && string(m.Content) == a.cfg.slot && !a.tx.muted {
		a.special(events.Event{Kind: events.KindHeartbeat})
	}
}

// hold keeps an event until it is known whether it is the transaction's last, and publishes the one before it.
func (a *assembler) hold(h held) {
	if a.tx.held.body != nil {
		a.publish()
	}
	a.tx.held = h
}

// publish hands the held event over.
func (a *assembler) publish() {
	h := &a.tx.held
	number, l := a.tx.number, a.cfg.ledger
	l.event(number)
	at := events.Position{Epoch: a.cfg.epoch, LSN: a.tx.id.LSN, Ordinal: h.ordinal}
	a.cfg.out.send(a.tx.aside, h.subject, a.messageID(at, h), h.body, func() { l.acked(number) })
	h.body = nil
}

// messageID is <system>.<timeline>.<epoch>.<commit LSN>.<first ordinal>.<hash of subject and body>: whatever the stream
// takes for a duplicate is an equal message.
func (a *assembler) messageID(at events.Position, h *held) string {
	b := make([]byte, 0, 96)
	b = strconv.AppendUint(b, a.cfg.system, 10)
	b = strconv.AppendUint(append(b, '.'), uint64(a.cfg.line), 10)
	b = strconv.AppendUint(append(b, '.'), at.Epoch, 10)
	b, _ = at.LSN.AppendText(append(b, '.'))
	b = strconv.AppendUint(append(b, '.'), at.Ordinal, 10)
	return string(strconv.AppendUint(append(b, '.'), hash(h.subject, h.body), 16))
}

func hash(subject string, body []byte) uint64 {
	return xxhash.Sum64(body) ^ xxhash.Sum64String(subject)
}

// now is the time of events that belong to no transaction, as precise as PostgreSQL's.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
