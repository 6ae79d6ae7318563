package catalog_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// need is what rules need of a table in public, or in the schema that stands before a dot.
func need(table, columns, old string) mapping.Table {
	schema, name, found := strings.Cut(table, ".")
	if !found {
		schema, name = "public", table
	}
	return mapping.Table{
		Table: events.Table{Schema: schema, Name: name}, Columns: strings.Fields(columns), Old: strings.Fields(old),
	}
}

func check(t *testing.T, conn *pgx.Conn, needs ...mapping.Table) ([]*catalog.Table, catalog.Problems) {
	t.Helper()
	tables, problems, err := catalog.Check(t.Context(), conn, needs)
	require.NoError(t, err)
	return tables, problems
}

// checked returns the tables of needs that must be without any problem.
func checked(t *testing.T, conn *pgx.Conn, needs ...mapping.Table) []*catalog.Table {
	t.Helper()
	tables, problems := check(t, conn, needs...)
	require.Empty(t, problems, "%v", problems)
	require.Len(t, tables, len(needs))
	return tables
}

func exec(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err, statement)
}

// as opens a connection of another role.
func as(t *testing.T, db *testkit.Database, role string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), strings.Replace(db.URL, "postgres@", role+"@", 1))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
