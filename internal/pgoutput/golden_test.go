package pgoutput_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/pgoutput"
)

const (
	captureScript = "testdata/capture.sql"
	captureBytes  = "testdata/capture.hex"    // what PostgreSQL 15 sent, a message per line
	captureGolden = "testdata/capture.golden" // the same as transcript writes it
)

func TestCapturedMessagesDecode(t *testing.T) {
	golden, err := os.ReadFile(captureGolden)
	require.NoError(t, err)
	require.Equal(t, string(golden), transcribe(t, captured(t)))
}

// captured returns the messages that PostgreSQL once sent.
func captured(t testing.TB) [][]byte {
	text, err := os.ReadFile(captureBytes)
	require.NoError(t, err)
	var messages [][]byte
	for line := range strings.Lines(string(text)) {
		data, err := hex.DecodeString(strings.TrimSpace(line))
		require.NoError(t, err)
		messages = append(messages, data)
	}
	return messages
}

// transcribe decodes messages and writes each as a line without what differs from one server to the next: oids become
// names, and LSNs and times are checked instead.
func transcribe(t testing.TB, messages [][]byte) string {
	tr := transcript{t: t, names: map[uint32]string{}}
	for _, data := range messages {
		kind, err := tr.Decode(data)
		require.NoError(t, err, "%x", data)
		require.Equal(t, data, encode(kind, &tr.Decoder))
		fmt.Fprintf(&tr.text, "%s%s\n", kind, tr.line(kind))
	}
	return tr.text.String()
}

type transcript struct {
	pgoutput.Decoder
	t     testing.TB
	names map[uint32]string // of relations and types, by oid
	text  strings.Builder
}

func (tr *transcript) line(kind pgoutput.Kind) string {
	switch kind {
	case pgoutput.KindBegin:
		require.NotZero(tr.t, tr.Begin.XID)
		return ""
	case pgoutput.KindCommit:
		require.Equal(tr.t, tr.Begin.FinalLSN, tr.Commit.LSN)
		require.Greater(tr.t, tr.Commit.EndLSN, tr.Commit.LSN)
		require.Equal(tr.t, tr.Begin.CommitTime, tr.Commit.Time)
		return ""
	case pgoutput.KindOrigin:
		return fmt.Sprintf(" %s %.7s", tr.Origin.LSN, tr.Origin.Name)
	case pgoutput.KindType:
		tr.names[tr.Type.ID] = tr.Type.Namespace + "." + tr.Type.Name
		return " " + tr.names[tr.Type.ID]
	case pgoutput.KindMessage:
		require.NotZero(tr.t, tr.Message.LSN)
		return fmt.Sprintf(" transactional=%t %s %q", tr.Message.Transactional, tr.Message.Prefix, tr.Message.Content)
	case pgoutput.KindRelation:
		return tr.relation()
	case pgoutput.KindTruncate:
		return tr.truncate()
	}
	return tr.row()
}

func (tr *transcript) relation() string {
	rel := &tr.Relation
	tr.names[rel.ID] = rel.Namespace + "." + rel.Name
	var b strings.Builder
	fmt.Fprintf(&b, " %s identity=%c", tr.names[rel.ID], rel.ReplicaIdentity)
	for _, c := range rel.Columns {
		kind, ok := tr.names[c.Type]
		if !ok {
			kind = fmt.Sprint(c.Type)
		}
		fmt.Fprintf(&b, "\n  %q key=%t type=%s(%d)", c.Name, c.Key, kind, c.Modifier)
	}
	return b.String()
}

func (tr *transcript) truncate() string {
	line := fmt.Sprintf(" cascade=%t restart=%t", tr.Truncate.Cascade, tr.Truncate.RestartIdentity)
	for _, id := range tr.Truncate.Relations {
		line += " " + tr.names[id]
	}
	return line
}

func (tr *transcript) row() string {
	line := " " + tr.names[tr.Row.Relation]
	if tr.Row.OldKind != 0 {
		line += fmt.Sprintf("\n  old %c%s", tr.Row.OldKind, values(tr.Row.Old))
	}
	if len(tr.Row.New) > 0 {
		line += "\n  new" + values(tr.Row.New)
	}
	return line
}

func values(tuple pgoutput.Tuple) string {
	var b strings.Builder
	for _, c := range tuple {
		switch {
		case c.Data == nil:
			fmt.Fprintf(&b, " %c", c.Kind)
		case len(c.Data) > 100:
			fmt.Fprintf(&b, " %c%q...(%d)", c.Kind, c.Data[:5], len(c.Data))
		default:
			fmt.Fprintf(&b, " %c%q", c.Kind, c.Data)
		}
	}
	return b.String()
}
