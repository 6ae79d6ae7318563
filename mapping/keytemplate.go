package mapping

// KeyTemplate is one template of a rule, for one version, as far as building its keys elsewhere needs it.
type KeyTemplate struct {
	Text    string // as it is written, the version filled in
	Scope   string // name of the scope whose generation the key holds; empty for others
	Version string // that it is for; empty for none
	Parts   []KeyPart
}

// KeyPart is a literal, or a placeholder if it has a Name. Its value is escaped as by events.AppendKeyPart.
type KeyPart struct {
	Literal  string
	Name     string // of the column, or "tenant"
	Nullable bool   // a NULL is written as Default; else it makes no key
	Default  string // as it stands in the key
}

// Templates returns the templates of the rule's keys, in the order of the file.
func (r *Rule) Templates() []KeyTemplate {
	out := make([]KeyTemplate, len(r.outputs))
	for i := range r.outputs {
		o := &r.outputs[i]
		out[i] = KeyTemplate{Text: o.text(), Scope: o.scope, Version: o.version}
		for j, literal := range o.literals {
			if literal != "" {
				out[i].Parts = append(out[i].Parts, KeyPart{Literal: literal})
			}
			if j < len(o.fields) {
				f := &o.fields[j]
				out[i].Parts = append(out[i].Parts, KeyPart{Name: f.name(), Nullable: f.falls, Default: f.fallback})
			}
		}
	}
	return out
}
