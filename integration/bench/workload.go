package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/pkg/events"
)

// The table of every workload. An application that wants exact keys has its tenant in the replica identity.
const schema = `
CREATE TABLE items (
	id bigint PRIMARY KEY, tenant_id int NOT NULL, name text, price numeric, payload text, updated_at timestamptz);
CREATE UNIQUE INDEX items_identity ON items (id, tenant_id);
ALTER TABLE items REPLICA IDENTITY USING INDEX items_identity;

CREATE PROCEDURE one_row(n bigint, stride bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 0 .. n - 1 LOOP
		UPDATE items SET price = price + 1, updated_at = clock_timestamp() WHERE id = 1 + i * stride % n;
		COMMIT;
	END LOOP;
END $$;

CREATE PROCEDURE hundred_rows(n bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 0 .. n / 100 - 1 LOOP
		UPDATE items SET price = price + 1, updated_at = clock_timestamp() WHERE id BETWEEN i * 100 + 1 AND i * 100 + 100;
		COMMIT;
	END LOOP;
END $$`

// A hundred rows that follow each other belong to one tenant.
const fillTable = `
INSERT INTO items SELECT i, (i - 1) / 100 % 100, 'item ' || i, i % 1000 + 0.99, rpad(md5(i::text), 200, 'x'), now()
FROM generate_series(1, $1::bigint) AS i`

// fillCache stores the keys of rows ARGV[1] to ARGV[2], as the rule renders them.
const fillCache = `
for i = ARGV[1], ARGV[2] do
	redis.call('SET', string.format('tenant:%d:item:%d', math.floor((i - 1) / 100) % 100, i), 'cached')
end`

const rules = `version: 1
source: bench
tenant: {column: tenant_id}
caches:
  main: {redis: "${REDIS_URL}"}
rules:
  - name: item
    table: items
    delete: ["tenant:{tenant}:item:{id}"]
`

// workload is a way to change rows 1 to rows, each once.
type workload struct {
	name  string
	about string
	rows  int
	sql   func(rows int) string
}

// workloads take some seconds to drain. Their rows are a multiple of 100.
var workloads = []workload{
	{"w1", "transactions of one row", 250_000, func(rows int) string {
		return fmt.Sprintf("CALL one_row(%d, %d)", rows, stride(rows))
	}},
	{"w2", "transactions of 100 rows", 1_000_000, func(rows int) string {
		return fmt.Sprintf("CALL hundred_rows(%d)", rows)
	}},
	{"w3", "one transaction", 1_000_000, func(rows int) string {
		return fmt.Sprintf("UPDATE items SET price = price + 1, updated_at = clock_timestamp() WHERE id <= %d", rows)
	}},
}

// stride spreads what follows each other over the table and the tenants, and still meets every row once.
func stride(rows int) int {
	for _, prime := range []int{7919, 7907, 7901} {
		if rows%prime != 0 {
			return prime
		}
	}
	return 1
}

func (w workload) scaled(factor float64) workload {
	w.rows = max(int(float64(w.rows)*factor)/100*100, 100)
	return w
}

// backlog is the WAL of one workload, kept by a slot from which nobody reads.
type backlog struct {
	workload
	slot string
	end  events.LSN // after its last commit
}

// prepare makes a workload's WAL. The slot is made first, so it holds that and nothing else.
func (r *rig) prepare(ctx context.Context, w workload) (*backlog, error) {
	progress("%s: writing %d rows", w.name, w.rows)
	b := &backlog{workload: w, slot: "bench_" + w.name}
	if err := r.createSlot(ctx, b.slot); err != nil {
		return nil, err
	}
	// Without a transaction around it, so that it may commit.
	if _, err := r.control.Exec(ctx, w.sql(w.rows), pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("write rows: %w", err)
	}
	var end string
	if err := r.control.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&end); err != nil {
		return nil, fmt.Errorf("read WAL position: %w", err)
	}
	var err error
	if b.end, err = events.ParseLSN(end); err != nil {
		return nil, err
	}
	// What is dirty is written now and not while somebody is measured.
	return b, r.exec(ctx, "write checkpoint", "CHECKPOINT")
}

func (r *rig) createSlot(ctx context.Context, slot string) error {
	return r.exec(ctx, "create slot", "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slot)
}

// copySlot lets another reader decode the same WAL from the start.
func (r *rig) copySlot(ctx context.Context, from, to string) error {
	return r.exec(ctx, "copy slot", "SELECT pg_copy_logical_replication_slot($1, $2)", from, to)
}

// dropSlot removes a slot once its walsender has noticed that its reader is gone.
func (r *rig) dropSlot(ctx context.Context, slot string) error {
	return wait(ctx, 10*time.Second, 10*time.Millisecond, func() error {
		err := r.exec(ctx, "drop slot", "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", slot)
		if err != nil {
			_ = r.exec(ctx, "end walsender", "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1", slot)
		}
		return err
	})
}

func (r *rig) exec(ctx context.Context, what, sql string, args ...any) error {
	if _, err := r.control.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
