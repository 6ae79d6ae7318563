package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/walfence/walfence/pkg/cache"
)

// guardedWays adds pkg/cache to what is compared.
func (s *stage) guardedWays(ways []*way) ([]*way, error) {
	for _, from := range []string{"primary", "replica", "local"} {
		var options []cache.Option
		if from == "local" {
			options = append(options, cache.WithFeed(s.feed))
		}
		p, err := s.guarded(from == "replica", options...)
		if err != nil {
			return ways, err
		}
		ways = append(ways, &way{name: "pkg/cache", from: from, prefix: "guarded-" + from, protocol: p})
	}
	return ways, nil
}

// plantMarkers makes every way of pkg/cache hold a row that is then changed once more, and returns its new version. When none
// shows the old one any more, all that was invalidated before has arrived.
func (s *stage) plantMarkers(ctx context.Context) (version int64, err error) {
	for _, w := range s.ways {
		if g, ok := w.protocol.(*guarded); ok {
			if _, err := g.cache.Get(ctx, w.key(markerID), s.marker); err != nil {
				return 0, err
			}
		}
	}
	err = s.conn.QueryRow(ctx, "UPDATE items SET ver = ver + 1 WHERE id = $1 RETURNING ver", markerID).Scan(&version)
	return version, err
}

func (s *stage) marker(ctx context.Context) (version int64, err error) {
	err = s.conn.QueryRow(ctx, "SELECT ver FROM items WHERE id = $1", markerID).Scan(&version)
	return version, err
}

func (s *stage) markersGone(ctx context.Context, version int64) error {
	for _, w := range s.ways {
		if g, ok := w.protocol.(*guarded); ok {
			got, err := g.cache.Get(ctx, w.key(markerID), s.marker)
			if err == nil && got != version {
				err = fmt.Errorf("%s from %s still shows the old marker", w.name, w.from)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// compare counts the values that differ from the database.
func (s *stage) compare(ctx context.Context, m mode, r *results) error {
	actual := make(map[int64]int64, rows)
	found, err := s.conn.Query(ctx, "SELECT id, ver FROM items WHERE id > 0")
	if err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	for found.Next() {
		var id, ver int64
		if err := found.Scan(&id, &ver); err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		actual[id] = ver
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	for i, w := range s.ways {
		stale, err := s.stale(ctx, w, actual)
		if err != nil {
			return err
		}
		r.fills[m][i] += w.fills.Load()
		r.stale[m][i] += stale
	}
	return nil
}

// errAbsent is what a loader answers that must not be asked.
var errAbsent = errors.New("absent")

func (s *stage) stale(ctx context.Context, w *way, actual map[int64]int64) (n uint64, err error) {
	for id, ver := range actual {
		var got int64
		if w.from == "local" { // what is in Redis counts, and what the process holds
			got, err = w.protocol.(*guarded).cache.Get(ctx, w.key(id), func(context.Context) (int64, error) { return 0, errAbsent })
			if errors.Is(err, errAbsent) {
				continue
			}
		} else {
			text, missing := s.client.Get(ctx, w.key(id)).Result()
			if missing != nil {
				continue
			}
			got, err = parseVersion(text)
		}
		if err != nil {
			return n, fmt.Errorf("read value: %w", err)
		}
		if got != ver {
			n++
		}
	}
	return n, nil
}

// results are what was counted, by mode and way.
type results struct {
	ways    []*way
	commits [2]uint64
	fills   [2][]uint64
	stale   [2][]uint64
}

func newResults(ways []*way) *results {
	r := &results{ways: ways}
	for m := range r.fills {
		r.fills[m], r.stale[m] = make([]uint64, len(ways)), make([]uint64, len(ways))
	}
	return r
}

// line sums up a mode for the impatient.
func (r *results) line(m mode) string {
	var parts []string
	for i, w := range r.ways {
		parts = append(parts, fmt.Sprintf("%s/%s %d", w.prefix, w.from[:1], r.stale[m][i]))
	}
	return fmt.Sprintf("%d commits; stale by now: %s", r.commits[m], strings.Join(parts, ", "))
}

// print writes the table.
func (r *results) print(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\nvalues that stayed stale\tread from\t%s\tof fills\t%s\tof fills\t\n", local, synchronous)
	for i, w := range r.ways {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t\n", w.name, w.from, r.stale[local][i], r.fills[local][i], r.stale[synchronous][i], r.fills[synchronous][i])
	}
	fmt.Fprintf(t, "commits\t\t%d\t\t%d\t\t\n", r.commits[local], r.commits[synchronous])
	_ = t.Flush()
}

// judge returns an error if a sound way failed, or one that is not got away with it.
func (r *results) judge() error {
	failed := map[string]uint64{}
	var errs []error
	for i, w := range r.ways {
		n := r.stale[local][i] + r.stale[synchronous][i]
		if !w.mustFail && n > 0 {
			errs = append(errs, fmt.Errorf("%s from %s: %d values stayed stale", w.name, w.from, n))
		}
		failed[w.name] += n
	}
	for i, w := range r.ways {
		if w.mustFail && w.from == "primary" && failed[w.name] == 0 {
			errs = append(errs, fmt.Errorf("%s got away with it: the run was too weak", r.ways[i].name))
		}
	}
	return errors.Join(errs...)
}
