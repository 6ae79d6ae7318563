package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const changesSchema = `
CREATE TABLE users (id int PRIMARY KEY, tenant_id int NOT NULL, name text, seen int);
ALTER TABLE users REPLICA IDENTITY FULL;
INSERT INTO users SELECT n, n % 2, 'n', 0 FROM generate_series(1, 9) n;
CREATE TABLE products (id int PRIMARY KEY, tenant_id int NOT NULL, category text);
ALTER TABLE products REPLICA IDENTITY FULL;
INSERT INTO products VALUES (1, 1, 'a'), (2, 1, NULL), (3, 1, 'c');
CREATE TABLE logs (id int PRIMARY KEY, tenant_id int NOT NULL, kind text);
ALTER TABLE logs REPLICA IDENTITY FULL;
CREATE TABLE plain (tenant_id int, id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE settings (name text PRIMARY KEY);
CREATE TABLE unwatched (id int);
CREATE SCHEMA "Sales Dept";
CREATE TABLE "Sales Dept"."Order Items" ("Tenant Id" int, "Order:Id" text, PRIMARY KEY ("Tenant Id", "Order:Id"));
CREATE TABLE "Sales Dept".users (id int, tenant_id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE events (tenant_id int, id int, at date, PRIMARY KEY (tenant_id, id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE docs (tenant_id int, id int, title text, body text, PRIMARY KEY (id));
ALTER TABLE docs REPLICA IDENTITY FULL;
ALTER TABLE docs ALTER title SET STORAGE EXTERNAL;
CREATE TABLE papers (tenant_id int NOT NULL, id int NOT NULL, title text, n int, PRIMARY KEY (tenant_id, id));
ALTER TABLE papers ALTER title SET STORAGE EXTERNAL;
`

const changesRules = `
  - {name: profile, table: users, columns: [name], delete: ["{tenant}:user:{id}"]}
  - {name: category, table: products, versions: [v1, v2], delete: ["{tenant}:{version}:category:{category|none}"]}
  - {name: kind, table: logs, delete: ["{tenant}:kind:{kind}"]}
  - {name: plain, table: plain, delete: ["{tenant}:plain:{id}"]}
  - {name: settings, table: settings, tenant: global, delete: [settings]}
  - {name: items, table: '"Sales Dept"."Order Items"', tenant: {column: Tenant Id}, delete: ["{tenant}:order:{Order:Id}"]}
  - {name: sales_users, table: '"Sales Dept".users', delete: ["{tenant}:seller:{id}"]}
  - {name: events, table: events, delete: ["{tenant}:event:{id}"]}
  - {name: docs, table: docs, delete: ["{tenant}:doc:{title}"]}
  - {name: papers, table: papers, delete: ["{tenant}:paper:{title}"]}
`

// long is how many bytes PostgreSQL stores out of line, and a key can hold.
const long = 3000

// changes are told one after the other to the same database. Of all the keys, exactly those in gone must go.
var changes = []struct {
	name, sql string
	keys      string // planted
	gone      string // those that must be removed
}{
	{"insert", "INSERT INTO users VALUES (10, 1, 'x', 0)", "1:user:10 1:user:1 0:user:10", "1:user:10"},
	{"update", "UPDATE users SET name = 'y' WHERE id = 1", "1:user:1 0:user:1 1:user:3", "1:user:1"},
	{"update of a column that no rule names", "UPDATE users SET seen = 1 WHERE id = 1", "1:user:1", ""},
	{"update of nothing", "UPDATE users SET name = name WHERE id = 1", "1:user:1", ""},
	{"delete", "DELETE FROM users WHERE id = 3", "1:user:3 1:user:1 0:user:3", "1:user:3"},
	{"changed primary key", "UPDATE users SET id = 50 WHERE id = 5", "1:user:5 1:user:50 1:user:1", "1:user:5 1:user:50"},
	{"changed tenant", "UPDATE users SET tenant_id = 0 WHERE id = 7", "1:user:7 0:user:7 1:user:1", "1:user:7 0:user:7"},
	{
		"one transaction with several tables", "BEGIN; DELETE FROM users WHERE id = 9; INSERT INTO settings VALUES ('x'); INSERT INTO plain VALUES (1, 1); COMMIT",
		"1:user:9 settings 1:plain:1 1:plain:2", "1:user:9 settings 1:plain:1",
	},
	{"rolled back transaction", "BEGIN; UPDATE users SET name = 'z'; ROLLBACK", "1:user:1 0:user:2", ""},
	{
		"rolled back savepoint", "BEGIN; SAVEPOINT s; UPDATE users SET name = 'z' WHERE id = 1; ROLLBACK TO s; UPDATE users SET name = 'z' WHERE id = 2; COMMIT",
		"1:user:1 0:user:2", "0:user:2",
	},
	{"prepared transaction", "BEGIN; UPDATE users SET name = 'p' WHERE id = 4; PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'", "0:user:4 1:user:1", "0:user:4"},
	{
		"versions, and both the old and the new value", "UPDATE products SET category = 'b' WHERE id = 1",
		"1:v1:category:a 1:v2:category:a 1:v1:category:b 1:v2:category:b 1:v1:category:c",
		"1:v1:category:a 1:v2:category:a 1:v1:category:b 1:v2:category:b",
	},
	{"NULL with a default", "DELETE FROM products WHERE id = 2", "1:v1:category:none 1:v2:category:none 1:v1:category:c", "1:v1:category:none 1:v2:category:none"},
	{"NULL without a default makes no key", "INSERT INTO logs VALUES (1, 1, NULL)", "1:kind: 1:kind:a", ""},
	{"from NULL to a value", "UPDATE logs SET kind = 'a' WHERE id = 1", "1:kind:a 1:kind:", "1:kind:a"},
	{"values are escaped", `INSERT INTO logs VALUES (2, 1, 'a:b{c}*')`, "1:kind:a%3Ab%7Bc%7D%2A 1:kind:a:b{c}*", "1:kind:a%3Ab%7Bc%7D%2A"},
	{"names with capitals, blanks and colons", `INSERT INTO "Sales Dept"."Order Items" VALUES (1, 'ä')`, "1:order:ä 1:order:a", "1:order:ä"},
	{"the same name in another schema", `INSERT INTO "Sales Dept".users VALUES (1, 1)`, "1:seller:1 1:user:1", "1:seller:1"},
	{"a partition", "INSERT INTO events VALUES (1, 1, '2020-05-05')", "1:event:1 1:event:2", "1:event:1"},
	{
		"a partition made while it runs",
		"CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2021-01-01') TO ('2022-01-01'); INSERT INTO events VALUES (1, 2, '2021-05-05')",
		"1:event:2 1:event:3", "1:event:2",
	},
	{"a row that moves to another partition", "UPDATE events SET at = '2021-06-06', id = 3 WHERE id = 1", "1:event:1 1:event:3 1:event:2", "1:event:1 1:event:3"},
	{
		"a large value, unchanged, with the whole old row",
		fmt.Sprintf("INSERT INTO docs VALUES (1, 1, repeat('d', %[1]d), 'a'), (1, 2, 'other', 'b')", long),
		"1:doc:" + strings.Repeat("d", long) + " 1:doc:other 1:doc:x", "1:doc:" + strings.Repeat("d", long) + " 1:doc:other",
	},
	{
		"an update beside it", "UPDATE docs SET body = 'changed' WHERE id = 1",
		"1:doc:" + strings.Repeat("d", long) + " 1:doc:other", "1:doc:" + strings.Repeat("d", long),
	},
	{
		"a large value, unchanged, that nobody knows: every key of the rule and the tenant",
		fmt.Sprintf("INSERT INTO papers VALUES (1, 1, repeat('p', %d), 0), (2, 1, 'two', 0)", long), "1:paper:x", "",
	},
	{"the update that widens", "UPDATE papers SET n = 1 WHERE tenant_id = 1", "1:paper:x 1:paper:y 2:paper:x 1:plain:1", "1:paper:x 1:paper:y"},
	{"truncate of two tables: every key of their rules, and no other", "TRUNCATE plain, settings", "1:plain:1 2:plain:7 settings 1:user:1", "1:plain:1 2:plain:7 settings"},
	{"truncate of a partitioned table", "TRUNCATE events", "1:event:1 9:event:9 1:user:1", "1:event:1 9:event:9"},
	{"truncate of one partition", "TRUNCATE events_1", "1:event:1 1:user:1", "1:event:1"},
	{"a table without rules", "INSERT INTO unwatched VALUES (1)", "1:user:1 settings", ""},
	{"copy", "COPY plain FROM PROGRAM 'printf \"5\\t1\\n5\\t2\\n\"'", "5:plain:1 5:plain:2 5:plain:3", "5:plain:1 5:plain:2"},
}

func TestEveryKindOfChangeRemovesExactlyItsKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, changesSchema, changesRules)
	r.start()
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			keys, gone := strings.Fields(c.keys), strings.Fields(c.gone)
			r.plant(keys...)
			r.exec(strings.Split(c.sql, "; ")...)
			r.settle()
			want := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return slices.Contains(gone, key) })
			require.ElementsMatch(t, want, r.left(keys...))
			require.NoError(t, r.client.FlushAll(t.Context()).Err())
		})
	}
	require.Equal(t, 1.0, r.epochs(), "the first start's")
}
