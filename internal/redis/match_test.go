package redis

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

// drawPattern draws a template and a key that it renders.
func drawPattern(t *rapid.T) (events.Pattern, string) {
	literals := rapid.SliceOfN(rapid.SampledFrom([]string{":", "a:", ":b", "x:*:y", ":["}), 1, 3).Draw(t, "literals")
	p := append(events.Pattern{rapid.SampledFrom([]string{"", "a", "ab", "t:"}).Draw(t, "first")}, literals...)
	if rapid.Bool().Draw(t, "tagged") {
		p[len(p)-1] += "{tag}"
	}
	key := p[0]
	for _, part := range p[1:] {
		key += rapid.SampledFrom([]string{"", "1", "ab", "é", "%7B"}).Draw(t, "value") + part
	}
	return p, key
}

func TestGuardPatternMatchesExactlyTheGuardsOfWhatThePatternMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, key := drawPattern(t)
		_, other := drawPattern(t)
		require.True(t, guardPattern(p).Match(cache.GuardKey(key)), "%q %q", p, key)
		require.Equal(t, p.Match(other), guardPattern(p).Match(cache.GuardKey(other)), "%q %q", p, other)
	})
}

func TestCommonGlobMatchesWhatAnyPatternDoes(t *testing.T) {
	require.Equal(t, `tenant:*:a`, commonGlob([]events.Pattern{{"tenant:1:", ":a"}, {"tenant:2:", ":b:a"}}))
	require.Equal(t, `settings*`, commonGlob([]events.Pattern{{"settings"}, {"settings2"}}))
	require.Equal(t, `*`, commonGlob([]events.Pattern{{"a"}, {"b"}}))

	rapid.Check(t, func(t *rapid.T) {
		var patterns []events.Pattern
		var keys []string
		for range rapid.IntRange(2, 4).Draw(t, "patterns") {
			p, key := drawPattern(t)
			if rapid.Bool().Draw(t, "literal") {
				p = events.Pattern{key}
			}
			patterns, keys = append(patterns, p), append(keys, key)
		}
		glob := commonGlob(patterns)
		for _, key := range keys {
			require.True(t, globMatch(glob, key), "%q %q", glob, key)
		}
	})
}

// globMatch is Redis' matching, as far as commonGlob uses it.
func globMatch(glob, s string) bool {
	switch {
	case glob == "":
		return s == ""
	case glob[0] == '*':
		return globMatch(glob[1:], s) || s != "" && globMatch(glob, s[1:])
	case glob[0] == '\\':
		glob = glob[1:]
	}
	return s != "" && s[0] == glob[0] && globMatch(glob[1:], s[1:])
}
