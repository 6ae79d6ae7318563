package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNothingStaysStaleBehindGateAndGuard(t *testing.T) {
	var out bytes.Buffer
	r, err := run(t.Context(), options{duration: 1, seed: 1}, &out) // one round each
	t.Log(out.String())
	require.NoError(t, err)
	for m := range r.stale {
		for i, w := range r.ways {
			if !w.mustFail {
				require.Zero(t, r.stale[m][i], "%s from %s, %s", w.name, w.from, mode(m))
				require.Positive(t, r.fills[m][i], "%s from %s, %s", w.name, w.from, mode(m))
			}
		}
	}
}

func TestARunIsJudgedByBothSides(t *testing.T) {
	sound, weak := &way{name: "pkg/cache", from: "primary"}, &way{name: "lease", from: "primary", mustFail: true}
	r := newResults([]*way{sound, weak})
	require.ErrorContains(t, r.judge(), "too weak")
	r.stale[synchronous][1] = 1
	require.NoError(t, r.judge())
	r.stale[local][0] = 1
	require.ErrorContains(t, r.judge(), "1 values stayed stale")
}

func TestOptionsAreChecked(t *testing.T) {
	for text, ok := range map[string]bool{"": true, "10s": true, "10": false, "-1s": false} {
		_, err := readOptions(func(name string) string { return map[string]string{"TORTURE": text}[name] })
		require.Equal(t, ok, err == nil, text)
	}
	_, err := readOptions(func(name string) string { return map[string]string{"TORTURE_SEED": "x"}[name] })
	require.Error(t, err)
}
