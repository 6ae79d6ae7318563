package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// targets are the ratios to B that must be reached, by workload and reader.
var targets = map[string]map[string]float64{
	"w1": {"cdc": 1.5, "chain": 1.2},
	"w2": {"cdc": 2.0, "chain": 1.5},
	"w3": {"cdc": 1.0, "chain": 1.0, "cdc-lists": 1.3, "chain-lists": 1.3},
}

// residentTarget is what cdc and invalidator may each have resident on W3, in bytes.
const residentTarget = 100e6

// results are all figures of one invocation.
type results struct {
	Machine string    `json:"machine"`
	Drains  []*drains `json:"drains"`
	Latency *latency  `json:"latency,omitempty"`
}

func (r *results) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

func mark(ok bool) string {
	if ok {
		return "pass"
	}
	return "FAIL"
}

func (d *drains) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %d rows, %s\n", strings.ToUpper(d.Workload), d.Rows, d.About)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\trows/s\tof B\ttarget\t\tothers\tus of CPU per row")
	for _, r := range d.Readers {
		target, verdict := "", ""
		if r.Target > 0 {
			target, verdict = fmt.Sprintf(">= %.1f", r.Target), mark(r.Ratio >= r.Target)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%s\t%s\t%s\t%s\n", r.About, r.Rate, r.Ratio, target, verdict, r.others(), r.cost(d.Rows))
	}
	w.Flush()
	d.printMessages(out)
	d.printMemory(out)
}

// printMessages tells how many messages the last run of each reader left in the streams.
func (d *drains) printMessages(out io.Writer) {
	for _, r := range d.Readers {
		held := r.Samples[len(r.Samples)-1].Messages
		if len(held) == 0 {
			continue
		}
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(held)) {
			parts = append(parts, fmt.Sprintf("%d in %s", held[name], name))
		}
		fmt.Fprintf(out, "%s: messages: %s\n", r.About, strings.Join(parts, ", "))
	}
}

// others is how much of the machine went elsewhere, in the worst run.
func (r *drained) others() string {
	most := 0.0
	for _, s := range r.Samples {
		most = max(most, s.Others)
	}
	if most == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f%%", 100*most)
}

// cost is the CPU that each process spent on a row, in the median.
func (r *drained) cost(rows int) string {
	var parts []string
	for _, name := range []string{"walsender", "reader", "cdc", "invalidator", "redis"} {
		var micros []float64
		for _, s := range r.Samples {
			if u, ok := s.Usage[name]; ok {
				micros = append(micros, u.CPU/float64(rows)*1e6)
			}
		}
		if micros != nil {
			parts = append(parts, fmt.Sprintf("%s %.1f", name, quantile(micros, 0.5)))
		}
	}
	return strings.Join(parts, ", ")
}

// printMemory tells the most that a program ever had resident while it drained this backlog.
func (d *drains) printMemory(out io.Writer) {
	most := map[string]int64{}
	for _, r := range d.Readers {
		for _, s := range r.Samples {
			for name, u := range s.Usage {
				most[name] = max(most[name], u.Resident)
			}
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(most), cmp.Compare) {
		switch {
		case name != "cdc" && name != "invalidator":
		case d.Workload == "w3":
			fmt.Fprintf(out, "%s: at most %.0f MB resident, target < 100 MB  %s\n", name, float64(most[name])/1e6, mark(most[name] < residentTarget))
		default:
			fmt.Fprintf(out, "%s: at most %.0f MB resident\n", name, float64(most[name])/1e6)
		}
	}
}

func (l *latency) print(out io.Writer) {
	fmt.Fprintf(out, "\nLatency at %d commits/s for %.0f s, in us\n", l.Rate, l.Seconds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tp50\tp99")
	for _, f := range l.Floors {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\n", f.Name, f.Median.P50, f.Median.P99)
	}
	fmt.Fprintf(w, "sum of these floors\t%.0f\t%.0f\n", l.Sum.P50, l.Sum.P99)
	fmt.Fprintf(w, "%s\t%.0f\t%.0f\n", l.Chain.Name, l.Chain.Median.P50, l.Chain.Median.P99)
	fmt.Fprintf(w, "of the floors' sum\t%.2f\t%.2f\n", l.RatioP50, l.RatioP99)
	fmt.Fprintf(w, "target\t<= %.1f  %s\t<= %.1f  %s\n", medianTarget, mark(l.RatioP50 <= medianTarget), tailTarget, mark(l.RatioP99 <= tailTarget))
	w.Flush()
}
