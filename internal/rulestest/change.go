package rulestest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// ParseChange reads one change from YAML or JSON: {table: users, op: update, old: {...}, new: {...}}.
func ParseChange(src []byte) (*Change, error) {
	var c Change
	if err := decode(src, &c); err != nil {
		return nil, fmt.Errorf("read change: %w", err)
	}
	return &c, nil
}

// Event returns the change as cdc would publish it, for one row. The columns are those that the change names; their types
// follow from its values.
func (c *Change) Event(source string) (*events.Event, error) {
	return c.event(source, nil, nil)
}

// event makes an event whose columns have types by name, and where identity is set, a replica identity.
func (c *Change) event(source string, typesOf map[string]string, identity []string) (*events.Event, error) {
	e := &events.Event{Version: events.Version, Kind: events.KindRows, Source: source}
	var err error
	if e.Table, err = mapping.ParseTable(c.Table); err != nil {
		return nil, err
	}
	if c.Partition != "" {
		if e.Partition, err = mapping.ParseTable(c.Partition); err != nil {
			return nil, err
		}
	}
	if c.Identity != nil {
		identity = c.Identity
	}
	switch c.Op {
	case "truncate":
		e.Kind = events.KindTruncate
		return e, c.only(false, false)
	case "insert":
		err = c.only(false, true)
	case "update":
		err = c.only(true, true)
	case "delete":
		err = c.only(true, false)
	default:
		err = fmt.Errorf("unknown operation %q: write insert, update, delete or truncate", c.Op)
	}
	if err == nil {
		err = c.rows(e, typesOf, identity)
	}
	return e, err
}

func (c *Change) only(old, row bool) error {
	switch {
	case !old && c.Old != nil:
		return fmt.Errorf(`a change by %s has no "old" row`, c.Op)
	case !row && c.New != nil:
		return fmt.Errorf(`a change by %s has no "new" row`, c.Op)
	case old && c.Old == nil:
		return fmt.Errorf(`a change by %s needs the "old" row`, c.Op)
	case row && c.New == nil:
		return fmt.Errorf(`a change by %s needs the "new" row`, c.Op)
	}
	return nil
}

// rows fills in the columns, and the row's change.
func (c *Change) rows(e *events.Event, typesOf map[string]string, identity []string) error {
	row := c.New
	if c.Op == "update" {
		row = maps.Clone(c.Old)
		maps.Copy(row, c.New)
	}
	all := maps.Clone(c.Old)
	if all == nil {
		all = values{}
	}
	maps.Copy(all, row)
	e.Columns = slices.Sorted(maps.Keys(all))
	change := events.Change{Op: map[string]events.Op{"insert": events.Insert, "update": events.Update, "delete": events.Delete}[c.Op]}
	for _, column := range e.Columns {
		in := identity == nil || slices.Contains(identity, column)
		e.Identity = append(e.Identity, in)
		oid, err := typeOf(typesOf[column], c.Old[column], row[column])
		if err != nil {
			return fmt.Errorf("column %q: %w", column, err)
		}
		e.Types = append(e.Types, oid)
		if c.Op != "insert" {
			change.Old, err = appendValue(change.Old, c.Old, column, in)
		}
		if c.Op != "delete" && err == nil {
			change.New, err = appendValue(change.New, row, column, true)
		}
		if err != nil {
			return err
		}
	}
	e.Changes = []events.Change{change}
	if identity != nil && c.Op == "update" && !c.identityChanged(e, &change) {
		e.Changes[0].Old = nil // as PostgreSQL does
	}
	return nil
}

// identityChanged tells whether an update changed a column of the replica identity: else no old row is logged, unless
// the identity is all columns.
func (c *Change) identityChanged(e *events.Event, change *events.Change) bool {
	whole := true
	for i, in := range e.Identity {
		whole = whole && in
		if in && change.Old[i] != change.New[i] {
			return true
		}
	}
	return whole
}

// appendValue appends a row's value: what is not written is not known, as is what an old row's identity lacks.
func appendValue(dst []events.Value, row values, column string, logged bool) ([]events.Value, error) {
	n, ok := row[column]
	if !ok || !logged {
		return append(dst, events.Value{}), nil
	}
	v, err := valueOf(&n)
	if err != nil {
		return nil, fmt.Errorf("column %q: %w", column, err)
	}
	return append(dst, v), nil
}

// valueOf reads a value: as it is written, null, !unchanged or !absent.
func valueOf(n *yaml.Node) (events.Value, error) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n.Tag == "!unchanged":
		return events.Value{State: events.Unchanged}, nil
	case n.Tag == "!absent":
		return events.Value{}, nil
	case n.Kind != yaml.ScalarNode:
		return events.Value{}, errors.New("a value is PostgreSQL's text: write a list or a mapping in quotes")
	case n.Tag == "!!null":
		return events.Value{State: events.Null}, nil
	case n.Tag == "!!bool":
		return events.Text(strings.ToLower(n.Value)), nil
	}
	return events.Text(n.Value), nil
}

// Types that conditions tell apart, by PostgreSQL's oids.
const (
	oidBool    = 16
	oidBigint  = 20
	oidText    = 25
	oidFloat   = 701
	oidPadded  = 1042
	oidNumeric = 1700
)

var oidsByName = map[string]uint32{
	"boolean": oidBool, "bool": oidBool,
	"bigint": oidBigint, "int8": oidBigint, "integer": oidBigint, "int": oidBigint, "int4": oidBigint, "smallint": oidBigint, "int2": oidBigint,
	"real": oidFloat, "float4": oidFloat, "double precision": oidFloat, "float8": oidFloat,
	"numeric": oidNumeric, "decimal": oidNumeric,
	"character": oidPadded, "char": oidPadded, "bpchar": oidPadded,
}

// typeOf returns a column's type: by its name, or as its values look.
func typeOf(name string, cells ...yaml.Node) (uint32, error) {
	if name != "" {
		bare, _, _ := strings.Cut(strings.ToLower(name), "(")
		if oid, ok := oidsByName[strings.TrimSpace(bare)]; ok {
			return oid, nil
		}
		return oidText, nil
	}
	guess := uint32(0)
	for i := range cells {
		if cells[i].Kind != yaml.ScalarNode || cells[i].Tag == "!!null" || cells[i].Tag == "!unchanged" || cells[i].Tag == "!absent" {
			continue
		}
		oid := map[string]uint32{"!!bool": oidBool, "!!int": oidBigint, "!!float": oidNumeric}[cells[i].Tag]
		switch {
		case oid == 0:
			oid = oidText
		case guess == oidNumeric && oid == oidBigint, guess == oidBigint && oid == oidNumeric:
			oid, guess = oidNumeric, oidNumeric
		}
		if guess != 0 && guess != oid {
			return 0, errors.New(`its values look like different types: say which under "types"`)
		}
		guess = oid
	}
	if guess == 0 {
		guess = oidText
	}
	return guess, nil
}
