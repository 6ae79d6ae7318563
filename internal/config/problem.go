package config

import (
	"errors"
	"slices"
	"strings"
)

// Problem is one mistake in the settings.
type Problem struct {
	// Setting is the environment variable's name.
	Setting string
	// Cause is what is wrong. It holds no secret.
	Cause string
	// Hint is what to do about it.
	Hint string
}

// Error returns one line.
func (p Problem) Error() string {
	text := p.Setting + ": " + p.Cause
	if p.Hint != "" {
		text += ": " + p.Hint
	}
	return text
}

// Problems are all mistakes that were found, one line each. A program that meets them exits with CodeMistake.
type Problems []Problem

// Error returns all lines.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// unique drops repetitions: a group of settings may be met twice on the way to it.
func (p Problems) unique() Problems {
	var out Problems
	for _, problem := range p {
		if !slices.Contains(out, problem) {
			out = append(out, problem)
		}
	}
	return out
}

// Checker is a group of settings that checks itself once it is read.
type Checker interface {
	Check() Problems
}

// Exit codes of both programs.
const (
	// CodeDone says that the program did what it was asked to.
	CodeDone = 0
	// CodeFailure says that a restart may help, or that a test or a doctor found something.
	CodeFailure = 1
	// CodeMistake says that flags, settings or rules must be mended first.
	CodeMistake = 2
)

// ErrMistake marks errors that a restart cannot mend.
var ErrMistake = errors.New("mistake in flags, settings or rules")

type mistake struct{ error }

func (m mistake) Unwrap() error        { return m.error }
func (m mistake) Is(target error) bool { return target == ErrMistake }

// Mistake marks an error with ErrMistake and leaves its text. A nil error stays nil.
func Mistake(err error) error {
	if err == nil {
		return nil
	}
	return mistake{err}
}

// ErrQuiet ends a program with CodeFailure without a word: what there is to say has been printed.
var ErrQuiet = errors.New("quiet failure")

// code chooses the exit code for what a command returned.
func code(err error) int {
	var problems Problems
	switch {
	case err == nil:
		return CodeDone
	case errors.Is(err, ErrMistake), errors.As(err, &problems):
		return CodeMistake
	default:
		return CodeFailure
	}
}
