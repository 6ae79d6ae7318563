package check

import (
	"sync"
	"time"
)

// kept is how many of a key's newest versions are remembered. A reader that is further behind than that is counted as
// less late than it was.
const kept = 16

// History knows when which version of a key was committed, and so how late a read was. It may be used from many
// goroutines.
type History struct {
	mu    sync.Mutex
	keys  map[string][]state
	reads Reads
}

// state is one version of what stands behind a key, known to be committed at a time.
type state struct {
	ver  int64
	gone bool // nothing stands behind it since
	at   time.Time
}

// Reads are the reads that a history has judged.
type Reads struct {
	// Judged is how many there were, of keys of which a commit was told.
	Judged uint64
	// Late is how many returned a value that a commit had replaced before the read began.
	Late uint64
	// Lateness is how long before.
	Lateness Histogram
}

// NewHistory returns an empty history.
func NewHistory() *History { return &History{keys: make(map[string][]state)} }

// Committed tells that a version of a key is committed. It is called after the commit has returned.
func (h *History) Committed(key string, ver int64) { h.add(key, state{ver: ver, at: time.Now()}) }

// Gone tells that from a version on nothing stands behind a key any more.
func (h *History) Gone(key string, ver int64) {
	h.add(key, state{ver: ver, gone: true, at: time.Now()})
}

func (h *History) add(key string, s state) {
	h.mu.Lock()
	defer h.mu.Unlock()
	states := h.keys[key]
	at := len(states) // two writers' commits may be told in either order
	for at > 0 && states[at-1].ver > s.ver {
		at--
	}
	states = append(states, state{})
	copy(states[at+1:], states[at:])
	states[at] = s
	if len(states) > kept {
		states = states[:copy(states, states[1:])]
	}
	h.keys[key] = states
}

// Newest is the highest version of a key that was told, or 0.
func (h *History) Newest(key string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	states := h.keys[key]
	if len(states) == 0 {
		return 0
	}
	return states[len(states)-1].ver
}

// Read judges a read of a key that began at a time, and returns how late it was.
func (h *History) Read(key string, value Value, began time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	states := h.keys[key]
	if len(states) == 0 {
		return 0
	}
	late := lateness(states, value.Ver, began)
	h.reads.Judged++
	if late > 0 {
		h.reads.Late++
		h.reads.Lateness.Add(late)
	}
	return late
}

// lateness is how long before a read the first state after the one that it saw was committed. Version 0 is the last that was gone,
// or what was before all that is known.
func lateness(states []state, ver int64, began time.Time) time.Duration {
	seen := -1
	for i, s := range states {
		if ver == 0 && s.gone || ver != 0 && s.ver <= ver {
			seen = i
		}
	}
	for _, s := range states[seen+1:] {
		if s.at.Before(began) {
			return began.Sub(s.at)
		}
	}
	return 0
}

// Reads returns what was judged so far.
func (h *History) Reads() Reads {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reads
}

// Histogram counts durations in steps of a quarter, from 64 us on. Its zero value is empty.
type Histogram struct {
	// Count is how many there are, and Max the longest.
	Count  uint64
	Max    time.Duration
	counts [128]uint64
}

const shortest = 64 * time.Microsecond

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	i := 0
	for bound := shortest; d > bound && i < len(h.counts)-1; bound += bound / 4 {
		i++
	}
	h.counts[i]++
	h.Count++
	h.Max = max(h.Max, d)
}

// Quantile returns a bound that the given part of all durations does not exceed; 0 if there are none.
func (h *Histogram) Quantile(part float64) time.Duration {
	rank := uint64(part * float64(h.Count))
	sum := uint64(0)
	bound := shortest
	for _, n := range h.counts {
		if sum += n; sum > rank || sum == h.Count && n > 0 {
			return min(bound, h.Max)
		}
		bound += bound / 4
	}
	return h.Max
}
