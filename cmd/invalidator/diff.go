package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// shownDifferences is how many examples of a rule are listed.
const shownDifferences = 5

type diffCommand struct {
	Old   string        `arg:"" placeholder:"OLD" help:"File with the old rules."`
	New   string        `arg:"" placeholder:"NEW" help:"File with the new rules."`
	Since time.Duration `name:"since" default:"1h" placeholder:"DURATION" help:"How far back to replay the stream's changes."`

	config.Redis `embed:"" group:"Redis"`
	config.NATS  `embed:"" group:"NATS"`
}

// Run replays stored changes under two programs and shows what they lead to differently. It touches no cache.
func (c *diffCommand) Run(ctx context.Context, env *config.Env) error {
	old, err := compileFile(c.Old, env, c.Redis)
	if err != nil {
		return err
	}
	next, err := compileFile(c.New, env, c.Redis)
	if err != nil {
		return err
	}
	if old.Source() != next.Source() {
		return config.Mistake(fmt.Errorf("%s is about source %s, and %s about %s", c.Old, old.Source(), c.New, next.Source()))
	}
	past, err := openPast(ctx, c.NATS, next.Source())
	if err != nil {
		return err
	}
	defer past.close()
	d := newDifference(old, next)
	if err := past.since(ctx, time.Now().Add(-c.Since), d.visit); err != nil {
		return err
	}
	return d.write(env.Stdout)
}

// compileFile reads rules from a file. All that is wrong with them is printed.
func compileFile(path string, env *config.Env, r config.Redis) (*mapping.Program, error) {
	return ruleSettings{Redis: r, Rules: config.Rules{Path: path}}.load(env)
}

// difference gathers what two programs make of the same events differently.
type difference struct {
	old, next *mapping.Program
	added     map[*mapping.Rule]bool // rules of next that old does not have just so
	events    int
	changes   int
	rules     map[string]*ruleDifference
	// unpublished are, by rule of next, the columns that events lack, and how many events do.
	unpublished map[string]map[string]int
	scratch     mapping.Result
}

type ruleDifference struct {
	more, less int
	examples   []string
}

func newDifference(old, next *mapping.Program) *difference {
	d := &difference{
		old: old, next: next, added: map[*mapping.Rule]bool{}, rules: map[string]*ruleDifference{},
		unpublished: map[string]map[string]int{},
	}
	_, added := mapping.Differ(old, next)
	for _, r := range added {
		d.added[r] = true
	}
	return d
}

// visit compares what one event leads to.
func (d *difference) visit(e *events.Event) {
	d.events++
	d.changes += len(e.Changes)
	before, after := effects(d.old, e, &d.scratch), effects(d.next, e, &d.scratch)
	unknown := d.lacking(e)
	for what, rule := range after {
		if _, ok := before[what]; !ok && !unknown[rule] {
			d.rule(rule).add('+', what)
		}
	}
	for what, rule := range before {
		if _, ok := after[what]; !ok && !unknown[rule] {
			d.rule(rule).add('-', what)
		}
	}
}

// lacking returns the rules of next whose columns an event lacks: what they would have led to is not known.
func (d *difference) lacking(e *events.Event) map[string]bool {
	unknown := map[string]bool{}
	if e.Kind != events.KindRows {
		return unknown
	}
	for _, t := range d.next.Tables() {
		if t.Table != e.Table && t.Table != e.Partition {
			continue
		}
		for _, column := range t.Columns {
			if slices.Contains(e.Columns, column) {
				continue
			}
			for _, r := range t.Rules {
				if at := r.ColumnProblem(column, "", ""); d.added[r] && (at.Line != r.Line || at.Column != r.Column) {
					unknown[r.Name] = true
					d.missed(r.Name, t.Name+"."+column)
				}
			}
		}
	}
	return unknown
}

func (d *difference) missed(rule, column string) {
	if d.unpublished[rule] == nil {
		d.unpublished[rule] = map[string]int{}
	}
	d.unpublished[rule][column]++
}

// effects returns all that an event leads to, each with the rule. r is left with the same.
func effects(p *mapping.Program, e *events.Event, r *mapping.Result) map[string]string {
	out := map[string]string{}
	r.Reset()
	p.Map(e, r)
	for _, k := range r.Keys {
		action := "delete"
		if k.Scope != "" {
			action = "bump " + k.Scope
		}
		out[fmt.Sprintf("%s %s in %s", action, printable(k.Key), p.Caches()[k.Cache].Name)] = k.Rule.Name
	}
	for _, f := range r.Refreshes {
		out[fmt.Sprintf("refresh %s in %s by %s", printable(f.Key), p.Caches()[f.Cache].Name, f.Spec.Query.SQL)] = f.Rule.Name
	}
	for _, l := range r.Lookups {
		out[fmt.Sprintf("look up %q by %s", l.Params, l.Rule.Through().Query.SQL)] = l.Rule.Name
	}
	for _, u := range r.Purges {
		what := "purge " + printable(u.Key)
		if u.Request != nil {
			what = "purge " + u.Request.Method + " " + printable(u.Request.URL)
		}
		out[what] = u.Rule.Name
	}
	for _, s := range r.Sweeps {
		who := "all tenants"
		if !s.All {
			who = "tenant " + printable(s.Tenant)
		}
		for _, pattern := range s.Rule.Patterns(s.Tenant, s.All) {
			out[fmt.Sprintf("sweep %s of %s", printable(pattern.Glob()), who)] = s.Rule.Name
		}
	}
	return out
}

func (d *difference) rule(name string) *ruleDifference {
	if d.rules[name] == nil {
		d.rules[name] = &ruleDifference{}
	}
	return d.rules[name]
}

func (r *ruleDifference) add(sign byte, what string) {
	if sign == '+' {
		r.more++
	} else {
		r.less++
	}
	if line := string(sign) + " " + what; len(r.examples) < shownDifferences && !slices.Contains(r.examples, line) {
		r.examples = append(r.examples, line)
	}
}

func (d *difference) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d changes in %d events\n", d.changes, d.events)
	d.unseen(&b)
	for _, name := range slices.Sorted(maps.Keys(d.unpublished)) {
		for _, column := range slices.Sorted(maps.Keys(d.unpublished[name])) {
			fmt.Fprintf(&b, "rule %s: unknown: %s was not published, in %d events\n", name, column, d.unpublished[name][column])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.rules)) {
		r := d.rules[name]
		fmt.Fprintf(&b, "rule %s: %d more, %d less\n", name, r.more, r.less)
		slices.Sort(r.examples)
		for _, line := range r.examples {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		if r.more+r.less > len(r.examples) {
			b.WriteString("  ...\n")
		}
	}
	if len(d.rules) == 0 {
		b.WriteString("no difference in what is known\n")
	}
	_, err := io.WriteString(w, b.String())
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// unseen tells of tables that only the new rules are about: nothing of theirs was published.
func (d *difference) unseen(b *strings.Builder) {
	known := map[events.Table]bool{}
	for _, t := range d.old.Tables() {
		known[t.Table] = true
	}
	for _, t := range d.next.Tables() {
		if known[t.Table] {
			continue
		}
		for _, r := range t.Rules {
			fmt.Fprintf(b, "rule %s: unknown: %s was not published\n", r.Name, t.Table)
		}
	}
}
