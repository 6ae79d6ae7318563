package apply

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

const (
	// feedKeyBytes is how many bytes of keys one message of the feed holds. JSON at most doubles them, since keys hold
	// neither control bytes nor invalid UTF-8: it stays below 256 KiB.
	feedKeyBytes = 100 << 10
	// longestSubject that is put on the wire: NATS closes connections over a line of 4 KiB.
	longestSubject = 1 << 10
)

// feed returns what the feed says of the keys that the batch removed: per cache and tenant one message, or several where
// there are too many keys.
func (b *batch) feed() []events.Invalidation {
	var out []events.Invalidation
	for i := range b.caches {
		out = b.caches[i].tell(b.a.program.Source(), b.a.caches[i].Name, out)
	}
	return out
}

// fitting returns how many of the keys fit into one message: at least one, if there is one.
func fitting(keys []string) int {
	size := 0
	for i, key := range keys {
		if size += len(key) + len(`"",`); size > feedKeyBytes && i > 0 {
			return i
		}
	}
	return len(keys)
}

func ruleNames(rules []*mapping.Rule) []string {
	names := make([]string, len(rules))
	for i, r := range rules {
		names[i] = r.Name
	}
	return names
}

// toldSweeps returns what the feed says of sweeps.
func toldSweeps(p *mapping.Program, requests []Request) []events.Invalidation {
	var out []events.Invalidation
	for _, r := range requests {
		told := events.Invalidation{
			Version: events.Version, Source: p.Source(), Epoch: r.position.Epoch, LSN: r.position.LSN, Time: r.time,
			Rules: []string{}, Reason: r.Reason, Global: true, All: r.whole(),
		}
		if !r.whole() {
			told.Rules, told.Patterns = []string{r.Rule.Name}, r.Rule.Patterns(r.Tenant, r.All)
			if told.Global = r.All || r.Rule.Global; !told.Global {
				told.Tenant = r.Tenant
			}
		}
		for i, c := range p.Caches() {
			if r.Concerns(i) {
				told.Cache = c.Name
				out = append(out, told)
			}
		}
	}
	return out
}

// Tell puts sweeps that were done on the feed, and returns once the stream has them.
func Tell(ctx context.Context, feed Feed, p *mapping.Program, done []Request) error {
	for i := range done {
		if done[i].time.IsZero() {
			done[i].time = time.Now()
		}
	}
	return publish(ctx, feed, toldSweeps(p, done))
}

func (a *Applier) publish(ctx context.Context, told []events.Invalidation) error {
	if err := publish(ctx, a.feed, told); err != nil {
		return err
	}
	a.metrics.feed.Add(float64(len(told)))
	return nil
}

// publish puts invalidations on the feed, and returns once the stream has them all.
func publish(ctx context.Context, feed Feed, told []events.Invalidation) error {
	if len(told) == 0 {
		return nil
	}
	var left atomic.Int64
	left.Store(int64(len(told)))
	done := make(chan struct{})
	acked := func(stream.Ack) {
		if left.Add(-1) == 0 {
			close(done)
		}
	}
	for i := range told {
		subject := feedSubject(&told[i])
		body, err := encode(&told[i])
		if err != nil {
			return fmt.Errorf("encode invalidation: %w", err)
		}
		feed.Send(&stream.Message{Subject: subject, Body: body, Done: acked})
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("publish to feed: %w", context.Cause(ctx))
	}
}

// feedSubject returns where an invalidation is told. One of a tenant whose name is too long for a subject is turned into
// one that all are told: its keys say what is meant.
func feedSubject(told *events.Invalidation) string {
	if !told.Global {
		subject := events.InvalidationSubject(told.Cache, told.Tenant)
		if len(subject) <= longestSubject {
			return subject
		}
		told.Global, told.Tenant = true, ""
	}
	return events.GlobalInvalidationSubject(told.Cache)
}

// encode writes JSON that does not escape what only HTML would need escaped: that would be six times as long.
func encode(told *events.Invalidation) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(told)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
