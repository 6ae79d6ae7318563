package mapping

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/walfence/walfence/pkg/events"
	"go.yaml.in/yaml/v4"
)

// Rule is one rule of a program. It is immutable.
type Rule struct {
	Name   string
	Table  events.Table // a table, a partitioned table, or a partition
	Caches []int        // indexes of Program.Caches
	Global bool         // its keys have no tenant
	Line   int          // of its name in the file, from 1
	Column int          // of its name in the file, from 1
	// Repeat says after what times keys are removed again, for applications that fill without a guard.
	Repeat []time.Duration

	ordinal  int
	on       operations
	columns  []string   // an update must touch one of these, the key's or the tenant; nil: any update counts
	tenant   string     // column, unless Global
	when     *condition // nil: holds always
	outputs  []output
	purges   []*PurgeSpec
	through  *Through // nil: keys follow from the changed row alone
	text     *text
	tableAt  place
	columnAt map[string]place // where the rule names each column first
}

// operations is a set of what can happen to a table.
type operations uint8

const (
	onInsert operations = 1 << iota
	onUpdate
	onDelete
	onTruncate
	onAll = onInsert | onUpdate | onDelete | onTruncate
)

var operationNames = []string{"insert", "update", "delete", "truncate"}

// Problem describes what is wrong with the rule, at its name.
func (r *Rule) Problem(cause, hint string) Problem {
	return r.text.problem(place{r.Line, r.Column}, r.Name, cause, hint)
}

// TableProblem describes what is wrong with the rule's table, at its name.
func (r *Rule) TableProblem(cause, hint string) Problem {
	return r.text.problem(r.tableAt, r.Name, cause, hint)
}

// ColumnProblem describes what is wrong with a column, at the first place where the rule names it.
func (r *Rule) ColumnProblem(column, cause, hint string) Problem {
	if at, ok := r.columnAt[column]; ok {
		return r.text.problem(at, r.Name, cause, hint)
	}
	return r.Problem(cause, hint)
}

// ruleFields are the fields that a rule may have.
var ruleFields = []string{
	"name", "table", "on", "columns", "when", "tenant", "versions", "cache", "through", "on_empty", "cap",
	"delete", "bump", "refresh", "purge", "repeat",
}

// actionFields are those that make a rule do something.
var actionFields = []string{"delete", "bump", "refresh", "purge"}

// ruleSource is a rule while it is read.
type ruleSource struct {
	*parser
	node   *yaml.Node
	fields map[string]*yaml.Node
	rule   *Rule

	own       map[string]*yaml.Node // fields without the defaults
	defaults  *defaults
	hosts     []string // that purges may call
	versioned bool     // a template names {version}
	broken    bool     // `through` cannot be known
}

// ruleNamed reads what a rule is called and what fields it has; nil where that cannot be known.
func (p *parser) ruleNamed(n *yaml.Node) *ruleSource {
	p.rule = ""
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if v := follow(n.Content[i+1]); n.Content[i].Value == "name" && v.Kind == yaml.ScalarNode {
				p.rule = brief(v.Value)
			}
		}
	}
	fields := p.object(n, "a rule", ruleFields...)
	if fields == nil {
		return nil
	}
	r := &ruleSource{parser: p, node: n, fields: fields}
	r.rule = &Rule{Line: n.Line, Column: n.Column, on: onAll, text: p.text, columnAt: map[string]place{}}
	if name := fields["name"]; name != nil {
		r.rule.Name = p.name(name, "the rule's name")
		r.rule.Line, r.rule.Column = name.Line, name.Column
	} else {
		p.fail(n, `the rule has no "name"`, "write name: what-it-invalidates")
	}
	return r
}

// read reads the rest of the rule.
func (r *ruleSource) read(tenant *tenancy, caches []Cache, scopes map[string]*scopeSource) {
	r.parser.rule = brief(r.rule.Name)
	r.readTable()
	r.readOn()
	r.readTenant(tenant)
	r.readCaches(caches)
	r.readColumns()
	r.readWhen()
	r.readThrough()
	r.readOutputs(scopes)
	r.readRepeat()
	if r.rule.through != nil {
		r.rule.layThrough()
	}
	r.parser.rule = ""
}

func (r *ruleSource) readTable() {
	n := r.fields["table"]
	if n == nil {
		r.fail(r.node, `the rule has no "table"`, "write table: schema.table")
		return
	}
	s, ok := r.scalar(n, `"table"`)
	if !ok {
		return
	}
	table, f := parseTable(s)
	if f != nil {
		r.failAt(r.offset(n, f.at), f.cause, f.hint)
		return
	}
	r.rule.Table, r.rule.tableAt = table, place{n.Line, n.Column}
}

func (r *ruleSource) readOn() {
	n := r.fields["on"]
	if n == nil {
		return
	}
	r.rule.on = 0
	for _, item := range r.texts(n, "on") {
		i := slices.Index(operationNames, item.Value)
		if i < 0 {
			r.fail(item, fmt.Sprintf("unknown operation %s in %q", quote(item.Value), "on"), didYouMean(item.Value, operationNames))
			continue
		}
		r.rule.on |= 1 << i
	}
}

func (r *ruleSource) readTenant(tenant *tenancy) {
	if n := r.fields["tenant"]; n != nil {
		tenant = r.tenancy(n)
	}
	if tenant == nil {
		return // reported: here, or as the file's
	}
	r.rule.Global, r.rule.tenant = tenant.global, tenant.column
	if !tenant.global {
		r.rule.columnAt[tenant.column] = tenant.at
	}
}

func (r *ruleSource) readCaches(caches []Cache) {
	names := make([]string, len(caches))
	for i, c := range caches {
		names[i] = c.Name
	}
	n := r.fields["cache"]
	switch {
	case n == nil && len(caches) == 1:
		r.rule.Caches = []int{0}
	case n == nil && len(caches) > 1:
		r.fail(r.node, `the rule does not say which "cache", and there are several`,
			fmt.Sprintf("write cache: %s, or cache: [%s]", names[0], strings.Join(names, ", ")))
	case n == nil: // reported as the file's
	case n.Kind == yaml.ScalarNode:
		if _, ok := r.scalar(n, `"cache"`); ok {
			r.addCache(n, names)
		}
	default:
		for _, item := range r.texts(n, "cache") {
			r.addCache(item, names)
		}
	}
}

func (r *ruleSource) addCache(n *yaml.Node, names []string) {
	i := slices.Index(names, n.Value)
	if i < 0 {
		r.fail(n, fmt.Sprintf("unknown cache %s", quote(n.Value)), didYouMean(n.Value, names))
		return
	}
	r.rule.Caches = append(r.rule.Caches, i)
}

func (r *ruleSource) readColumns() {
	n := r.fields["columns"]
	if n == nil {
		return
	}
	for _, item := range r.texts(n, "columns") {
		if name, ok := r.column(item, `a value of "columns"`); ok {
			r.rule.columns = append(r.rule.columns, name)
			r.uses(name, place{item.Line, item.Column})
		}
	}
}

// uses notes where the rule names a column.
func (r *ruleSource) uses(column string, at place) {
	if _, ok := r.rule.columnAt[column]; !ok {
		r.rule.columnAt[column] = at
	}
}

func (r *ruleSource) readVersions() []string {
	n := r.fields["versions"]
	if n == nil {
		return nil
	}
	versions := []string{}
	for _, item := range r.texts(n, "versions") {
		if string(events.AppendKeyPart(nil, item.Value)) != item.Value {
			r.fail(item, fmt.Sprintf("version %s holds characters that values escape", quote(item.Value)), "use letters, digits, . - and _")
			continue
		}
		versions = append(versions, item.Value)
	}
	return versions
}

const (
	maxRepeats = 10
	minRepeat  = 10 * time.Millisecond
	maxRepeat  = time.Hour
)

// readRepeat reads after what times keys are removed again.
func (r *ruleSource) readRepeat() {
	n := r.fields["repeat"]
	if n == nil {
		return
	}
	items := r.list(n, "repeat")
	if len(items) > maxRepeats {
		r.fail(n, fmt.Sprintf(`"repeat" has %d values, more than %d`, len(items), maxRepeats), "")
	}
	for _, item := range items {
		r.rule.Repeat = append(r.rule.Repeat, r.duration(item, `a value of "repeat"`, minRepeat, maxRepeat))
	}
	slices.Sort(r.rule.Repeat)
}
