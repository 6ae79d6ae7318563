package mapping

import "github.com/walfence/walfence/pkg/events"

// Patterns returns what matches every key that the rule can render, for one tenant or for all. A global rule has no
// tenant: its patterns are always those of all its keys.
func (r *Rule) Patterns(tenant string, all bool) []events.Pattern {
	out := make([]events.Pattern, len(r.outputs))
	for i := range r.outputs {
		t := r.outputs[i].template
		if !all {
			t = t.fill(fromTenant, string(events.AppendKeyPart(nil, tenant)))
		}
		out[i] = events.Pattern(append([]string(nil), t.literals...))
	}
	return out
}
