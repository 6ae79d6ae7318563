package shop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// step is one transaction of a writer. No row is not an error: another writer has deleted it.
type step struct {
	weight int
	do     func(s *Shop, ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error
}

var steps = []step{
	{30, (*Shop).rename},
	{10, (*Shop).seen},
	{15, (*Shop).reprice},
	{10, (*Shop).restock},
	{4, (*Shop).recategorise},
	{6, (*Shop).moveUser},
	{2, (*Shop).moveProduct},
	{6, (*Shop).replaceUser},
	{8, (*Shop).advanceOrder},
	{3, (*Shop).handOver},
	{4, (*Shop).replaceOrder},
	{1, (*Shop).set},
	{1, (*Shop).many},
}

// Write commits one transaction of some kind. It is a [check.Work].
func (s *Shop) Write(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	n := rng.IntN(100)
	for _, st := range steps {
		if n -= st.weight; n < 0 {
			return st.do(s, ctx, conn, rng)
		}
	}
	return nil
}

// change runs one statement that returns tenant and version of the row that it changed, and reports whether there was one.
func change(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (tenant int, ver int64, changed bool, err error) {
	err = conn.QueryRow(ctx, sql, args...).Scan(&tenant, &ver)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, false, nil
	}
	return tenant, ver, err == nil, err
}

func (s *Shop) user(rng *rand.Rand) int64 { return s.pick(rng, s.Users, s.busy()) }

func (s *Shop) product(rng *rand.Rand) int64 { return s.pick(rng, s.Products, s.busy()) }

func (s *Shop) order(rng *rand.Rand) int64 { return s.pick(rng, s.Orders, s.busy()) }

func (s *Shop) rename(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	id := s.user(rng)
	tenant, ver, ok, err := change(ctx, conn,
		"UPDATE users SET name = 'user ' || id || ' v' || ver + 1, ver = ver + 1 WHERE id = $1 RETURNING tenant_id, ver", id)
	if ok {
		s.History.Committed(profileKey(tenant, id), ver)
	}
	return err
}

// seen changes nothing that is cached.
func (s *Shop) seen(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	_, err := conn.Exec(ctx, "UPDATE users SET last_seen_at = now() WHERE id = $1", s.user(rng))
	return err
}

func (s *Shop) changeProduct(ctx context.Context, conn *pgx.Conn, id int64, set string) error {
	tenant, ver, ok, err := change(ctx, conn,
		"UPDATE products SET "+set+", ver = ver + 1 WHERE id = $1 RETURNING tenant_id, ver", id)
	if ok {
		s.History.Committed(productKey(tenant, "v2", id), ver)
		s.History.Committed(productKey(tenant, "v3", id), ver)
	}
	return err
}

func (s *Shop) reprice(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	return s.changeProduct(ctx, conn, s.product(rng), "price = (ver * 7 % 9000 + 99) / 100.0")
}

// restock changes a product, but not what a category's page shows of it.
func (s *Shop) restock(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	return s.changeProduct(ctx, conn, s.product(rng), "stock = stock + 1")
}

// recategorise also takes products out of every category, and back.
func (s *Shop) recategorise(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	return s.changeProduct(ctx, conn, s.product(rng), fmt.Sprintf("category = nullif('c' || (ver + id) %% %d, 'c0')", categories))
}

// move takes a row to its partner tenant, or back.
func move(ctx context.Context, conn *pgx.Conn, table string, id int64) (from, to int, ver int64, moved bool, err error) {
	err = conn.QueryRow(ctx, "UPDATE "+table+` AS new SET tenant_id = (old.tenant_id - 1 # 1) + 1, ver = new.ver + 1
		FROM (SELECT id, tenant_id FROM `+table+` WHERE id = $1 FOR UPDATE) AS old
		WHERE new.id = old.id RETURNING old.tenant_id, new.tenant_id, new.ver`, id).Scan(&from, &to, &ver)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, 0, false, nil
	}
	return from, to, ver, err == nil, err
}

func (s *Shop) moveUser(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	id := s.user(rng)
	from, to, ver, moved, err := move(ctx, conn, "users", id)
	if moved {
		s.History.Gone(profileKey(from, id), ver)
		s.History.Committed(profileKey(to, id), ver)
	}
	return err
}

func (s *Shop) moveProduct(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	id := s.product(rng)
	from, to, ver, moved, err := move(ctx, conn, "products", id)
	if moved {
		for _, version := range []string{"v2", "v3"} {
			s.History.Gone(productKey(from, version, id), ver)
			s.History.Committed(productKey(to, version, id), ver)
		}
	}
	return err
}

// replaceUser deletes a user, and in a transaction of its own creates it again, as an application that re-uses natural keys
// would. Its version goes on, so that no state ever comes back. One that an interrupted writer left deleted comes back too.
func (s *Shop) replaceUser(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	id := s.user(rng)
	home := s.home(id)
	tenant, ver, ok, err := change(ctx, conn, "DELETE FROM users WHERE id = $1 RETURNING tenant_id, ver", id)
	if err != nil {
		return err
	}
	if ok {
		s.History.Gone(profileKey(tenant, id), ver+1)
	}
	ver = 1 + max(ver+1, s.History.Newest(profileKey(home, id)), s.History.Newest(profileKey(partner(home), id)))
	_, ver, ok, err = change(ctx, conn, `INSERT INTO users (id, tenant_id, name, email, ver) VALUES ($1, $2, $3, 'again@shop.example', $4)
		ON CONFLICT DO NOTHING RETURNING tenant_id, ver`, id, home, fmt.Sprint("user ", id, " again"), ver)
	if ok {
		s.History.Committed(profileKey(home, id), ver)
	}
	return err
}

func (s *Shop) advanceOrder(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	id := s.order(rng)
	tenant, ver, ok, err := change(ctx, conn,
		"UPDATE orders SET state = 'state' || ver + 1, ver = ver + 1 WHERE id = $1 RETURNING tenant_id, ver", id)
	if ok {
		s.History.Committed(orderKey(tenant, id), ver)
	}
	return err
}

// handOver gives an order to another customer of its tenant.
func (s *Shop) handOver(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	id := s.order(rng)
	customer := int64(rng.IntN(8)*s.Tenants + s.home(id))
	tenant, ver, ok, err := change(ctx, conn,
		"UPDATE orders SET customer_id = $2, ver = ver + 1 WHERE id = $1 RETURNING tenant_id, ver", id, customer)
	if ok {
		s.History.Committed(orderKey(tenant, id), ver)
	}
	return err
}

// replaceOrder deletes an order with its items, and creates it again, both in one transaction.
func (s *Shop) replaceOrder(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	id := s.order(rng)
	var tenant int
	var ver int64
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var customer int64
		err := tx.QueryRow(ctx, "DELETE FROM orders WHERE id = $1 RETURNING tenant_id, customer_id, ver", id).Scan(&tenant, &customer, &ver)
		if err != nil {
			return err
		}
		ver++
		if _, err := tx.Exec(ctx, "DELETE FROM order_items WHERE tenant_id = $1 AND order_id = $2", tenant, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO orders VALUES ($1, $2, $3, 'new', $4)", id, tenant, customer, ver); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO order_items SELECT $1, $2, line, 1, $3 FROM generate_series(1, 3) line", tenant, id, ver)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		s.History.Committed(orderKey(tenant, id), ver)
	}
	return err
}

func (s *Shop) set(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	_, err := conn.Exec(ctx, "INSERT INTO settings VALUES ('setting ' || $1::int, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
		rng.IntN(settings)+1, fmt.Sprint(rng.Uint64()))
	return err
}

// many changes a whole tenant's prices in one transaction.
func (s *Shop) many(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	_, err := conn.Exec(ctx, `WITH mine AS (SELECT id FROM products WHERE tenant_id = $1 ORDER BY id FOR UPDATE)
		UPDATE products SET price = price + 1, ver = ver + 1 FROM mine WHERE products.id = mine.id`, rng.IntN(s.busy())+1)
	return err
}

// Truncate empties two tables, one of them the global one, and writes the global one anew.
func (s *Shop) Truncate(ctx context.Context, conn *pgx.Conn) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "TRUNCATE order_items, settings"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO settings SELECT 'setting ' || n, 'new' FROM generate_series(1, 5) n")
		return err
	})
	if err != nil {
		return fmt.Errorf("truncate: %w", err)
	}
	return nil
}
