package relay

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walfence/walfence/pkg/events"
)

// Metrics count what a relay reads and publishes.
type Metrics struct {
	transactions prometheus.Counter
	changes      prometheus.Counter
	retries      prometheus.Counter
	widened      *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, r *Relay) *Metrics {
	m := &Metrics{
		transactions: prometheus.NewCounter(prometheus.CounterOpts{Name: "walfence_cdc_transactions_total", Help: "Commits read from PostgreSQL."}),
		changes:      prometheus.NewCounter(prometheus.CounterOpts{Name: "walfence_cdc_changes_total", Help: "Row changes and truncates read, of all published tables."}),
		retries:      prometheus.NewCounter(prometheus.CounterOpts{Name: "walfence_cdc_publish_retries_total", Help: "Attempts to publish that were given up and begun again."}),
		widened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walfence_cdc_widened_total",
			Help: "Changes that could not be told exactly and became a sweep, by reason.",
		}, []string{"reason"}),
	}
	reg.MustRegister(m.transactions, m.changes, m.retries, m.widened, &gauges{r: r})
	return m
}

// gauges are read when somebody asks.
type gauges struct{ r *Relay }

var (
	inFlight      = prometheus.NewDesc("walfence_cdc_events_in_flight", "Events without an ack from JetStream.", nil, nil)
	inFlightBytes = prometheus.NewDesc("walfence_cdc_pending_bytes", "Bytes read that are not in the stream yet, those that wait at the gate included.", nil, nil)
	gateWaiting   = prometheus.NewDesc("walfence_cdc_gate_waiting", "Transactions that are not visible yet.", nil, nil)
	gateOldest    = prometheus.NewDesc("walfence_cdc_gate_oldest_seconds", "How long the oldest of them has waited.", nil, nil)
	gateWaits     = prometheus.NewDesc("walfence_cdc_gate_waits_total", "Transactions that were not visible when they were read.", nil, nil)
	gateQueries   = prometheus.NewDesc("walfence_cdc_gate_queries_total", "Snapshots taken.", nil, nil)
	unconfirmed   = prometheus.NewDesc("walfence_cdc_unpublished_transactions", "Transactions read that are not wholly in the stream.", nil, nil)
	floorLSN      = prometheus.NewDesc("walfence_cdc_floor_lsn", "LSN up to which everything is in the stream.", nil, nil)
	ackedLSN      = prometheus.NewDesc("walfence_cdc_acked_floor_lsn", "Highest floor that itself stands in the stream.", nil, nil)
	epochNumber   = prometheus.NewDesc("walfence_cdc_epoch", "The epoch.", nil, nil)
)

// Describe is part of prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, ch) }

// Collect is part of prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	st := g.r.Status()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	counter := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	gauge(inFlight, float64(st.InFlight))
	gauge(inFlightBytes, float64(st.PendingBytes))
	gauge(gateWaiting, float64(st.GateWaiting))
	gauge(gateOldest, st.GateOldest.Seconds())
	counter(gateWaits, float64(st.GateWaits))
	counter(gateQueries, float64(st.GateQueries))
	gauge(unconfirmed, float64(st.Unpublished))
	gauge(floorLSN, float64(st.Floor))
	gauge(ackedLSN, float64(st.AckedFloor))
	gauge(epochNumber, float64(st.Epoch))
}

// Status is where a relay stands.
type Status struct {
	Epoch        uint64        `json:"epoch"`
	Floor        events.LSN    `json:"floor"`
	AckedFloor   events.LSN    `json:"acked_floor"` // that stands in an acked message
	Published    events.LSN    `json:"published"`   // commit LSN of the newest published transaction
	PublishedAt  time.Time     `json:"published_at"`
	Unpublished  int           `json:"unpublished"` // transactions that are not wholly in the stream
	Oldest       events.LSN    `json:"oldest,omitempty"`
	InFlight     int           `json:"in_flight"`     // events without an ack
	PendingBytes int64         `json:"pending_bytes"` // read and not in the stream
	GateWaiting  int           `json:"gate_waiting"`
	GateOldest   time.Duration `json:"gate_oldest_ns"`
	GateWaits    uint64        `json:"gate_waits"`
	GateQueries  uint64        `json:"gate_queries"`
	Failing      string        `json:"failing,omitempty"` // why publishing stalls
	Settling     bool          `json:"settling"`          // a second sweep is owed
}

// Status returns where the relay stands.
func (r *Relay) Status() Status {
	st := Status{PendingBytes: r.budget.used.Load()}
	if r.publisher != nil {
		var err error
		if st.InFlight, _, _, err = r.publisher.Queued(); err != nil {
			st.Failing = err.Error()
		}
	}
	s := r.session.Load()
	if s == nil {
		return st
	}
	origin := s.origin.Load()
	st.Epoch, st.Settling = origin.Epoch, origin.Settling
	var published, oldest events.Transaction
	st.Floor, published = s.ledger.state()
	st.Published, st.PublishedAt = published.LSN, published.Time
	st.Unpublished, oldest = s.ledger.pending()
	st.Oldest = oldest.LSN
	st.AckedFloor = s.cfg.out.confirmer.acked()
	if g := s.waits.Load(); g != nil {
		var since time.Time
		if st.GateWaiting, since = g.Waiting(); st.GateWaiting > 0 {
			st.GateOldest = time.Since(since)
		}
		st.GateWaits, st.GateQueries = g.Counts()
	}
	return st
}
