package integration

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

// ends runs a program that must end by itself, soon, and returns its exit code and what it said.
func (r *rig) ends(name string, changes map[string]string, args ...string) (int, string) {
	r.t.Helper()
	env := maps.Clone(r.env)
	maps.Copy(env, changes)
	p := testkit.Run(r.t, testkit.Binary(r.t, name), env, args...)
	code := p.Exit(r.t, patience)
	return code, p.Stdout() + p.Stderr()
}

// refused expects cdc to end with 2 and to say all of this.
func (r *rig) refused(changes map[string]string, want ...string) string {
	r.t.Helper()
	code, said := r.ends("cdc", changes, "run")
	require.Equal(r.t, 2, code, said)
	for _, text := range want {
		require.Contains(r.t, said, text)
	}
	return said
}

func TestATableThatDoesNotExistIsRefusedAtItsPlaceInTheRules(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules+`
  - name: missing
    table: plains
    delete: ["{tenant}:plains:{id}"]
`)
	r.refused(nil, "rules.yaml:11:", "table: plains", `"plain"`)
}

func TestATableWithoutIdentityIsRefusedWithStatementsThatMendIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, "CREATE TABLE plain (tenant_id int NOT NULL, id int NOT NULL, n int)", plainRules)
	said := r.refused(nil, "replica identity", "ALTER TABLE")
	r.exec("INSERT INTO plain VALUES (1, 1, 1)", "UPDATE plain SET n = 2") // published it would fail
	statements := regexp.MustCompile(`(?m)(CREATE UNIQUE INDEX|ALTER TABLE)[^;\n]*`).FindAllString(said, -1)
	require.NotEmpty(t, statements, said)
	r.exec(statements...)
	r.start()
	r.plant("1:plain:1", "1:plain:2")
	r.exec("UPDATE plain SET n = 3")
	r.gone("1:plain:1")
	require.NotEmpty(t, r.left("1:plain:2"))
}

func TestADatabaseWithoutLogicalWALIsRefused(t *testing.T) {
	t.Parallel()
	r := rigOn(t, testkit.PrivatePostgres(t, "wal_level=replica"), plainSchema, plainRules)
	r.refused(nil, "wal_level", "logical")
}

func TestARoleWithoutReplicationIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	role := r.db.Name + "_role"
	r.exec("CREATE ROLE "+role+" LOGIN", "ALTER TABLE plain OWNER TO "+role, "ALTER TABLE marker OWNER TO "+role,
		"GRANT CREATE ON DATABASE "+r.db.Name+" TO "+role)
	t.Cleanup(func() { r.exec("DROP OWNED BY "+role, "DROP ROLE "+role) })
	url := strings.Replace(r.db.URL, "postgres@", role+"@", 1)
	r.refused(map[string]string{"DATABASE_URL": url}, "REPLICATION", role)
}

func TestATypoInASettingIsRefusedWithItsName(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	for _, c := range []struct{ program, setting, value string }{
		{"cdc", "DATABASE_URL", ""},
		{"cdc", "DATABASE_URL", "postgras://127.0.0.1/x"},
		{"cdc", "DATABASE_URL", "postgres://127.0.0.1:54x2/x"},
		{"cdc", "DATABASE_URL", "postgres:/127.0.0.1/x"},
		{"cdc", "NATS_URL", "nuts://127.0.0.1:4222"},
		{"cdc", "NATS_URL", "nats://127.0.0.1:port"},
		{"invalidator", "NATS_URL", "http://127.0.0.1:4222"},
		{"invalidator", "REDIS_URL", "redis:/127.0.0.1"},
		{"invalidator", "REDIS_URL", "radis://127.0.0.1:6379"},
		{"cdc", "CDC_HTTP", "8081x"},
		{"cdc", "HEARTBEAT", "2"},
		{"cdc", "CDC_SLOT", "Upper-Case"},
		{"cdc", "CDC_SETUP", "manual"},
		{"invalidator", "WORKERS", "many"},
		{"cdc", "STREAM_MAX_BYTES", "8 apples"},
		{"cdc", "RULES", "/nowhere/rules.yaml"},
		{"invalidator", "RULES", "/nowhere/rules.yaml"},
	} {
		code, said := r.ends(c.program, map[string]string{c.setting: c.value}, "run")
		require.Equal(t, 2, code, "%s=%s: %s", c.setting, c.value, said)
		require.Contains(t, said, c.setting, c.value)
	}
}

const tenMistakes = `version: 1
source: shop
tenant: {column: tenant_id}
caches:
  main: {redis: "${REDIS_URL}", guard: 10 parsecs}
rules:
  - {name: one, table: users, delete: ["user:{id}"]}
  - {name: one, table: users, delete: ["{tenant}:u:{id}"]}
  - {name: three, table: Users, delete: ["{tenant}:u3:{id}"]}
  - {name: four, table: users, delete: ["{tenant}:u4:{id"]}
  - {name: five, table: users, on: [upsert], delete: ["{tenant}:u5:{id}"]}
  - {name: six, table: users, delte: ["{tenant}:u6:{id}"], delete: ["{tenant}:u6:{id}"]}
  - {name: seven, delete: ["{tenant}:u7:{id}"]}
  - {name: eight, table: users, cache: other, delete: ["{tenant}:u8:{id}"]}
  - {name: nine, table: users, delete: ["{tenant}:u9:{id}{name}"]}
  - {name: ten, table: users, delete: ["{tenant|none}:u10:{id}"]}
`

func TestTenMistakesInRulesAreAllReportedByBothPrograms(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.env["RULES"] = r.write("ten.yaml", tenMistakes)
	for _, program := range []string{"cdc", "invalidator"} {
		code, said := r.ends(program, nil, "run")
		require.Equal(t, 2, code, said)
		for _, line := range []int{5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16} {
			require.Contains(t, said, fmt.Sprintf("ten.yaml:%d:", line))
		}
	}
}

func TestWithSetupOffCDCPrintsTheSQLThatIsMissingAndItIsEnough(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.env["CDC_SETUP"] = "off"
	for range 3 { // first the publication is missing, then the slot
		code, said := r.ends("cdc", nil, "setup")
		if code == 0 {
			break
		}
		require.Equal(t, 2, code, said)
		r.refused(nil, "CDC_SETUP=off")
		var left int
		require.NoError(t, r.query("SELECT count(*) FROM pg_publication", &left))
		statements := regexp.MustCompile(`(?m)^\s*(?:cdc:)?\s*((?:CREATE|ALTER|COMMENT|SELECT)[^\n]*);`).FindAllStringSubmatch(said, -1)
		require.NotEmpty(t, statements, said)
		done := map[string]bool{}
		for _, s := range statements {
			if !done[s[1]] {
				r.exec(s[1])
			}
			done[s[1]] = true
		}
	}
	r.start()
	r.works()
}

func TestAPublicationThatIsNotOursIsUsedAsItIs(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema+"; CREATE TABLE other (id int PRIMARY KEY)", plainRules)
	r.exec("CREATE PUBLICATION walfence FOR ALL TABLES")
	before := r.publication()
	r.start()
	r.exec("INSERT INTO other SELECT generate_series(1, 1000)")
	r.works()
	require.Equal(t, before, r.publication())
	require.Zero(t, r.cdc.metric(t, "walfence_cdc_widened_total"))
}

func (r *rig) publication() (row string) {
	r.t.Helper()
	require.NoError(r.t, r.query("SELECT p.xmin || p::text || coalesce(obj_description(oid, 'pg_publication'), '') FROM pg_publication p", &row))
	return row
}

func TestASlotOfAnotherDatabaseOrPluginIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	other := testkit.NewDatabase(t)
	other.Exec(t, "SELECT pg_create_logical_replication_slot('"+other.Name+"', 'pgoutput')")
	r.refused(map[string]string{"CDC_SLOT": other.Name}, other.Name, "database")
	r.exec("SELECT pg_create_logical_replication_slot('" + r.db.Name + "', 'test_decoding')")
	r.refused(nil, r.db.Name, "test_decoding")
}

func TestAddressesThatAreTakenAreSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t, plainSchema, plainRules)
	r.start()
	began := time.Now()
	code, said := r.ends("cdc", map[string]string{"CDC_HTTP": r.cdc.at.Address}, "run")
	require.NotZero(t, code)
	require.Contains(t, said, r.cdc.at.Address)
	require.Less(t, time.Since(began), 10*time.Second)
}
