package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/mapping"
)

func TestRulesThatAskForWhatIsNotDoneYetAreRefused(t *testing.T) {
	program := func(rule string) *mapping.Program {
		p, err := mapping.Compile("rules.yaml", []byte("version: 1\nsource: shop\ntenant: global\ncaches: {main: {redis: redis://h}}\nscopes: {s: s}\n"+
			"rules:\n  - {name: r, table: t, bump: [s]}\n  - {name: x, table: t, delete: [x]"+rule+"}\n"), nil)
		require.NoError(t, err)
		return p
	}
	require.NoError(t, refuse(program("")))
	require.EqualError(t, refuse(program(", repeat: [1s], refresh: [{key: y, query: SELECT 1, ttl: 1m}]")),
		"the rules use refresh, which this version cannot do yet")
	require.EqualError(t, refuse(program(", through: SELECT a FROM t WHERE id = :id")), "the rules use through, which this version cannot do yet")
}
