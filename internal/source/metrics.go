package source

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/pkg/events"
)

// metrics tell of the slot and of sessions.
type metrics struct {
	sessions, epochs *prometheus.CounterVec
	read             prometheus.Counter
	problems         prometheus.Gauge
	confirmLag       prometheus.Gauge
	confirmLagTime   prometheus.Gauge
	retained         prometheus.Gauge
	safe             prometheus.Gauge
	xminAge          prometheus.Gauge

	mu    sync.Mutex
	slot  SlotStatus
	bytes uint64  // read by the connection when last looked
	trail []point // where WAL ended, and when: how old the confirmed position is
}

type point struct {
	at  time.Time
	lsn events.LSN
}

// SlotStatus is the slot as last seen.
type SlotStatus struct {
	At            time.Time  `json:"at"`
	Current       events.LSN `json:"current_wal_lsn"`
	Confirmed     events.LSN `json:"confirmed_flush_lsn"`
	LagBytes      int64      `json:"confirm_lag_bytes"`
	LagSeconds    float64    `json:"confirm_lag_seconds"`
	RetainedBytes int64      `json:"retained_bytes"`
	SafeWALSize   *int64     `json:"safe_wal_size"`
	WALStatus     string     `json:"wal_status"`
}

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "walfence_" + name, Help: help})
	}
	m := &metrics{
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walfence_cdc_sessions_total",
			Help: "Replication sessions that began and ended.",
		}, []string{"what"}),
		epochs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walfence_cdc_epochs_total",
			Help: "Epochs begun, by why continuity could not be proved.",
		}, []string{"reason"}),
		read:           prometheus.NewCounter(prometheus.CounterOpts{Name: "walfence_cdc_read_bytes_total", Help: "Bytes read from the replication connection."}),
		problems:       gauge("cdc_table_problems", "Tables of the rules that do not fit the database."),
		confirmLag:     gauge("cdc_confirm_lag_bytes", "WAL written and not confirmed."),
		confirmLagTime: gauge("cdc_confirm_lag_seconds", "Age of the confirmed position, to the nearest look at the slot."),
		retained:       gauge("slot_retained_bytes", "WAL that PostgreSQL keeps for the slot."),
		safe:           gauge("slot_safe_wal_bytes", "WAL that may be written before the slot can be lost; -1 if it never is."),
		xminAge:        gauge("slot_catalog_xmin_age", "Transactions since the oldest for which PostgreSQL keeps catalog rows for the slot."),
	}
	reg.MustRegister(m.sessions, m.epochs, m.read, m.problems, m.confirmLag, m.confirmLagTime, m.retained, m.safe, m.xminAge)
	return m
}

func (m *metrics) observe(s *catalog.Slot, current events.LSN, read uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.slot = SlotStatus{
		At: now, Current: current, Confirmed: s.ConfirmedFlush, LagBytes: int64(current - s.ConfirmedFlush),
		LagSeconds: m.age(current, s.ConfirmedFlush, now).Seconds(), RetainedBytes: s.RetainedBytes,
		SafeWALSize: s.SafeWALSize, WALStatus: s.WALStatus,
	}
	m.confirmLag.Set(float64(m.slot.LagBytes))
	m.confirmLagTime.Set(m.slot.LagSeconds)
	m.retained.Set(float64(s.RetainedBytes))
	m.xminAge.Set(float64(s.CatalogXminAge))
	m.safe.Set(-1)
	if s.SafeWALSize != nil {
		m.safe.Set(float64(*s.SafeWALSize))
	}
	if read >= m.bytes {
		m.read.Add(float64(read - m.bytes))
	} else { // another connection
		m.read.Add(float64(read))
	}
	m.bytes = read
}

// age returns how long ago WAL ended where the slot is confirmed. It keeps one point for each look, at most an hour of them.
func (m *metrics) age(current, confirmed events.LSN, now time.Time) time.Duration {
	for len(m.trail) > 1 && (m.trail[1].lsn <= confirmed || now.Sub(m.trail[0].at) > time.Hour) {
		m.trail = m.trail[1:]
	}
	m.trail = append(m.trail, point{at: now, lsn: current})
	if confirmed >= current {
		return 0
	}
	return now.Sub(m.trail[0].at)
}

// Slot returns the slot as last seen.
func (s *Source) Slot() SlotStatus {
	s.metrics.mu.Lock()
	defer s.metrics.mu.Unlock()
	return s.metrics.slot
}
