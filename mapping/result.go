package mapping

import (
	"hash/maphash"
	"slices"
	"strings"
)

// Result gathers what events lead to. The zero value is ready to use. It may be used again after Reset, but not from two
// goroutines at once. What it holds stays valid after Reset, except for the slices themselves.
type Result struct {
	// Keys to remove, each once per rule and cache.
	Keys []Key
	// Sweeps to make, each once per rule and tenant; none of one tenant where there is one of all.
	Sweeps []Sweep
	// Whole asks for all rules of all caches. Keys and Sweeps may be empty then.
	Whole bool
	Cause string // of Whole

	arena []byte // text of all keys; what was added since begin is not in Keys yet
	spans []span
	fresh int // the first span that is not in Keys yet
	mark  int // where the arena ended at begin
	slots []slot
	round uint32 // of the slots that count
	seed  maphash.Seed
	swept map[sweepID]struct{}
}

// Key is one key to remove from one cache.
type Key struct {
	Rule   *Rule
	Cache  int    // index of Program.Caches
	Tenant string // as in the row, not escaped; means nothing if Rule.Global
	Key    string
}

// Sweep asks for everything that a rule can have rendered, in all its caches; [Rule.Patterns] matches it.
type Sweep struct {
	Rule   *Rule
	Tenant string // as in the row, not escaped; means nothing if All
	All    bool   // for all tenants; always so for a global rule
	Cause  string
}

// span is a key's place in the arena.
type span struct {
	rule     *Rule
	tenant   string
	from, to int
	hash     uint64
}

// slot leads from a hash to a span. It counts only in its round, so that Reset need not clear.
type slot struct{ round, span uint32 }

type sweepID struct {
	rule   *Rule
	tenant string
	all    bool
}

// maxKeptBytes is the largest arena that Reset keeps: one huge event must not hold its memory for ever.
const maxKeptBytes = 4 << 20

// Reset empties the result and keeps its memory.
func (r *Result) Reset() {
	if cap(r.arena) > maxKeptBytes {
		*r = Result{}
		return
	}
	clear(r.Keys) // strings must not hold events that are done
	clear(r.Sweeps)
	clear(r.spans)
	r.Keys, r.Sweeps, r.spans = r.Keys[:0], r.Sweeps[:0], r.spans[:0]
	r.Whole, r.Cause = false, ""
	r.arena, r.fresh, r.mark = r.arena[:0], 0, 0
	r.round++
	if r.round == 0 { // after 2^32 times: no slot may count by accident
		clear(r.slots)
		r.round = 1
	}
	clear(r.swept)
}

func (r *Result) begin() { r.mark = len(r.arena) }

// finish turns what was rendered since begin into keys that share one string.
func (r *Result) finish() {
	if r.fresh == len(r.spans) {
		return
	}
	text := string(r.arena[r.mark:])
	for i := range r.spans[r.fresh:] {
		s := &r.spans[r.fresh+i]
		key := text[s.from-r.mark : s.to-r.mark]
		for _, c := range s.rule.Caches {
			r.Keys = append(r.Keys, Key{Rule: s.rule, Cache: c, Tenant: s.tenant, Key: key})
		}
	}
	r.fresh = len(r.spans)
}

// key adds the key that stands at the end of the arena, unless the rule has made it before.
func (r *Result) key(rule *Rule, tenant string, from int) {
	if 2*len(r.spans) >= len(r.slots) {
		r.grow()
	}
	text := r.arena[from:]
	hash := maphash.Bytes(r.seed, text) + uint64(rule.ordinal)
	at := hash & uint64(len(r.slots)-1)
	for ; r.slots[at].round == r.round; at = (at + 1) & uint64(len(r.slots)-1) {
		s := &r.spans[r.slots[at].span]
		if s.hash == hash && s.rule == rule && string(r.arena[s.from:s.to]) == string(text) {
			r.arena = r.arena[:from]
			return
		}
	}
	r.slots[at] = slot{r.round, uint32(len(r.spans))}
	r.spans = append(r.spans, span{rule, tenant, from, len(r.arena), hash})
}

// grow doubles the slots.
func (r *Result) grow() {
	if r.slots == nil {
		r.seed = maphash.MakeSeed()
	}
	r.slots = make([]slot, max(64, 2*len(r.slots)))
	r.round = 1
	for i := range r.spans {
		at := r.spans[i].hash & uint64(len(r.slots)-1)
		for r.slots[at].round == r.round {
			at = (at + 1) & uint64(len(r.slots)-1)
		}
		r.slots[at] = slot{r.round, uint32(i)}
	}
}

// sweep adds a sweep, unless it or one of all tenants is there.
func (r *Result) sweep(rule *Rule, tenant string, all bool, why reason) {
	id := sweepID{rule, tenant, all}
	if _, ok := r.swept[id]; ok {
		return
	}
	if _, ok := r.swept[sweepID{rule: rule, all: true}]; ok {
		return
	}
	if r.swept == nil {
		r.swept = map[sweepID]struct{}{}
	}
	r.swept[id] = struct{}{}
	if all {
		r.Sweeps = slices.DeleteFunc(r.Sweeps, func(s Sweep) bool { return s.Rule == rule })
	}
	r.Sweeps = append(r.Sweeps, Sweep{Rule: rule, Tenant: tenant, All: all, Cause: strings.Clone(why.String())})
}

// all asks for everything.
func (r *Result) all(cause string) {
	if !r.Whole {
		r.Whole, r.Cause = true, cause
	}
}
