package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// checkPatience is how long the database may take to answer everything that it is asked about rules.
const checkPatience = time.Minute

type checkCommand struct {
	File        string        `arg:"" optional:"" placeholder:"FILE" help:"File with the rules; by default what RULES says."`
	DatabaseURL config.Secret `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"Check against this database too."`
	JSON        bool          `name:"json" help:"One JSON object: ok, problems."`

	ruleSettings `embed:""`
}

// findings are all that is wrong with rules, and all that probably is.
type findings struct {
	errors, warnings mapping.Problems
}

// Run prints every problem at once. The error is a quiet mistake if one of them keeps the rules from being run.
func (c *checkCommand) Run(ctx context.Context, env *config.Env) error {
	if c.File != "" {
		c.Path = c.File
	}
	text, err := os.ReadFile(c.Path)
	if err != nil {
		return config.Mistake(fmt.Errorf("read rules: %w", err))
	}
	var found findings
	program, err := mapping.Compile(c.Path, text, env.InRules(c.Redis))
	if err != nil && !errors.As(err, &found.errors) {
		return err
	}
	if program != nil {
		found.warnings = program.Warnings()
		if url := c.DatabaseURL.Reveal(); url != "" {
			if err := found.compare(ctx, url, program); err != nil {
				return err
			}
		}
	}
	return c.report(env, program, &found)
}

// compare adds what the database has to say.
func (f *findings) compare(ctx context.Context, url string, p *mapping.Program) error {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f.against(ctx, conn, p)
}

func (f *findings) against(ctx context.Context, conn *pgx.Conn, p *mapping.Program) error {
	tables, problems, err := catalog.Check(ctx, conn, p.Tables())
	if err != nil {
		return err
	}
	var wrong, doubtful catalog.Problems
	for _, problem := range problems {
		if problem.Severity == catalog.Error {
			wrong = append(wrong, problem)
		} else {
			doubtful = append(doubtful, problem)
		}
	}
	queries, err := catalog.CheckQueries(ctx, conn, p.Rules())
	if err != nil {
		return err
	}
	f.errors = append(f.errors, wrong.InRules(p.Tables())...)
	f.errors = append(f.errors, p.CheckTypes(typesOf(tables))...)
	f.errors = append(f.errors, queries...).Sort()
	f.warnings = append(f.warnings, doubtful.InRules(p.Tables())...).Sort()
	return nil
}

// typesOf returns the types of the tables' columns as conditions are compiled against them.
func typesOf(tables []*catalog.Table) map[events.Table]map[string]uint32 {
	types := map[events.Table]map[string]uint32{}
	for _, t := range tables {
		columns := map[string]uint32{}
		for i := range t.Columns {
			columns[t.Columns[i].Name] = t.Columns[i].Type
		}
		types[t.Need.Table] = columns
	}
	return types
}

func (c *checkCommand) report(env *config.Env, p *mapping.Program, found *findings) error {
	var err error
	switch {
	case c.JSON:
		err = found.writeJSON(env.Stdout)
	case p != nil && len(found.errors) == 0:
		if err = found.writeText(env.Stderr); err == nil {
			_, err = fmt.Fprintf(env.Stdout, "%s: %d rules about %d tables can be run%s\n", c.Path, len(p.Rules()), len(p.Tables()), c.against())
		}
	default:
		err = found.writeText(env.Stderr)
	}
	if err == nil && len(found.errors) > 0 {
		return config.Mistake(config.ErrQuiet)
	}
	return err
}

// against says what the rules were compared with.
func (c *checkCommand) against() string {
	if c.DatabaseURL.Reveal() == "" {
		return "; not compared with a database: no --database-url"
	}
	return ", as the database is now"
}

func (f *findings) writeText(w io.Writer) error {
	parts := []string{}
	for _, p := range f.errors {
		parts = append(parts, p.Pretty())
	}
	for _, p := range f.warnings {
		p.Cause = "warning: " + p.Cause
		parts = append(parts, p.Pretty())
	}
	_, err := io.WriteString(w, strings.Join(parts, "\n"))
	return err
}

// writtenProblem is a problem as machines read it.
type writtenProblem struct {
	Severity string `json:"severity"` // error or warning
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Rule     string `json:"rule,omitempty"`
	Cause    string `json:"cause"`
	Hint     string `json:"hint,omitempty"`
	Source   string `json:"source,omitempty"`
}

func (f *findings) writeJSON(w io.Writer) error {
	out := struct {
		OK       bool             `json:"ok"`
		Problems []writtenProblem `json:"problems"`
	}{len(f.errors) == 0, []writtenProblem{}}
	add := func(severity string, problems mapping.Problems) {
		for _, p := range problems {
			out.Problems = append(out.Problems, writtenProblem{severity, p.File, p.Line, p.Column, p.Rule, p.Cause, p.Hint, p.Source})
		}
	}
	add("error", f.errors)
	add("warning", f.warnings)
	return writeJSON(w, out)
}

// writeJSON writes a value for people and machines alike: indented, and with nothing escaped that only HTML needs escaped.
func writeJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}
