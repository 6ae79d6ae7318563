package cache

import "github.com/prometheus/client_golang/prometheus"

// Collector returns the cache's metrics for a Prometheus registry, labelled with Options.Name. Nothing is spent on them but
// when they are collected. No label holds a key or a tenant.
func (c *Cache[T]) Collector() prometheus.Collector {
	labels := prometheus.Labels{"cache": c.opt.Name}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("walfence_cache_"+name, help, variable, labels)
	}
	return &collector{
		stats: c.Stats, counters: &c.stats, live: c.liveness(),
		reads:    desc("reads_total", "Reads by what they found.", "result"),
		fills:    desc("fills_total", "Loaded values by whether they were stored, or why not.", "result"),
		errors:   desc("errors_total", "What went wrong: loads that failed, values that could not be decoded.", "kind"),
		tripped:  desc("breaker_opened_total", "Times that calls to Redis were suspended."),
		dropped:  desc("local_dropped_total", "Times that everything in the process's own memory was dropped."),
		feed:     desc("feed_live", "Whether values are served from the process's own memory."),
		loadTime: desc("load_seconds", "How long loaders took."),
		waitTime: desc("wait_seconds", "How long misses waited for another's load."),
	}
}

// liveness returns how to ask the feed, or nil without one.
func (c *Cache[T]) liveness() func() (bool, string) {
	if c.local == nil {
		return nil
	}
	return c.local.feed.Live
}

type collector struct {
	stats    func() Stats
	counters *counters
	live     func() (bool, string)

	reads, fills, errors, tripped, dropped, feed, loadTime, waitTime *prometheus.Desc
}

// Describe sends the metrics' descriptions.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.reads, c.fills, c.errors, c.tripped, c.dropped, c.feed, c.loadTime, c.waitTime} {
		to <- d
	}
}

// Collect sends the metrics.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.stats()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	count(c.reads, s.LocalHits, "local")
	count(c.reads, s.Hits, "hit")
	count(c.reads, s.Stale, "stale")
	count(c.reads, s.StaleOnError, "stale_on_error")
	count(c.reads, s.Misses, "miss")
	count(c.reads, s.Bypassed, "bypassed")
	count(c.reads, s.Unavailable, "unavailable")
	count(c.fills, s.Filled, "stored")
	count(c.fills, s.Failed, "failed")
	count(c.fills, c.counters.refusedGuard.Load(), refusedGuard)
	count(c.fills, c.counters.refusedReplica.Load(), refusedReplica)
	count(c.fills, c.counters.refusedWithoutFill.Load(), refusedWithoutFill)
	count(c.errors, s.LoadErrors, "load")
	count(c.errors, s.Undecodable, "undecodable")
	count(c.tripped, s.Tripped)
	if c.live != nil {
		live := 0.0
		if ok, _ := c.live(); ok {
			live = 1
		}
		to <- prometheus.MustNewConstMetric(c.feed, prometheus.GaugeValue, live)
		count(c.dropped, s.Dropped)
	}
	to <- c.counters.loadTime.metric(c.loadTime)
	to <- c.counters.waitTime.metric(c.waitTime)
}

// metric returns the histogram as of now.
func (d *durations) metric(desc *prometheus.Desc) prometheus.Metric {
	buckets, total := make(map[float64]uint64, len(bounds)), uint64(0)
	for i, bound := range bounds {
		total += d.counts[i].Load()
		buckets[bound] = total
	}
	total += d.counts[len(bounds)].Load()
	return prometheus.MustNewConstHistogram(desc, total, float64(d.nanos.Load())/1e9, buckets)
}
