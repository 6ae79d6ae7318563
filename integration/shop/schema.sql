-- The example shop that the repository's rules.yaml is for: many tenants in one set of tables.
--
-- What a key or its tenant is made of must be in the table's replica identity: PostgreSQL then sends it for the old row
-- too. Where a rule also looks at whether a column changed, that column must be there as well.

CREATE TABLE users (
	id           bigint PRIMARY KEY,
	tenant_id    int NOT NULL,
	name         text NOT NULL,
	email        text NOT NULL,
	avatar_url   text,
	last_seen_at timestamptz,
	ver          bigint NOT NULL DEFAULT 1
);
-- Whole old rows: the rule user-profile leaves alone an update that changes neither name, email nor avatar_url.
ALTER TABLE users REPLICA IDENTITY FULL;
CREATE INDEX users_tenant ON users (tenant_id);

CREATE TABLE products (
	id        bigint PRIMARY KEY,
	tenant_id int NOT NULL,
	category  text,
	name      text NOT NULL,
	price     numeric(10, 2) NOT NULL,
	stock     int NOT NULL,
	ver       bigint NOT NULL DEFAULT 1
);
-- Whole old rows again, for the rule category; and an index cannot be an identity over a column that may be NULL.
ALTER TABLE products REPLICA IDENTITY FULL;
CREATE INDEX products_category ON products (tenant_id, category);

CREATE TABLE orders (
	id          bigint PRIMARY KEY,
	tenant_id   int NOT NULL,
	customer_id bigint NOT NULL,
	state       text NOT NULL,
	ver         bigint NOT NULL DEFAULT 1
);
-- An index over just what the keys are made of is the cheapest identity.
CREATE UNIQUE INDEX orders_identity ON orders (id, tenant_id, customer_id);
ALTER TABLE orders REPLICA IDENTITY USING INDEX orders_identity;
CREATE INDEX orders_customer ON orders (tenant_id, customer_id);

-- The primary key has all that the keys are made of: nothing to do.
CREATE TABLE order_items (
	tenant_id  int NOT NULL,
	order_id   bigint NOT NULL,
	line       int NOT NULL,
	product_id bigint NOT NULL,
	quantity   int NOT NULL,
	PRIMARY KEY (tenant_id, order_id, line)
);

CREATE TABLE settings (
	name  text PRIMARY KEY,
	value text NOT NULL
);
