package apply

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// batch is what a batch of messages leads to. Its memory is used again for the next one.
type batch struct {
	a      *Applier
	event  events.Event
	result mapping.Result

	caches  []removals             // by cache
	again   map[again]*removals    // what is to be removed again; memory of its own
	deletes map[*mapping.Rule]int  // keys by rule
	bumps   map[*mapping.Rule]int  // scopes by rule
	commits []time.Time            // of events with rows
	asking  []*nats.Msg            // messages that need sweeps
	sweeps  map[requestKey]Request // what they need, each once
	newer   []*nats.Msg            // messages of a newer wire version
	highest events.Position
	newest  time.Time
}

// again says from which cache, and after what time.
type again struct {
	cache int
	after time.Duration
}

func newBatch(a *Applier) *batch {
	b := &batch{
		a: a, deletes: map[*mapping.Rule]int{}, bumps: map[*mapping.Rule]int{}, again: map[again]*removals{},
		sweeps: map[requestKey]Request{}, caches: make([]removals, len(a.caches)),
	}
	for i := range b.caches {
		b.caches[i] = newRemovals()
	}
	return b
}

func (b *batch) reset() {
	for i := range b.caches {
		b.caches[i].reset()
	}
	clear(b.again)
	clear(b.deletes)
	clear(b.bumps)
	clear(b.sweeps)
	b.commits, b.asking, b.newer, b.highest, b.newest = b.commits[:0], nil, nil, events.Position{}, time.Time{}
}

// add takes one message. The error is that of storing a dead letter.
func (b *batch) add(ctx context.Context, m *nats.Msg) error {
	err := events.Decode(m.Data, &b.event)
	var newer *events.VersionError
	switch {
	case errors.As(err, &newer):
		b.newer = append(b.newer, m)
		b.a.newerVersion(newer)
		return nil
	case err != nil:
		return b.undecodable(ctx, m, err)
	}
	e := &b.event
	b.cover(e.Position, e.Time)
	if e.Kind == events.KindHeartbeat {
		return nil
	}
	b.result.Reset()
	b.a.program.Map(e, &b.result)
	if e.Kind == events.KindRows {
		b.commits = append(b.commits, e.Time)
	}
	for i := range b.result.Keys {
		b.key(&b.result.Keys[i])
	}
	b.widened(m)
	return nil
}

// cover notes how far the batch reaches.
func (b *batch) cover(p events.Position, t time.Time) {
	if p.Compare(b.highest) > 0 {
		b.highest = p
	}
	if t.After(b.newest) {
		b.newest = t
	}
}

// key notes a key to remove, unless the batch has it already.
func (b *batch) key(k *mapping.Key) {
	if b.caches[k.Cache].add(k, &b.event) {
		if k.Scope == "" {
			b.deletes[k.Rule]++
		} else {
			b.bumps[k.Rule]++
		}
	}
	for _, after := range k.Rule.Repeat {
		b.removeAgain(after, k)
	}
}

// removeAgain notes a key to remove once more after a time.
func (b *batch) removeAgain(after time.Duration, k *mapping.Key) {
	later := again{k.Cache, after}
	r := b.again[later]
	if r == nil {
		made := newRemovals()
		r = &made
		b.again[later] = r
	}
	r.add(k, &b.event)
}

// repeat hands over what is to be removed again.
func (b *batch) repeat() {
	for later, r := range b.again {
		b.a.caches[later.cache].repeater.remove(later.after, r)
	}
}

// widened notes the sweeps that the event at hand leads to.
func (b *batch) widened(m *nats.Msg) {
	if b.result.Whole {
		b.ask(m, Request{Reason: b.result.Cause}, b.cause())
	}
	for _, s := range b.result.Sweeps {
		b.ask(m, Request{Rule: s.Rule, Tenant: s.Tenant, All: s.All, Reason: s.Cause}, b.cause())
	}
}

// cause names why the event at hand leads to sweeps, in one of a few words.
func (b *batch) cause() string {
	switch k := b.event.Kind; k {
	case events.KindRows:
		return causeInexact
	case events.KindTruncate, events.KindSweep, events.KindEpoch:
		return string(k)
	}
	return "unknown kind"
}

// ask notes one sweep for a message. The same one is done once for the batch, and told with the highest position.
func (b *batch) ask(m *nats.Msg, r Request, cause string) {
	b.a.metrics.widened.WithLabelValues(r.level(), cause).Inc()
	b.a.log.Debug("invalidation widened", zap.String("level", r.level()), zap.String("subject", m.Subject), zap.String("reason", r.Reason))
	r.position, r.time = b.event.Position, b.event.Time
	if known, ok := b.sweeps[r.key()]; ok {
		if known.position.Compare(r.position) > 0 {
			r.position = known.position
		}
		if known.time.After(r.time) {
			r.time = known.time
		}
	}
	b.sweeps[r.key()] = r
	if n := len(b.asking); n == 0 || b.asking[n-1] != m {
		b.asking = append(b.asking, m)
	}
}

// undecodable keeps a copy of a damaged message, and invalidates all that it can have told: its subject still names a
// table, or else everything.
func (b *batch) undecodable(ctx context.Context, m *nats.Msg, cause error) error {
	b.a.log.Error("event cannot be decoded, all that it may concern is swept", zap.String("subject", m.Subject), zap.Error(cause))
	if err := b.a.letter(ctx, m, cause); err != nil {
		return err
	}
	b.event = events.Event{Position: b.highest, Time: time.Now()}
	table, known := b.a.tables[m.Subject]
	if !known {
		b.ask(m, Request{Reason: "undecodable event"}, causeUndecodable)
		return nil
	}
	for _, t := range b.a.program.Tables() {
		if t.Table != table {
			continue
		}
		for _, r := range t.Rules {
			b.ask(m, Request{Rule: r, All: true, Reason: "undecodable event"}, causeUndecodable)
		}
	}
	return nil
}

// letter stores a copy of a message in DEADLETTERS.
func (a *Applier) letter(ctx context.Context, m *nats.Msg, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, letterTimeout)
	defer cancel()
	return stream.DeadLetter(ctx, a.letters, m, a.program.Source(), "", cause.Error())
}

// letterTimeout bounds the wait for a dead letter's ack; after it the batch comes again.
const letterTimeout = 5 * time.Second

// observe counts what was removed.
func (b *batch) observe(now time.Time) {
	for _, t := range b.commits {
		b.a.metrics.latency.Observe(now.Sub(t).Seconds())
	}
	for rule, n := range b.deletes {
		b.a.metrics.keys.WithLabelValues(rule.Name, "delete").Add(float64(n))
	}
	for rule, n := range b.bumps {
		b.a.metrics.keys.WithLabelValues(rule.Name, "bump").Add(float64(n))
	}
}

// later returns what is still to be done for some of the messages, or nil.
func (b *batch) later() error {
	if len(b.asking) == 0 && len(b.newer) == 0 {
		return nil
	}
	requests := make([]Request, 0, len(b.sweeps))
	for _, r := range b.sweeps {
		requests = append(requests, r)
		if r.whole() {
			b.a.epochBegins(r.Reason)
		}
	}
	later := &stream.Later{}
	if len(requests) > 0 {
		later.Keep(b.asking, func(ctx context.Context) error { return b.a.sweep(ctx, requests) })
	}
	if len(b.newer) > 0 {
		later.Keep(b.newer, func(context.Context) error { return errNewer })
	}
	return later
}

// errNewer gives messages back until an upgraded program takes them.
var errNewer = errors.New("wait for a newer version of this program")
