// Package shop is the example application: a shop with many tenants, its schema, its writers, and what its pages cache.
//
// Its promise: it fits the repository's rules.yaml, changes rows in every way that SQL has, and tells a check.History what
// it committed.
package shop

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/integration/check"
)

// Schema creates the tables.
//
//go:embed schema.sql
var Schema string

// Shop is one database with the schema in it, and its size. It may be used from many goroutines.
type Shop struct {
	// Tenants are numbered from 1. Nobody writes the rows of the last Quiet of them.
	Tenants, Quiet int
	// Users, Products and Orders are how many each tenant has at first.
	Users, Products, Orders int
	// History is told what is committed.
	History *check.History
}

// New returns a shop of some thousands of rows.
func New() *Shop {
	return &Shop{Tenants: 50, Quiet: 4, Users: 100, Products: 40, Orders: 40, History: check.NewHistory()}
}

const (
	categories = 8
	itemsEach  = 3
	settings   = 5
)

// home is the tenant that a row belongs to at first: ids go round.
func (s *Shop) home(id int64) int { return int((id-1)%int64(s.Tenants)) + 1 }

// partner is the tenant that a row of this tenant moves to and back from. A quiet tenant's partner is quiet.
func partner(tenant int) int { return (tenant - 1) ^ 1 + 1 }

func (s *Shop) busy() int { return s.Tenants - s.Quiet }

// Create makes the tables and fills them.
func (s *Shop) Create(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, Schema); err != nil {
		return fmt.Errorf("create schema: %w", err)
	}
	for _, sql := range s.rows() {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("fill tables: %w", err)
		}
	}
	return nil
}

func (s *Shop) rows() []string {
	tenant := fmt.Sprintf("(n - 1) %% %d + 1", s.Tenants)
	return []string{
		fmt.Sprintf(`INSERT INTO users (id, tenant_id, name, email)
			SELECT n, %s, 'user ' || n, 'user' || n || '@shop.example' FROM generate_series(1, %d) n`, tenant, s.Tenants*s.Users),
		fmt.Sprintf(`INSERT INTO products (id, tenant_id, category, name, price, stock)
			SELECT n, %s, CASE WHEN n / %d %% %d > 0 THEN 'c' || n / %[2]d %% %[3]d END, 'product ' || n, n %% 90 + 9.99, 100
			FROM generate_series(1, %d) n`, tenant, s.Tenants, categories, s.Tenants*s.Products),
		fmt.Sprintf(`INSERT INTO orders (id, tenant_id, customer_id, state)
			SELECT n, %s, %[1]s + %d * ((n / %[2]d) %% %d), 'new' FROM generate_series(1, %d) n`,
			tenant, s.Tenants, s.Users, s.Tenants*s.Orders),
		fmt.Sprintf(`INSERT INTO order_items SELECT o.tenant_id, o.id, line, 1 + o.id %% %d, line
			FROM orders o, generate_series(1, %d) line`, s.Tenants*s.Products, itemsEach),
		fmt.Sprintf("INSERT INTO settings SELECT 'setting ' || n, 'first' FROM generate_series(1, %d) n", settings),
		"INSERT INTO users VALUES (0, 0, 'marker', 'marker')",
		"ANALYZE",
	}
}

// MarkerSQL and MarkerKey are for a [check.Barrier].
const (
	MarkerSQL = "UPDATE users SET name = name || '.', ver = ver + 1 WHERE id = 0"
	MarkerKey = "tenant:0:user:0:profile"
)
