package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/walfence/walfence/pkg/events"
)

const (
	// scanCount is how many places of the keyspace one SCAN looks at: Redis serves nobody else for some 200 microseconds.
	scanCount = 1000
	// DefaultSweepRate is how many places per second a sweep looks at on each primary: a tenth of what Redis could do.
	DefaultSweepRate = 250_000
)

// Sweep is what to sweep, and how.
type Sweep struct {
	Patterns []events.Pattern
	// Rate bounds the places of the keyspace looked at per second and primary. Zero means [DefaultSweepRate].
	Rate int
	// DryRun counts and deletes nothing.
	DryRun bool
	// Progress, if set, is told how far the sweep is, after every round trip, from several goroutines.
	Progress func(Progress)
}

// Progress is how far a sweep is, or was when it ended.
type Progress struct {
	Pass     int    // 1: guards; 2: values
	Looked   uint64 // keys that the server compared with the glob and sent, in both passes
	Guards   uint64 // deleted
	Keys     uint64 // deleted; with DryRun: found, where a key may count twice
	Restarts int    // passes begun again, since a server or the topology changed meanwhile
}

// errChanged says that a cursor may have missed keys.
var errChanged = errors.New("server or topology changed during the sweep")

// Sweep deletes every key that matches a pattern, and every guard of such a key: first all guards, in one full walk over
// each primary, then the values, in a second. A fill that the first walk did not stop ended before it, so the second meets its
// value. If a server restarts or fails over, or slots move, both walks start again. After an error nothing is certain.
func (c *Client) Sweep(ctx context.Context, s Sweep) (Progress, error) {
	if len(s.Patterns) == 0 {
		return Progress{}, nil
	}
	if s.Rate <= 0 {
		s.Rate = DefaultSweepRate
	}
	w := &walk{client: c, sweep: s}
	for {
		err := w.attempt(ctx)
		switch {
		case err == nil:
			return w.progress(), nil
		case !errors.Is(err, errChanged):
			return w.progress(), fmt.Errorf("sweep: %w", err)
		}
		w.restarts.Add(1)
	}
}

// walk is one sweep under way.
type walk struct {
	client *Client
	sweep  Sweep

	pass, restarts       atomic.Int32
	looked, guards, keys atomic.Uint64
}

func (w *walk) progress() Progress {
	return Progress{
		Pass: int(w.pass.Load()), Looked: w.looked.Load(), Guards: w.guards.Load(), Keys: w.keys.Load(),
		Restarts: int(w.restarts.Load()),
	}
}

// attempt makes both passes, and then makes sure that what it walked over is still what there is.
func (w *walk) attempt(ctx context.Context) error {
	before, err := w.client.topology(ctx)
	if err != nil {
		return err
	}
	ids := make([]string, len(before.primaries))
	for pass, selected := range []selection{selectGuards(w.sweep.Patterns), selectKeys(w.sweep.Patterns)} {
		w.pass.Store(int32(pass + 1))
		if pass == 0 && w.sweep.DryRun {
			continue
		}
		if err := w.all(ctx, before, ids, selected); err != nil {
			return err
		}
	}
	after, err := w.client.topology(ctx)
	if err != nil {
		return err
	}
	if after.fingerprint != before.fingerprint {
		return errChanged
	}
	return nil
}

// all walks over every primary, side by side. While slots are on the move it walks one by one, twice: a key that moves from
// one to another meanwhile is met in one of the two walks, whichever way it went.
func (w *walk) all(ctx context.Context, t topology, ids []string, selected selection) error {
	if !t.moving {
		return w.sideBySide(ctx, t, ids, selected)
	}
	for range 2 {
		for i, primary := range t.primaries {
			if err := w.one(ctx, primary, &ids[i], selected); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) sideBySide(ctx context.Context, t topology, ids []string, selected selection) error {
	var wg sync.WaitGroup
	errs := make([]error, len(t.primaries))
	for i, primary := range t.primaries {
		wg.Go(func() { errs[i] = w.one(ctx, primary, &ids[i], selected) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// one walks over one primary. id is who it was in the passes before, and becomes who it is.
func (w *walk) one(ctx context.Context, primary *redis.Client, id *string, selected selection) error {
	limit := rate.NewLimiter(rate.Limit(w.sweep.Rate), scanCount)
	for cursor := uint64(0); ; {
		if err := limit.WaitN(ctx, scanCount); err != nil {
			return err
		}
		found, next, now, err := scan(ctx, primary, cursor, selected)
		switch {
		case err != nil:
			return err
		case *id == "":
			*id = now
		case *id != now:
			return errChanged
		}
		w.looked.Add(uint64(len(found)))
		if err := w.take(ctx, found, selected); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// scan takes the next step, and in the same round trip on the same connection asks the server who it is.
func scan(ctx context.Context, primary *redis.Client, cursor uint64, selected selection) (found []string, next uint64, id string, err error) {
	pipe := primary.Pipeline()
	server := pipe.Info(ctx, "server")
	replication := pipe.Info(ctx, "replication")
	step := pipe.Scan(ctx, cursor, selected.glob, scanCount)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, 0, "", err
	}
	found, next = step.Val()
	return found, next, identity(server, replication), nil
}

// take deletes those of the keys found that are selected. On Cluster each goes where it is by now.
func (w *walk) take(ctx context.Context, found []string, selected selection) error {
	n := uint64(0)
	pipe := w.client.rdb.Pipeline()
	for _, key := range found {
		if selected.match(key) {
			n++
			queue(ctx, pipe, redis.NewIntCmd(ctx, "unlink", key))
		}
	}
	if n > 0 && !w.sweep.DryRun {
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	if w.pass.Load() == 1 {
		w.guards.Add(n)
	} else {
		w.keys.Add(n)
	}
	if w.sweep.Progress != nil {
		w.sweep.Progress(w.progress())
	}
	return nil
}
