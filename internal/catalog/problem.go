package catalog

import (
	"strings"

	"github.com/walfence/walfence/pkg/events"
)

// Severity says whether a problem stops the work.
type Severity int

const (
	// Warning: it works, but wider than need be or with a risk.
	Warning Severity = iota
	// Error: it must be mended first.
	Error
)

// String returns "warning" or "error".
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Problem is one thing about the database that is not as it must be.
type Problem struct {
	Severity Severity
	Table    events.Table // empty if it concerns no table
	Columns  []string     // empty if it concerns none
	Cause    string
	Hint     string
	// Statements mend it, to be run in this order, one by one, outside of a transaction unless they open one.
	Statements []string
}

// Error returns the cause, after the table that it concerns.
func (p *Problem) Error() string {
	if p.Table == (events.Table{}) {
		return p.Cause
	}
	return "table " + quoted(p.Table) + ": " + p.Cause
}

// advice is the hint and the statements as they stand below a cause.
func (p *Problem) advice() string {
	lines := make([]string, 0, 1+len(p.Statements))
	if p.Hint != "" {
		lines = append(lines, p.Hint)
	}
	for _, s := range p.Statements {
		lines = append(lines, "  "+s+";")
	}
	return strings.Join(lines, "\n")
}

// Problems is everything that was found. It is an error only if it has an Error: ask Err.
type Problems []Problem

// Err returns the problems as an error if one of them is an Error, else nil.
func (ps Problems) Err() error {
	for i := range ps {
		if ps[i].Severity == Error {
			return ps
		}
	}
	return nil
}

// Error writes all problems out, each with its hint and statements.
func (ps Problems) Error() string {
	var b strings.Builder
	for i := range ps {
		p := &ps[i]
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.Severity.String() + ": " + p.Error())
		if advice := p.advice(); advice != "" {
			b.WriteString("\n  hint: " + strings.ReplaceAll(advice, "\n", "\n    "))
		}
	}
	return b.String()
}
