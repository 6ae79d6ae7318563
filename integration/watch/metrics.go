package watch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics are what a program counted up to one moment.
type Metrics map[string]*dto.MetricFamily

// Metrics reads /metrics.
func (p Program) Metrics(ctx context.Context) (Metrics, error) {
	_, body, err := p.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("read metrics of %s: %w", p.Name, err)
	}
	return families, nil
}

// Sum adds up a counter or gauge over all that has the given labels, each written name=value. What is not there is 0.
func (m Metrics) Sum(name string, labels ...string) (total float64) {
	for _, one := range m[name].GetMetric() {
		if has(one, labels) {
			total += one.GetCounter().GetValue() + one.GetGauge().GetValue()
		}
	}
	return total
}

func has(one *dto.Metric, labels []string) bool {
	for _, want := range labels {
		if !slices.ContainsFunc(one.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName()+"="+l.GetValue() == want }) {
			return false
		}
	}
	return true
}

// Latency is a histogram of seconds.
type Latency struct {
	// Count is how many there are.
	Count  float64
	bounds []float64
	counts []float64 // up to each bound, as Prometheus has them
}

// Latency reads a histogram without labels.
func (m Metrics) Latency(name string) (l Latency) {
	for _, one := range m[name].GetMetric() {
		h := one.GetHistogram()
		l.Count = float64(h.GetSampleCount())
		for _, b := range h.GetBucket() {
			l.bounds = append(l.bounds, b.GetUpperBound())
			l.counts = append(l.counts, float64(b.GetCumulativeCount()))
		}
	}
	return l
}

// Since is what was added after an earlier reading. A program that was restarted in between counts from 0 again.
func (l Latency) Since(earlier Latency) Latency {
	if earlier.Count > l.Count || len(earlier.counts) != len(l.counts) {
		return l
	}
	out := Latency{bounds: l.bounds, counts: slices.Clone(l.counts), Count: l.Count - earlier.Count}
	for i, n := range earlier.counts {
		out.counts[i] -= n
	}
	return out
}

// Plus adds two up.
func (l Latency) Plus(more Latency) Latency {
	if len(l.counts) != len(more.counts) {
		return more
	}
	out := Latency{bounds: l.bounds, counts: slices.Clone(l.counts), Count: l.Count + more.Count}
	for i, n := range more.counts {
		out.counts[i] += n
	}
	return out
}

// Quantile is what the given part does not exceed, interpolated between two bounds; 0 if there is nothing.
func (l Latency) Quantile(part float64) time.Duration {
	if l.Count == 0 {
		return 0
	}
	rank := part * l.Count
	low, below := 0.0, 0.0
	for i, bound := range l.bounds {
		if n := l.counts[i]; n >= rank && n > below {
			return seconds(low + (bound-low)*(rank-below)/(n-below))
		}
		low, below = bound, l.counts[i]
	}
	return seconds(low)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Gained is how much a counter has grown since an earlier reading, also if the program was restarted in between.
func Gained(now, earlier float64) float64 {
	if now < earlier {
		return now
	}
	return now - earlier
}
