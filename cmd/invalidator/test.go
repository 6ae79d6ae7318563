package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/rulestest"
	"github.com/walfence/walfence/mapping"
)

type testCommand struct {
	Files []string `arg:"" name:"file" placeholder:"FILE" help:"Files with tests."`
	Only  string   `name:"run" placeholder:"REGEXP" help:"Only tests whose names match."`
	JUnit string   `name:"junit" placeholder:"FILE" help:"Write JUnit's XML too, as CI systems read it. Takes one file of tests."`
	Rules string   `name:"rules" placeholder:"FILE" help:"File with the rules, instead of the one that the tests name."`

	config.Redis `embed:"" group:"Redis"`
}

// Run runs the tests of all files. That one fails is a quiet failure.
func (c *testCommand) Run(env *config.Env) error {
	opt := rulestest.Options{Rules: c.Rules, Env: env.InRules(c.Redis)}
	if c.JUnit != "" && len(c.Files) > 1 {
		return config.Mistake(errors.New("--junit takes one file of tests"))
	}
	if c.Only != "" {
		var err error
		if opt.Run, err = regexp.Compile(c.Only); err != nil {
			return config.Mistake(fmt.Errorf("--run: %w", err))
		}
	}
	failed := 0
	for _, file := range c.Files {
		n, err := c.file(env, file, opt)
		if err != nil {
			return err
		}
		failed += n
	}
	if failed > 0 {
		return config.ErrQuiet
	}
	return nil
}

// file runs one file's tests and returns how many failed.
func (c *testCommand) file(env *config.Env, file string, opt rulestest.Options) (failed int, err error) {
	report, err := rulestest.Run(file, opt)
	var problems mapping.Problems
	switch {
	case errors.As(err, &problems):
		_, err := io.WriteString(env.Stderr, problems.Pretty())
		return 0, config.Mistake(errors.Join(config.ErrQuiet, err))
	case err != nil:
		return 0, config.Mistake(err)
	}
	if err := report.Write(env.Stdout); err != nil {
		return 0, fmt.Errorf("print report: %w", err)
	}
	if c.JUnit != "" {
		if err := writeFile(c.JUnit, report.WriteJUnit); err != nil {
			return 0, err
		}
	}
	return report.Failed(), nil
}

// writeFile makes a file of what write writes.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}
