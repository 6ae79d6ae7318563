package cache_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walfence/walfence/pkg/cache"
)

func TestGuardKeyEnclosesAKeyWithoutATag(t *testing.T) {
	require.Equal(t, "{tenant:7:user:1}:walfence-guard", cache.GuardKey("tenant:7:user:1"))
	require.Equal(t, "tenant:{7}:user:1:walfence-guard:tagged", cache.GuardKey("tenant:{7}:user:1"))
}

func TestCheckKeyRefusesBracesOtherThanOneTag(t *testing.T) {
	for _, key := range []string{"", "{", "}", "}{", "{}", "a{}b", "{a}{b}", "{a", "a}", "{{a}}", "{a}}", "x}{y}"} {
		require.ErrorIs(t, cache.CheckKey(key), cache.ErrKey, "key %q", key)
	}
	for _, key := range []string{"a", "{a}", "x{a}y", "with space", "\x00\xff", "{walfence-guard}"} {
		require.NoError(t, cache.CheckKey(key), "key %q", key)
	}
}

// tag returns the part of a key that Redis Cluster hashes.
func tag(key string) string {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if n := strings.IndexByte(key[open+1:], '}'); n > 0 {
			return key[open+1 : open+1+n]
		}
	}
	return key
}

func TestGuardsAreInTheirKeysSlotAndNoTwoKeysShareOne(t *testing.T) {
	key := rapid.Custom(func(t *rapid.T) string {
		parts := []string{"a", "b", "{", "}", ":", "walfence-guard", ":tagged", "{a}"}
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 1, 7).Draw(t, "parts"), "")
	}).Filter(func(k string) bool { return cache.CheckKey(k) == nil })
	rapid.Check(t, func(t *rapid.T) {
		a, b := key.Draw(t, "a"), key.Draw(t, "b")
		require.Equal(t, tag(a), tag(cache.GuardKey(a)))
		require.NotEqual(t, a, cache.GuardKey(a))
		if a != b {
			require.NotEqual(t, cache.GuardKey(a), cache.GuardKey(b))
		}
	})
}
