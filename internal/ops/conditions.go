package ops

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Condition is one thing that must hold for a program to do its work.
type Condition struct {
	// Name is what it is about: postgres, nats, epoch.
	Name string `json:"name"`
	// OK tells whether it holds.
	OK bool `json:"ok"`
	// Reason says why it does not hold.
	Reason string `json:"reason,omitempty"`
	// Since is when it last began or ceased to hold.
	Since time.Time `json:"since"`
}

// Conditions are all that must hold for a program to be ready. All methods may be called from any goroutine.
type Conditions struct {
	mu    sync.Mutex
	named map[string]Condition
	desc  *prometheus.Desc
}

// NewConditions makes conditions that do not hold yet.
func NewConditions(names ...string) *Conditions {
	c := &Conditions{
		named: make(map[string]Condition),
		desc:  prometheus.NewDesc("walfence_condition", "Whether a condition of readiness holds.", []string{"name"}, nil),
	}
	for _, name := range names {
		c.Set(name, false, "starting")
	}
	return c
}

// Set says whether a condition holds, and if not, why. A name that is new adds a condition.
func (c *Conditions) Set(name string, ok bool, reason string) {
	if ok {
		reason = ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	was, known := c.named[name]
	since := was.Since
	if !known || was.OK != ok {
		since = time.Now()
	}
	c.named[name] = Condition{Name: name, OK: ok, Reason: reason, Since: since}
}

// All returns the conditions in the order of their names.
func (c *Conditions) All() []Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Condition, 0, len(c.named))
	for _, condition := range c.named {
		all = append(all, condition)
	}
	slices.SortFunc(all, func(a, b Condition) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Ready tells whether all conditions hold.
func (c *Conditions) Ready() bool {
	return !slices.ContainsFunc(c.All(), func(c Condition) bool { return !c.OK })
}

// Describe implements prometheus.Collector.
func (c *Conditions) Describe(out chan<- *prometheus.Desc) { out <- c.desc }

// Collect implements prometheus.Collector.
func (c *Conditions) Collect(out chan<- prometheus.Metric) {
	for _, condition := range c.All() {
		value := 0.0
		if condition.OK {
			value = 1
		}
		out <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, value, condition.Name)
	}
}
