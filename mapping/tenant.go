package mapping

import (
	"fmt"

	"go.yaml.in/yaml/v4"
)

// tenancy says where a row's tenant is.
type tenancy struct {
	column string // holds it, unless global
	global bool   // keys have none
	at     place  // of the column's name
}

// tenancy reads `tenant`: {column: NAME}, or global. It returns nil after a problem.
func (p *parser) tenancy(n *yaml.Node) *tenancy {
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "global":
		return &tenancy{global: true}
	case n.Kind == yaml.ScalarNode:
		p.fail(n, fmt.Sprintf("%q is %s", "tenant", scalarTenant(n)), tenantHint(n.Value))
		return nil
	case n.Kind != yaml.MappingNode:
		p.fail(n, fmt.Sprintf("%q is %s", "tenant", kind(n)), tenantHint(""))
		return nil
	}
	fields := p.object(n, `"tenant"`, "column")
	column := fields["column"]
	if column == nil {
		if fields != nil {
			p.fail(n, `"tenant" has no "column"`, tenantHint(""))
		}
		return nil
	}
	name, ok := p.column(column, `"column"`)
	if !ok {
		return nil
	}
	return &tenancy{column: name, at: place{column.Line, column.Column}}
}

func scalarTenant(n *yaml.Node) string {
	if n.Tag == "!!null" {
		return "empty"
	}
	return quote(n.Value) + ", neither a column nor global"
}

func tenantHint(column string) string {
	if column == "" {
		column = "tenant_id"
	}
	return fmt.Sprintf("write tenant: {column: %s}, or tenant: global for keys without a tenant", column)
}

// column reads a column's name, which is as PostgreSQL stores it.
func (p *parser) column(n *yaml.Node, what string) (string, bool) {
	name, ok := p.scalar(n, what)
	if ok && len(name) > maxIdentifierBytes {
		p.fail(n, what+" is longer than PostgreSQL's 63 bytes", "")
		return "", false
	}
	return name, ok
}
