package main

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

// scrape reads a program's metrics.
func (p *program) scrape(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	_, body, err := p.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("read metrics of %s: %w", p.name, err)
	}
	return families, nil
}

// sum adds up a counter over all its labels.
func sum(families map[string]*dto.MetricFamily, name string) (total float64) {
	for _, m := range families[name].GetMetric() {
		total += m.GetCounter().GetValue()
	}
	return total
}

// latency is a histogram of seconds: counts up to each bound, and all.
type latency struct {
	bounds []float64
	counts []float64 // cumulative, as Prometheus has them
	total  float64
}

func readLatency(families map[string]*dto.MetricFamily, name string) (l latency) {
	for _, m := range families[name].GetMetric() {
		h := m.GetHistogram()
		l.total = float64(h.GetSampleCount())
		for _, b := range h.GetBucket() {
			l.bounds = append(l.bounds, b.GetUpperBound())
			l.counts = append(l.counts, float64(b.GetCumulativeCount()))
		}
	}
	return l
}

// minus is what was added since an earlier reading. A program that was restarted counts from 0 again.
func (l latency) minus(earlier latency) latency {
	if earlier.total > l.total || len(earlier.counts) != len(l.counts) {
		return l
	}
	out := latency{bounds: l.bounds, counts: slices.Clone(l.counts), total: l.total - earlier.total}
	for i, n := range earlier.counts {
		out.counts[i] -= n
	}
	return out
}

func (l latency) plus(more latency) latency {
	if len(l.counts) != len(more.counts) {
		return more
	}
	out := latency{bounds: l.bounds, counts: slices.Clone(l.counts), total: l.total + more.total}
	for i, n := range more.counts {
		out.counts[i] += n
	}
	return out
}

// quantile is what the given part does not exceed, interpolated between two bounds; 0 if there is nothing.
func (l latency) quantile(part float64) time.Duration {
	if l.total == 0 {
		return 0
	}
	rank := part * l.total
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

// gained is how much a counter has grown since an earlier reading.
func gained(now, earlier float64) float64 {
	if now < earlier {
		return now
	}
	return now - earlier
}
