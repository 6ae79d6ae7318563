package rulestest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/walfence/walfence/mapping"
)

// Options say which tests run, and how. The zero value runs all, with files of the file system.
type Options struct {
	Rules string                            // path of the rules file, instead of the one that the tests name
	Run   *regexp.Regexp                    // only tests whose names match; nil: all
	Read  func(name string) ([]byte, error) // nil: os.ReadFile
	Env   func(name string) (string, bool)  // environment variables; those that the tests set come first
}

// Report is what came of the tests of one file.
type Report struct {
	File    string
	Rules   string // path of the rules file
	Results []Result
}

// Result is what came of one test.
type Result struct {
	Name    string
	Line    int      // in the file of tests
	Failure []string // lines that say what differs; empty if the test passed
	Elapsed time.Duration
}

// Failed counts the tests that did not pass.
func (r *Report) Failed() int {
	n := 0
	for i := range r.Results {
		if len(r.Results[i].Failure) > 0 {
			n++
		}
	}
	return n
}

// Run runs the tests of a file. The error says that they cannot be run: it is [mapping.Problems] where the rules are
// wrong. That tests fail is no error.
func Run(file string, opt Options) (*Report, error) {
	read := opt.Read
	if read == nil {
		read = os.ReadFile
	}
	src, err := read(file)
	if err != nil {
		return nil, fmt.Errorf("read tests: %w", err)
	}
	s, err := parse(file, src)
	if err != nil {
		return nil, err
	}
	report := &Report{File: file, Rules: opt.Rules}
	if report.Rules == "" {
		if s.Rules == "" {
			s.Rules = "rules.yaml"
		}
		report.Rules = filepath.Join(filepath.Dir(file), s.Rules)
	}
	rules, err := read(report.Rules)
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	p, err := mapping.Compile(report.Rules, rules, s.lookUp(opt.Env))
	if err != nil {
		return nil, err
	}
	for i := range s.Tests {
		if t := &s.Tests[i]; opt.Run == nil || opt.Run.MatchString(t.Name) {
			report.Results = append(report.Results, s.run(t, p))
		}
	}
	return report, nil
}

// lookUp finds environment variables. One that nobody sets stands for a Redis of its own: no test connects to it.
func (s *suite) lookUp(env func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if v, ok := s.Env[name]; ok {
			return v, true
		}
		if env != nil {
			if v, ok := env(name); ok && v != "" {
				return v, true
			}
		}
		return "redis://" + name + ".invalid", true
	}
}

func (s *suite) run(t *test, p *mapping.Program) Result {
	start := time.Now()
	r := Result{Name: t.Name, Line: t.line}
	want, err := t.Expect.lines(p)
	got := outcome{}
	if err == nil {
		err = s.apply(t, p, got)
	}
	if err != nil {
		r.Failure = []string{"cannot be run: " + err.Error()}
	} else {
		r.Failure = diff(want, got)
	}
	r.Elapsed = time.Since(start)
	return r
}

// apply runs the changes of a test.
func (s *suite) apply(t *test, p *mapping.Program, got outcome) error {
	for name := range t.Found {
		if r := p.Rule(name); r == nil || r.Through() == nil {
			return fmt.Errorf(`"found" names %q, which is no rule that looks anything up`, name)
		}
	}
	for i := range t.Changes {
		c := &t.Changes[i]
		e, err := c.event(p.Source(), s.Types[c.Table], s.Identity[c.Table])
		if err != nil {
			return fmt.Errorf("change %d: %w", i+1, err)
		}
		var out mapping.Result
		p.Map(e, &out)
		if err := t.lookUp(&out); err != nil {
			return err
		}
		got.gather(p, &out)
	}
	return nil
}

// lookUp answers lookups with the rows of the test.
func (t *test) lookUp(out *mapping.Result) error {
	var errs []error
	for i := range out.Lookups {
		l := &out.Lookups[i]
		rows, ok := t.Found[l.Rule.Name]
		if !ok {
			errs = append(errs, fmt.Errorf("rule %s looks up %v by %v: say what it finds in \"found\"", l.Rule.Name, l.Rule.Through().Query.Columns, l.Params))
			continue
		}
		cells, err := found(l.Rule.Through().Query, rows)
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %s: %w", l.Rule.Name, err))
			continue
		}
		l.Found(cells, out)
	}
	return errors.Join(errs...)
}

// diff returns a line for each thing that is missing or was not expected.
func diff(want []string, got outcome) []string {
	var out []string
	for _, line := range slices.Compact(slices.Sorted(slices.Values(want))) {
		if _, ok := got[line]; !ok {
			out = append(out, "- "+line)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(got)) {
		if !slices.Contains(want, line) {
			for _, why := range got[line] {
				out = append(out, "+ "+line+"  ("+why+")")
			}
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return compareLines(a, b) })
	return out
}

// compareLines puts what is missing next to what came instead: by what they say, not by their sign.
func compareLines(a, b string) int {
	switch {
	case a[2:] < b[2:]:
		return -1
	case a[2:] > b[2:]:
		return 1
	}
	return 0
}
