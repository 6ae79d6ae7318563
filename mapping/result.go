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
	// Refreshes to make: keys to remove, and to fill again, each once per rule and cache.
	Refreshes []Refresh
	// Lookups to make, each once; [Lookup.Found] goes on from the rows.
	Lookups []Lookup
	// Purges to make, each once per rule.
	Purges []Purge
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
	once  map[string]struct{} // lookups and purges that are there

	params  [][]string // of refreshes
	scratch []byte
	env     *env
	memos   map[*boundClause]*memo
}

// Key is one key to remove from one cache.
type Key struct {
	Rule   *Rule
	Cache  int    // index of Program.Caches
	Tenant string // as in the row, not escaped; means nothing if Rule.Global
	Key    string
	// Scope is the name of the scope of which the key holds the generation: removing the key bumps it. Empty for others.
	Scope string
}

// Refresh is one key to fill again in one cache. A key that cannot be filled in time must be removed.
type Refresh struct {
	Rule   *Rule
	Cache  int    // index of Program.Caches
	Tenant string // as in the row, not escaped; means nothing if Rule.Global
	Key    string
	Spec   *RefreshSpec
	Params []string // by the query's, as PostgreSQL's text; they follow from the key
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
	output   *output
	tenant   string
	from, to int
	hash     uint64
	params   int // index of Result.params, of a refresh
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
	clear(r.Refreshes)
	clear(r.Lookups)
	clear(r.Purges)
	clear(r.params)
	clear(r.once)
	r.Refreshes, r.Lookups, r.Purges, r.params = r.Refreshes[:0], r.Lookups[:0], r.Purges[:0], r.params[:0]
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
			if o := s.output; o.refresh == nil {
				r.Keys = append(r.Keys, Key{Rule: s.rule, Cache: c, Tenant: s.tenant, Key: key, Scope: o.scope})
			} else {
				r.Refreshes = append(r.Refreshes, Refresh{
					Rule: s.rule, Cache: c, Tenant: s.tenant, Key: key, Spec: o.refresh, Params: r.params[s.params],
				})
			}
		}
	}
	r.fresh = len(r.spans)
}

// key adds the key that stands at the end of the arena, unless the rule has made it before, to the same end.
func (r *Result) key(rule *Rule, o *output, tenant string, from int) bool {
	if 2*len(r.spans) >= len(r.slots) {
		r.grow()
	}
	text := r.arena[from:]
	hash := maphash.Bytes(r.seed, text) + uint64(rule.ordinal)
	at := hash & uint64(len(r.slots)-1)
	for ; r.slots[at].round == r.round; at = (at + 1) & uint64(len(r.slots)-1) {
		s := &r.spans[r.slots[at].span]
		if s.hash == hash && s.rule == rule && s.output.refresh == o.refresh && s.output.scope == o.scope && string(r.arena[s.from:s.to]) == string(text) {
			r.arena = r.arena[:from]
			return false
		}
	}
	r.slots[at] = slot{r.round, uint32(len(r.spans))}
	r.spans = append(r.spans, span{rule: rule, output: o, tenant: tenant, from: from, to: len(r.arena), hash: hash})
	return true
}

// bind notes the parameters of the refresh whose key was added last.
func (r *Result) bind(o *boundOutput, w row) {
	params := make([]string, len(o.binds))
	for i, b := range o.binds {
		params[i] = b.text
		if b.field >= 0 {
			params[i] = w.value(o.indexes[b.field]).Text
		}
	}
	r.spans[len(r.spans)-1].params = len(r.params)
	r.params = append(r.params, params)
}

// first tells whether something was not there yet, by all that tells it from others.
func (r *Result) first(id []byte) bool {
	if _, ok := r.once[string(id)]; ok {
		return false
	}
	if r.once == nil {
		r.once = map[string]struct{}{}
	}
	r.once[string(id)] = struct{}{}
	return true
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
