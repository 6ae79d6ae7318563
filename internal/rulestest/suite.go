package rulestest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
)

// suite is a file of tests.
type suite struct {
	Rules string            `yaml:"rules"` // path of the rules file, from that of the tests
	Env   map[string]string `yaml:"env"`   // in place of environment variables
	// Types are the types of columns, by table, as SQL names them. Those not given follow from the values.
	Types map[string]map[string]string `yaml:"types"`
	// Identity names the columns in the replica identity, by table; all, where it is not given.
	Identity map[string][]string `yaml:"identity"`
	Tests    []test              `yaml:"tests"`
}

// test is one test of a file.
type test struct {
	Name    string   `yaml:"name"`
	Change  *Change  `yaml:"change"`  // one change, or
	Changes []Change `yaml:"changes"` // several
	// Found are the rows that lookups find, by rule.
	Found  map[string][]values `yaml:"found"`
	Expect expectation         `yaml:"expect"`

	line int
}

// values are the columns of a row. Their order does not matter.
type values map[string]yaml.Node

// Change is what happens to a table: a row is inserted, updated or deleted, or all are.
type Change struct {
	Table     string   `yaml:"table" json:"table"`
	Partition string   `yaml:"partition" json:"partition,omitempty"`
	Op        string   `yaml:"op" json:"op"`
	Old       values   `yaml:"old" json:"-"`
	New       values   `yaml:"new" json:"-"` // of an update: the columns that changed; the others are as in Old
	Identity  []string `yaml:"identity" json:"identity,omitempty"`
}

// parse reads a file of tests.
func parse(file string, src []byte) (*suite, error) {
	var s suite
	if err := decode(src, &s); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	var lines struct {
		Tests []yaml.Node `yaml:"tests"`
	}
	if err := yaml.Load(src, &lines); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	names := map[string]bool{}
	for i := range s.Tests {
		t := &s.Tests[i]
		t.line = lines.Tests[i].Line
		if err := t.check(names); err != nil {
			return nil, fmt.Errorf("read %s:%d: %w", file, t.line, err)
		}
	}
	if len(s.Tests) == 0 {
		return nil, fmt.Errorf("read %s: it has no tests", file)
	}
	return &s, nil
}

func decode(src []byte, out any) error {
	l, err := yaml.NewLoader(bytes.NewReader(src), yaml.WithKnownFields())
	if err != nil {
		return err
	}
	err = l.Load(out)
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty")
	}
	return err
}

func (t *test) check(names map[string]bool) error {
	if t.Change != nil {
		t.Changes = append([]Change{*t.Change}, t.Changes...)
	}
	switch {
	case t.Name == "":
		return errors.New(`the test has no "name"`)
	case names[t.Name]:
		return fmt.Errorf("another test has the name %q", t.Name)
	case len(t.Changes) == 0:
		return errors.New(`the test has no "change"`)
	}
	names[t.Name] = true
	return nil
}
