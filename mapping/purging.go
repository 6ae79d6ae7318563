package mapping

import (
	"encoding/json"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/walfence/walfence/pkg/events"
)

// boundPurge is a purge with the indexes of its columns, by its fields.
type boundPurge struct {
	*PurgeSpec
	columns    []string
	indexes    []int
	tenant     int
	identified bool
}

// columns returns the columns that what is purged is made of, each once.
func (s *PurgeSpec) columns() []string {
	var out []string
	for _, t := range s.texts() {
		out = append(out, t.columns()...)
	}
	return unique(out)
}

// texts returns the texts that are filled from a row.
func (s *PurgeSpec) texts() []*purgeText {
	if s.key != nil {
		return []*purgeText{s.key}
	}
	return s.one.texts()
}

func (q *purgeRequest) texts() []*purgeText {
	out := []*purgeText{q.url}
	for _, h := range q.headers {
		out = append(out, h.text)
	}
	return jsonTexts(q.json, out)
}

func jsonTexts(v any, out []*purgeText) []*purgeText {
	switch v := v.(type) {
	case *purgeText:
		return append(out, v)
	case []any:
		for _, item := range v {
			out = jsonTexts(item, out)
		}
	case map[string]any:
		for _, item := range v {
			out = jsonTexts(item, out)
		}
	}
	return out
}

func (l *layout) bindPurge(s *PurgeSpec, tenant int) boundPurge {
	b := boundPurge{PurgeSpec: s, columns: s.columns(), tenant: tenant}
	b.indexes = l.indexes(b.columns)
	b.identified = l.identified(b.indexes) && (tenant < 0 || l.identified([]int{tenant}))
	return b
}

// purge adds what a row purges, or what stands in for it where that is not known.
func (r *boundRule) purge(p *boundPurge, w row, out *Result) {
	tenant := r.tenantOf(w)
	values := map[string]events.Value{"tenant": tenant}
	for i, c := range p.columns {
		values[c] = w.value(p.indexes[i])
	}
	texts := p.texts()
	if slices.ContainsFunc(texts, func(t *purgeText) bool { return t.null(values) }) {
		return // whatever else is unknown
	}
	for _, t := range texts {
		if i := t.unknown(values); i >= 0 {
			at := p.tenant
			if f := t.fields[i]; f.source == fromColumn {
				at = p.index(f.column)
			}
			r.widen(&t.template, w, doubtOf(values[t.fields[i].name()].State, w.old, at), i, out)
			return
		}
	}
	p.add(r, tenant.Text, values, out)
}

func (p *boundPurge) index(column string) int {
	for i, c := range p.columns {
		if c == column {
			return p.indexes[i]
		}
	}
	return -1
}

func (p *boundPurge) add(r *boundRule, tenant string, values map[string]events.Value, out *Result) {
	purge := Purge{Rule: r.Rule, Spec: p.PurgeSpec, Tenant: tenant}
	fill := func(dst []byte, t *purgeText) []byte { return t.fill(dst, values) }
	id := strconv.AppendInt(out.scratch[:0], int64(r.ordinal), 10)
	id = append(strconv.AppendInt(append(id, 'p'), int64(p.ordinal), 10), ':')
	if p.key != nil {
		purge.Key = string(p.key.fill(nil, values))
		id = append(id, purge.Key...)
	} else {
		purge.Request = p.one.render(fill, nil)
		for _, t := range p.texts() {
			id = append(t.fill(id, values), 0)
		}
	}
	out.scratch = id
	if out.first(id) {
		out.Purges = append(out.Purges, purge)
	}
}

// null tells whether a field without a default is NULL.
func (t *purgeText) null(values map[string]events.Value) bool {
	return slices.ContainsFunc(t.fields, func(f field) bool { return values[f.name()].State == events.Null && !f.falls })
}

// unknown returns the first field whose value is not known; -1 for none.
func (t *purgeText) unknown(values map[string]events.Value) int {
	return slices.IndexFunc(t.fields, func(f field) bool {
		state := values[f.name()].State
		return state == events.Absent || state == events.Unchanged
	})
}

// fill appends the text with its values.
func (t *purgeText) fill(dst []byte, values map[string]events.Value) []byte {
	dst = append(dst, t.literals[0]...)
	for i := range t.fields {
		f := &t.fields[i]
		if v := values[f.name()]; v.State == events.Present {
			dst = t.medium.append(dst, v.Text)
		} else {
			dst = append(dst, f.fallback...)
		}
		dst = append(dst, t.literals[i+1]...)
	}
	return dst
}

// render makes a request. Where keys is set, a text of the body that is only {keys} becomes the list.
func (q *purgeRequest) render(fill func([]byte, *purgeText) []byte, keys []string) *PurgeRequest {
	out := &PurgeRequest{Method: q.method, URL: string(fill(nil, q.url)), Header: textproto.MIMEHeader{}}
	for _, h := range q.headers {
		out.Header.Add(h.name, string(fill(nil, h.text)))
	}
	if q.json != nil {
		out.Header.Set("Content-Type", "application/json")
		out.Body, _ = json.Marshal(jsonValue(q.json, fill, keys)) // texts, lists and mappings: never fails
	}
	return out
}

func jsonValue(v any, fill func([]byte, *purgeText) []byte, keys []string) any {
	switch v := v.(type) {
	case *purgeText:
		if len(v.fields) == 1 && v.fields[0].name() == "keys" && strings.Join(v.literals, "") == "" {
			return keys
		}
		return string(fill(nil, v))
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = jsonValue(v[i], fill, keys)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for name := range v {
			out[name] = jsonValue(v[name], fill, keys)
		}
		return out
	}
	return v
}

// Batch returns the requests that purge keys, of which each names at most Size.
func (s *PurgeSpec) Batch(keys []string) []*PurgeRequest {
	var out []*PurgeRequest
	for len(keys) > 0 {
		n := min(s.Size, len(keys))
		part := keys[:n]
		joined := strings.Join(part, s.separator)
		out = append(out, s.one.render(func(dst []byte, t *purgeText) []byte {
			dst = append(dst, t.literals[0]...)
			for i := range t.fields {
				dst = append(append(dst, joined...), t.literals[i+1]...)
			}
			return dst
		}, part))
		keys = keys[n:]
	}
	return out
}

// Purges returns what stands in for the rule's exact purges when it is swept, for one tenant or for all. It has a purge
// without a request for each that the file says cannot be widened.
func (r *Rule) Purges(tenant string, all bool) []Purge {
	var out []Purge
	for _, s := range r.purges {
		p := Purge{Rule: r, Spec: s, Tenant: tenant, All: all}
		q := s.all
		if !all && s.tenant != nil {
			q = s.tenant
		} else {
			p.Tenant, p.All = "", true
		}
		if q != nil {
			values := map[string]events.Value{"tenant": events.Text(tenant)}
			p.Request = q.render(func(dst []byte, t *purgeText) []byte { return t.fill(dst, values) }, nil)
		}
		out = append(out, p)
	}
	return out
}
