package pgoutput_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/capture.* anew from a real PostgreSQL")

// TestMessagesOfPostgreSQLDecode has a server write what capture.sql leads to, once as text and once in binary.
func TestMessagesOfPostgreSQLDecode(t *testing.T) {
	db := testkit.NewDatabase(t)
	conn, slot := db.Conn(t), db.Name
	script, err := os.ReadFile(captureScript)
	require.NoError(t, err)
	for statement := range strings.SplitSeq(strings.ReplaceAll(string(script), "SLOT", slot), ";\n") {
		_, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, statement)
	}
	messages := append(peek(t, conn, slot, false), peek(t, conn, slot, true)...)
	if *rewrite {
		write(t, messages)
	}
	golden, err := os.ReadFile(captureGolden)
	require.NoError(t, err)
	require.Equal(t, string(golden), transcribe(t, messages))
}

func peek(t *testing.T, conn *pgx.Conn, slot string, binary bool) [][]byte {
	rows, err := conn.Query(t.Context(), `SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', 'captured', 'messages', 'true', 'binary', $2)`, slot, fmt.Sprint(binary))
	require.NoError(t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	return messages
}

func write(t *testing.T, messages [][]byte) {
	var hex strings.Builder
	for _, data := range messages {
		fmt.Fprintf(&hex, "%x\n", data)
	}
	require.NoError(t, os.WriteFile(captureBytes, []byte(hex.String()), 0o644))
	require.NoError(t, os.WriteFile(captureGolden, []byte(transcribe(t, messages)), 0o644))
}
