package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walfence/walfence/mapping"
)

// CheckQueries has the server parse the queries of refreshes and lookups, and compares what they yield with what the rules
// make of it. It runs none of them. The error is the connection's.
func CheckQueries(ctx context.Context, conn *pgx.Conn, rules []*mapping.Rule) (mapping.Problems, error) {
	var problems mapping.Problems
	for _, r := range rules {
		for _, s := range r.Refreshes() {
			found, err := checkQuery(ctx, conn, r, s.Query, func(columns []string) string { return unfit(s.Shape, columns) })
			if err != nil {
				return nil, err
			}
			problems = append(problems, found...)
		}
		if t := r.Through(); t != nil {
			found, err := checkQuery(ctx, conn, r, t.Query, func(columns []string) string { return misnamed(t.Query.Columns, columns) })
			if err != nil {
				return nil, err
			}
			problems = append(problems, found...)
		}
	}
	return problems.Sort(), nil
}

// checkQuery has one query parsed. compare says what is wrong with its columns.
func checkQuery(ctx context.Context, conn *pgx.Conn, r *mapping.Rule, q *mapping.Query, compare func([]string) string) (mapping.Problems, error) {
	parsed, err := conn.Prepare(ctx, "", q.SQL)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && !strings.HasPrefix(refused.Code, "08") && !strings.HasPrefix(refused.Code, "57"):
		return mapping.Problems{r.QueryProblem(q, "PostgreSQL refuses the query: "+refused.Message, advise(q, refused))}, nil
	case err != nil:
		return nil, fmt.Errorf("prepare query of rule %s: %w", r.Name, err)
	}
	var columns []string
	for _, f := range parsed.Fields {
		columns = append(columns, f.Name)
	}
	if cause := compare(columns); cause != "" {
		return mapping.Problems{r.QueryProblem(q, cause, "name its columns with AS")}, nil
	}
	return nil, nil
}

// advise says what to write instead.
func advise(q *mapping.Query, refused *pgconn.PgError) string {
	const undetermined = "42P18" // indeterminate_datatype
	if refused.Code == undetermined && len(q.Params) > 0 {
		return "say of which type the parameter is: CAST(:" + q.Params[0] + " AS bigint)"
	}
	return refused.Hint
}

// unfit says why a result with such columns cannot be cached in a shape.
func unfit(shape mapping.Shape, columns []string) string {
	if shape == mapping.ShapeValue && len(columns) != 1 {
		return fmt.Sprintf("the query yields %d columns, and one value is to be cached", len(columns))
	}
	if len(columns) == 0 {
		return "the query yields no column"
	}
	for i, name := range columns {
		if shape != mapping.ShapeValue && slices.Contains(columns[:i], name) {
			return fmt.Sprintf("the query yields two columns of the name %q, and an object has one", name)
		}
	}
	return ""
}

// misnamed says how a lookup's columns differ from those that the rule is compiled for.
func misnamed(want, columns []string) string {
	if slices.Equal(want, columns) {
		return ""
	}
	return fmt.Sprintf("the query yields the columns %q, where the rule reads %q", columns, want)
}
