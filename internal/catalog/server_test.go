package catalog_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/testkit"
)

func server(t *testing.T, conn *pgx.Conn) *catalog.Server {
	t.Helper()
	s, err := catalog.ReadServer(t.Context(), conn)
	require.NoError(t, err)
	return s
}

func TestServerThatIsReadyHasNoProblems(t *testing.T) {
	db := testkit.NewDatabase(t)
	s := server(t, db.Conn(t))
	require.Empty(t, s.Problems(db.Name))
	require.Equal(t, db.Name, s.Database)
	require.Equal(t, "postgres", s.Role)
	require.True(t, s.Superuser)
	require.False(t, s.Pooler)
}

func TestServerThatCannotStreamSaysEverythingThatIsMissing(t *testing.T) {
	cluster := testkit.PrivatePostgres(t, "wal_level=replica", "max_replication_slots=1")
	require.NoError(t, cluster.Exec("postgres", `CREATE ROLE "Reader" LOGIN; SELECT pg_create_physical_replication_slot('taken')`))
	conn, err := pgx.Connect(t.Context(), strings.Replace(cluster.URL("postgres"), "postgres@", "Reader@", 1))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	problems := server(t, conn).Problems("walfence")
	require.Equal(t, []string{
		`error wal_level is replica, not logical`, `error role "Reader" may not replicate`, `error all 1 replication slots are taken`,
	}, causes(problems))

	admin, err := pgx.Connect(t.Context(), cluster.URL("postgres"))
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close(t.Context())) }()
	for _, p := range problems {
		for _, statement := range p.Statements {
			exec(t, admin, statement)
		}
	}
	require.True(t, server(t, conn).Replication)
	require.Len(t, server(t, conn).Problems("taken"), 1, "its own slot is no longer missing, wal_level still is")
}

func TestPoolerIsSeenByTheProcessIDThatItMakesUp(t *testing.T) {
	db := testkit.NewDatabase(t)
	config, err := pgx.ParseConfig(db.URL)
	require.NoError(t, err)
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend { return pgproto3.NewFrontend(&pooler{r: r}, w) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	s := server(t, conn)
	require.True(t, s.Pooler)
	require.ErrorContains(t, s.Problems(db.Name).Err(), "a connection pooler stands between")
}

// pooler changes the process id in the server's first messages, as PgBouncer does. It stands in for a program that would
// have to be installed; the server behind it is real.
type pooler struct {
	r    io.Reader
	done bool
}

func (p *pooler) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	keyData := []byte{'K', 0, 0, 0, 12}
	if i := bytes.Index(b[:n], keyData); i >= 0 && !p.done {
		p.done = true
		binary.BigEndian.PutUint32(b[i+len(keyData):], 4711)
	}
	return n, err
}
