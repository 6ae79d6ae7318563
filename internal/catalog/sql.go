package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walfence/walfence/pkg/events"
)

// querier is a connection or a transaction on one.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// quote writes an identifier so that it is safe in SQL, whatever it holds.
func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// quoted writes a table's name with its schema for SQL.
func quoted(t events.Table) string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

func quoteAll(names []string) string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = quote(name)
	}
	return strings.Join(out, ", ")
}

// literal writes a string constant for SQL. With an E and doubled backslashes it means the same under every setting.
func literal(s string) string {
	s = strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return `E'` + strings.ReplaceAll(s, `\`, `\\`) + `'`
	}
	return "'" + s + "'"
}

func quoteIn(schema, name string) string { return pgx.Identifier{schema, name}.Sanitize() }

// execute runs one statement without arguments, and translates the errors that callers tell apart.
func execute(ctx context.Context, conn *pgx.Conn, statement string) error {
	_, err := conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "55P03" { // lock_not_available
		return fmt.Errorf("%w: %w", ErrLocked, err)
	}
	return err
}
