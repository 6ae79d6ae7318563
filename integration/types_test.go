package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// types are the column types of PostgreSQL 15, each with two values.
var types = [][3]string{
	{"smallint", "-32768", "7"},
	{"integer", "0", "2147483647"},
	{"bigint", "9223372036854775807", "-1"},
	{"numeric", "1.50", "'NaN'"},
	{"numeric(40,20)", "12345678901234567890.5", "-0.1"},
	{"real", "0.1", "'-Infinity'"},
	{"double precision", "0.1", "1e300"},
	{"money", "'12.30'", "'-1'"},
	{"char(5)", "'ab'", "'c'"},
	{"varchar(9)", "'a b:c'", "''"},
	{"text", "'ä{}*?[]\\%'", "E'line\\nbreak\\t'"},
	{`"char"`, "'x'", "':'"},
	{"name", "'n'", "'N n'"},
	{"bytea", `'\x00ff25'`, "''"},
	{"timestamp", "'2024-02-29 12:34:56.789'", "'infinity'"},
	{"timestamptz", "'2024-02-29 12:34:56.789+05'", "'4713-01-01 00:00:00 BC'"},
	{"date", "'2024-02-29'", "'-infinity'"},
	{"time", "'01:02:03.004'", "'24:00'"},
	{"timetz", "'01:02:03+02'", "'00:00-12'"},
	{"interval", "'1 year 2 days 03:04:05.6'", "'-1 month'"},
	{"boolean", "true", "false"},
	{"mood", "'so so'", "'good'"},
	{"point", "'(1,2.5)'", "'(-1,0)'"},
	{"line", "'{1,2,3}'", "'{0,1,0}'"},
	{"lseg", "'[(0,0),(1,1)]'", "'[(0,0),(2,2)]'"},
	{"box", "'(1,1),(0,0)'", "'(2,2),(0,0)'"},
	{"path", "'[(0,0),(1,1)]'", "'((0,0),(1,1))'"},
	{"polygon", "'((0,0),(1,1),(2,0))'", "'((0,0),(1,1))'"},
	{"circle", "'<(0,0),5>'", "'<(1,0),5>'"},
	{"inet", "'10.0.0.1/8'", "'::1'"},
	{"cidr", "'10.0.0.0/8'", "'fe80::/64'"},
	{"macaddr", "'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"},
	{"macaddr8", "'08:00:2b:01:02:03:04:05'", "'08:00:2b:01:02:03:04:06'"},
	{"bit(4)", "B'1010'", "B'0000'"},
	{"varbit", "B'1'", "B''"},
	{"tsvector", "'a fat cat'", "'b:2A'"},
	{"tsquery", "'fat & cat'", "'!x'"},
	{"uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"},
	{"xml", "'<a b=\"1\">t</a>'", "'<x/>'"},
	{"json", `'{"a" : [1, null]}'`, "'null'"},
	{"jsonb", `'{"b":1,"a":"x"}'`, "'[]'"},
	{"jsonpath", "'$.a[*]'", "'$'"},
	{"integer[]", "'{1,NULL,3}'", "'{}'"},
	{"text[][]", `'{{a,"b c"},{"",NULL}}'`, "'{{x}}'"},
	{"boolean[]", "'{t,f}'", "'{NULL}'"},
	{"pair", `'(1,"a ""b""")'`, "'(,)'"},
	{"int4range", "'[1,5)'", "'empty'"},
	{"int8range", "'(,5)'", "'[1,1]'"},
	{"numrange", "'[1.5,2]'", "'(,)'"},
	{"tsrange", "'[2024-01-01,2024-02-01)'", "'empty'"},
	{"tstzrange", "'[2024-01-01 00:00+00,)'", "'empty'"},
	{"daterange", "'[2024-01-01,2024-01-31]'", "'empty'"},
	{"int4multirange", "'{[1,3),[5,7)}'", "'{}'"},
	{"tstzmultirange", "'{[2024-01-01 00:00+00,2024-01-02 00:00+00)}'", "'{}'"},
	{"positive", "5", "6"},
	{"oid", "4294967295", "0"},
	{"regtype", "'timestamptz'", "'text'"},
	{"regclass", "'pg_class'", "'values_'"},
	{"regnamespace", "'public'", "'pg_catalog'"},
	{"regrole", "'postgres'", "'pg_monitor'"},
	{"regproc", "'pg_sleep'", "'now'"},
	{"regconfig", "'simple'", "'english'"},
	{"xid", "'4294967295'", "'3'"},
	{"xid8", "'18446744073709551615'", "'3'"},
	{"cid", "'1'", "'2'"},
	{"tid", "'(1,2)'", "'(0,1)'"},
	{"pg_lsn", "'16/B374D848'", "'0/0'"},
	{"pg_snapshot", "'10:20:10,14,15'", "'1:1:'"},
	{"oidvector", "'1 2 3'", "''"},
	{"int2vector", "'1 2'", "'3'"},
	{"refcursor", "'c'", "'d'"},
	{"aclitem", "'postgres=r/postgres'", "'=w/postgres'"},
}

// A database whose settings print values in other ways than the keys'.
const strangeSettings = `ALTER DATABASE %[1]s SET datestyle = 'German'; ALTER DATABASE %[1]s SET timezone = 'Asia/Tokyo';
ALTER DATABASE %[1]s SET intervalstyle = 'iso_8601'; ALTER DATABASE %[1]s SET extra_float_digits = -10;
ALTER DATABASE %[1]s SET bytea_output = 'escape'; ALTER DATABASE %[1]s SET lc_monetary = 'C'`

// plainSettings are the settings that the text of a value in a key is defined by.
const plainSettings = `SET datestyle = 'ISO, MDY'; SET timezone = 'UTC'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1;
SET bytea_output = 'hex'`

func TestEveryColumnTypeIsInKeysAsPostgreSQLPrintsIt(t *testing.T) {
	t.Parallel()
	columns, first, second, deletes := []string{"id int PRIMARY KEY", "tenant_id int"}, []string{"1", "1"}, []string{"id = 1"}, []string{}
	for i, typ := range types {
		columns = append(columns, fmt.Sprintf("c%d %s", i, typ[0]))
		first = append(first, typ[1])
		second = append(second, fmt.Sprintf("c%d = %s", i, typ[2]))
		deletes = append(deletes, fmt.Sprintf(`"{tenant}:c%d:{c%[1]d}:"`, i))
	}
	schema := `CREATE TYPE mood AS ENUM ('so so', 'good'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN positive AS int CHECK (value > 0);
		CREATE TABLE values_ (` + strings.Join(columns, ", ") + `); ALTER TABLE values_ REPLICA IDENTITY FULL`
	r := newRig(t, schema, "  - {name: types, table: values_, delete: ["+strings.Join(deletes, ", ")+"]}\n")
	r.exec(fmt.Sprintf(strangeSettings, r.db.Name))
	r.start()

	r.exec("INSERT INTO values_ VALUES (" + strings.Join(first, ", ") + ")")
	before := r.typeKeys()
	r.plant(before...)
	r.settle() // the insert may have come before or after the keys
	r.plant(before...)
	r.exec("UPDATE values_ SET " + strings.Join(second, ", "))
	r.settle()
	require.Empty(t, r.left(before...), "the old row's")
	after := r.typeKeys()
	require.NotEqual(t, before, after)
	r.plant(after...)
	r.exec("DELETE FROM values_")
	r.settle()
	require.Empty(t, r.left(after...))
	require.Zero(t, r.invalidator.metric(t, "walfence_widened_total", "cause=inexact"))
}

// typeKeys are the keys of the one row, as an application would make them.
func (r *rig) typeKeys() (keys []string) {
	r.t.Helper()
	conn := r.db.Conn(r.t)
	_, err := conn.Exec(r.t.Context(), plainSettings)
	require.NoError(r.t, err)
	for i := range types {
		var text string
		// The cast to text of a char(n) drops its blanks, format prints the value as it is; of booleans the cast is meant.
		sql := fmt.Sprintf("SELECT CASE WHEN pg_typeof(c%[1]d) = 'boolean'::regtype THEN c%[1]d::text ELSE format('%%s', c%[1]d) END FROM values_", i)
		require.NoError(r.t, conn.QueryRow(r.t.Context(), sql, pgx.QueryExecModeSimpleProtocol).Scan(&text), types[i][0])
		keys = append(keys, fmt.Sprintf("1:c%d:%s:", i, escape(text)))
	}
	return keys
}

// escape is what the documentation says of values in keys.
func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`%:{}*?[]\`, c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
