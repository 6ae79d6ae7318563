package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// sample is one run of one reader.
type sample struct {
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rows_per_second"`
	Usage   usage   `json:"usage,omitempty"`
	// Others is the share of the machine that went to what does not belong here: above some per cent the run says little.
	Others float64 `json:"others,omitempty"`
	// Messages is how many each stream holds.
	Messages map[string]uint64 `json:"messages,omitempty"`
}

// drained is what one reader did with one backlog.
type drained struct {
	Reader  string   `json:"reader"`
	About   string   `json:"about"`
	Samples []sample `json:"samples"`
	Rate    float64  `json:"rows_per_second"` // median
	Ratio   float64  `json:"ratio"`           // to B's
	Target  float64  `json:"target,omitempty"`
}

// drains is one backlog and its readers.
type drains struct {
	Workload string     `json:"workload"`
	Rows     int        `json:"rows"`
	About    string     `json:"about"`
	Readers  []*drained `json:"readers"`
}

// drain lets all readers that are wanted drain one workload, in turns, so that what disturbs the machine for a while
// disturbs all.
func (b *bench) drain(ctx context.Context, w workload) (d *drains, err error) {
	log, err := b.rig.prepare(ctx, w)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.rig.dropSlot(context.WithoutCancel(ctx), log.slot)) }()
	d = &drains{Workload: w.name, Rows: w.rows, About: w.about}
	for run := range b.settings.Runs {
		for _, reader := range b.chosen(w) {
			s, err := b.rig.run(ctx, log, reader)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", reader.about, err)
			}
			progress("%s, run %d: %s: %.0f rows/s", w.name, run+1, reader.about, s.Rate)
			d.add(reader, s)
		}
	}
	d.compare()
	return d, nil
}

// chosen are B and what else is wanted. Column lists in the programs have targets on W3 only, and elsewhere must be asked for.
func (b *bench) chosen(w workload) []reader {
	var chosen []reader
	for i, r := range readers {
		lists := r.name == "cdc-lists" || r.name == "chain-lists"
		asked := len(b.settings.Only) > 0
		if i == 0 || b.settings.wants(r.name) && (asked || !lists || w.name == "w3") {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

func (d *drains) add(r reader, s sample) {
	i := slices.IndexFunc(d.Readers, func(have *drained) bool { return have.Reader == r.name })
	if i < 0 {
		i = len(d.Readers)
		d.Readers = append(d.Readers, &drained{Reader: r.name, About: r.about, Target: targets[d.Workload][r.name]})
	}
	d.Readers[i].Samples = append(d.Readers[i].Samples, s)
}

func (d *drains) compare() {
	for _, r := range d.Readers {
		var rates []float64
		for _, s := range r.Samples {
			rates = append(rates, s.Rate)
		}
		r.Rate = quantile(rates, 0.5)
		r.Ratio = r.Rate / d.Readers[0].Rate
	}
}

// runSlot is the slot of whoever reads.
const runSlot = "bench_run"

// run measures one reader once: from when its slot is in use until it has drained the backlog.
func (r *rig) run(ctx context.Context, b *backlog, reader reader) (s sample, err error) {
	if err := r.copySlot(ctx, b.slot, runSlot); err != nil {
		return s, err
	}
	clean := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, r.dropSlot(clean, runSlot)) }()
	a, err := reader.open(ctx, r, b, runSlot)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.begin(ctx); err != nil {
		return s, err
	}
	walsender, err := r.awaitActive(ctx, runSlot)
	if err != nil {
		return s, err
	}
	began := time.Now()
	processes := a.processes()
	processes["walsender"] = walsender
	before, busy := measureUsage(processes), busySeconds()
	ended, err := a.finish(ctx)
	if err != nil {
		return s, err
	}
	s.Usage = measureUsage(processes).since(before)
	if p, ok := a.(*pipeline); ok {
		s.Messages = p.messages(ctx)
	}
	s.Seconds = ended.Sub(began).Seconds()
	s.Rate = float64(b.rows) / s.Seconds
	if len(processes) > 1 { // what pg_recvlogical used is not known
		others := busySeconds() - busy - s.Usage.total()
		s.Others = max(others/s.Seconds/float64(runtime.NumCPU()), 0)
	}
	return s, nil
}

// awaitActive waits until somebody reads from a slot, and returns the process id of the walsender.
func (r *rig) awaitActive(ctx context.Context, slot string) (pid int, err error) {
	err = wait(ctx, programPatience, time.Millisecond, func() error {
		err := r.control.QueryRow(ctx, "SELECT coalesce(active_pid, 0) FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&pid)
		if err != nil {
			return fmt.Errorf("look at slot: %w", err)
		}
		if pid == 0 {
			return errors.New("nobody reads from the slot")
		}
		return nil
	})
	return pid, err
}

// quantile returns the value below which a share of the values lies. It sorts them.
func quantile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(share*float64(len(values))), len(values)-1)]
}
