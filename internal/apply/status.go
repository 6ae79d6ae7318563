package apply

import (
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"

	"github.com/walfence/walfence/pkg/events"
)

// The conditions of readiness that an applier tells, beside one per cache.
const (
	// ConditionEpoch holds once something was applied, and while no invalidation of everything is under way.
	ConditionEpoch = "epoch"
	// ConditionVersion holds while every message can be read by this version of the program.
	ConditionVersion = "wire version"
)

// progress is how far an applier is.
type progress struct {
	mu       sync.Mutex
	highest  events.Position
	newest   time.Time // of an event or heartbeat
	at       time.Time // when that was applied
	epochs   int       // invalidations of everything that are under way
	epochWhy string    // the newest one's reason
	newer    string    // why messages wait for an upgrade; empty: none does
}

// applied books a batch. The first one makes ready, unless everything is being invalidated.
func (a *Applier) applied(position events.Position, newest time.Time) {
	p := &a.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	if position.Compare(p.highest) > 0 {
		p.highest = position
	}
	if p.at.IsZero() && p.epochs == 0 {
		a.ready(ConditionEpoch, true, "")
	}
	if newest.After(p.newest) {
		p.newest, p.at = newest, time.Now()
	}
}

// Status is what /status shows of an applier.
type Status struct {
	Epoch uint64     `json:"epoch"`
	LSN   events.LSN `json:"lsn"` // the highest commit of which something is applied
	// Newest is the commit time of the newest event or heartbeat that is applied; Behind is how old that was just then, and
	// Silent how long ago, both in seconds.
	Newest time.Time     `json:"newest"`
	Behind float64       `json:"behind_seconds"`
	Silent float64       `json:"silent_seconds"`
	Waits  []string      `json:"waits,omitempty"` // what waits, and why
	Caches []CacheStatus `json:"caches"`
}

// CacheStatus is what /status shows of a cache.
type CacheStatus struct {
	Name         string `json:"name"`
	Breaker      string `json:"breaker"`
	Reason       string `json:"reason,omitempty"`
	Sweeping     string `json:"sweeping,omitempty"`
	SweepsQueued int    `json:"sweeps_queued,omitempty"`
}

// Status returns how far the applier is.
func (a *Applier) Status() Status {
	p := &a.progress
	p.mu.Lock()
	s := Status{Epoch: p.highest.Epoch, LSN: p.highest.LSN, Newest: p.newest}
	if !p.at.IsZero() {
		s.Behind, s.Silent = p.at.Sub(p.newest).Seconds(), time.Since(p.at).Seconds()
	}
	if p.epochs > 0 {
		s.Waits = append(s.Waits, "readiness waits for the invalidation of everything: "+p.epochWhy)
	}
	if p.newer != "" {
		s.Waits = append(s.Waits, p.newer)
	}
	p.mu.Unlock()
	for _, c := range a.caches {
		status := c.status()
		if status.Breaker != gobreaker.StateClosed.String() {
			s.Waits = append(s.Waits, "cache "+c.Name+": "+status.Reason)
		}
		s.Caches = append(s.Caches, status)
	}
	return s
}

func (s *cacheState) status() CacheStatus {
	out := CacheStatus{Name: s.Name, Breaker: s.breaker.State().String()}
	out.Sweeping, out.SweepsQueued = s.sweeper.showing()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != answered {
		out.Reason = s.reason
	}
	return out
}

// epochBegins makes the program unready until everything is invalidated.
func (a *Applier) epochBegins(reason string) {
	p := &a.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epochs++
	p.epochWhy = reason
	a.ready(ConditionEpoch, false, "everything is being invalidated: "+reason)
	a.log.Warn("everything is invalidated", zap.String("reason", reason))
}

// epochEnds books that one of the invalidations of everything is no longer under way: applied, or to come again.
func (a *Applier) epochEnds(applied bool) {
	p := &a.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epochs--; p.epochs == 0 && applied {
		a.ready(ConditionEpoch, true, "")
	}
}

// newerVersion tells that messages wait until this program is upgraded.
func (a *Applier) newerVersion(err *events.VersionError) {
	p := &a.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.newer == "" {
		a.log.Error("messages wait for a newer version of this program", zap.Error(err))
	}
	p.newer = err.Error()
	a.ready(ConditionVersion, false, p.newer)
}
