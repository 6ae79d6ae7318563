package apply

import (
	"github.com/prometheus/client_golang/prometheus"
)

// The levels to which an invalidation is widened.
const (
	levelTenant = "tenant" // a rule, for one tenant
	levelRule   = "rule"   // a rule, for all tenants
	levelCache  = "cache"  // everything
)

// Causes of widening, beside the kinds of events that ask for it.
const (
	causeInexact     = "inexact" // a row does not tell its keys
	causeUndecodable = "undecodable"
	causeGap         = "gap"
)

type metrics struct {
	keys, widened, retries *prometheus.CounterVec
	sweeps, swept          *prometheus.CounterVec
	repeated, unrepeated   *prometheus.CounterVec
	breaker                *prometheus.GaugeVec
	feed                   prometheus.Counter
	latency, batch         prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	if r == nil {
		r = prometheus.NewRegistry()
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	m := &metrics{
		keys:     counters("walfence_keys_invalidated_total", "Keys removed from a cache, each once per batch.", "rule", "action"),
		widened:  counters("walfence_widened_total", "Invalidations that could not be exact, by how wide they became.", "level", "cause"),
		retries:  counters("walfence_cache_failures_total", "Attempts that a cache did not take, and that are made again.", "cache", "cause"),
		sweeps:   counters("walfence_sweeps_total", "Sweeps done, several requests in one counted once.", "cache"),
		swept:    counters("walfence_swept_keys_total", "Keys removed by sweeps.", "cache"),
		repeated: counters("walfence_keys_repeated_total", "Keys removed again, as rules' repeat asks.", "cache"),
		unrepeated: counters("walfence_repeats_given_up_total",
			"Keys and sweeps that were to be repeated, and are not: too many waited.", "cache"),
		breaker: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "walfence_cache_breaker_state", Help: "0: closed, all is well; 1: half open, one attempt; 2: open, the cache is away.",
		}, []string{"cache"}),
		feed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "walfence_feed_messages_total", Help: "Messages of applied invalidations in the feed.",
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "walfence_commit_to_invalidated_seconds",
			Help:    "From the commit, by the database's clock, until its keys are gone, by this one's.",
			Buckets: []float64{.00025, .0005, .00075, .001, .0015, .002, .003, .004, .006, .008, .012, .016, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "walfence_batch_events", Help: "Events applied together.", Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
	}
	r.MustRegister(m.breaker, m.feed, m.latency, m.batch)
	return m
}
