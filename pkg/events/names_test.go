package events_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walfence/walfence/pkg/events"
)

func part(s string) string { return string(events.AppendKeyPart(nil, s)) }

func TestValuesInKeysAreEscaped(t *testing.T) {
	for in, want := range map[string]string{
		"42": "42", "a:b": "a%3Ab", "50%": "50%25", "a b\t": "a%20b%09", "{x}": "%7Bx%7D", "*?[]\\": "%2A%3F%5B%5D%5C",
		"größe": "größe", "a\xffb": "a%FFb", "x@example.com": "x@example.com", "a\u00a0b": "a%C2%A0b", "\u0085": "%C2%85", "": "",
	} {
		require.Equal(t, want, part(in), "%q", in)
	}
}

func TestEscapingNeverMakesTwoValuesEqualNorHoldsASeparator(t *testing.T) {
	bytes := rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOf(rapid.SampledFrom([]byte("a:%3A{}2 \xff\xc3\xbc.>$_"))).Draw(t, "bytes"))
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := bytes.Draw(t, "a"), bytes.Draw(t, "b")
		if a != b && part(a) == part(b) {
			t.Fatalf("%q and %q are both %q", a, b, part(a))
		}
		for _, c := range []byte(part(a)) {
			if events.IsSeparator(c) {
				t.Fatalf("%q holds %q", part(a), c)
			}
		}
		sa, sb := events.InvalidationSubject("main", a), events.InvalidationSubject("main", b)
		if a != b && sa == sb || sa == events.GlobalInvalidationSubject("main") {
			t.Fatalf("%q and %q are both %q", a, b, sa)
		}
	})
}

func TestSubjectsAreTokens(t *testing.T) {
	require.Equal(t, "changes.shop.public.Order%20Items", events.ChangesSubject("shop", events.Table{Schema: "public", Name: "Order Items"}))
	require.Equal(t, "invalidations.main.a%2Eb%3E%2A", events.InvalidationSubject("main", "a.b>*"))
	require.Equal(t, "invalidations.main.%5F", events.InvalidationSubject("main", "_"))
	require.Equal(t, "invalidations.main.%", events.InvalidationSubject("main", ""))
	require.Equal(t, "changes.shop._._", events.SourceSubject("shop"))
	require.Equal(t, "deadletters.shop._", events.DeadLetterSubject("shop", ""))
}

func TestPatternMatchesWhatItsTemplateRendersAndNothingElse(t *testing.T) {
	profile := events.Pattern{"tenant:7:user:", ":profile"}
	require.True(t, profile.Match("tenant:7:user:42:profile"))
	require.True(t, profile.Match("tenant:7:user::profile"), "an empty value")
	require.True(t, profile.Match("tenant:7:user:a%3Ab:profile"))
	for _, other := range []string{"tenant:7:user:4:2:profile", "tenant:70:user:42:profile", "tenant:7:user:42:profile2", "tenant:7:user:42", ""} {
		require.False(t, profile.Match(other), other)
	}
	require.True(t, events.Pattern{"settings"}.Match("settings"))
	require.False(t, events.Pattern{"settings"}.Match("settings2"))
	require.True(t, events.Pattern{"u", "-x:", ""}.Match("ua-x-x:b"))
	require.False(t, events.Pattern{"u", "-x:", ""}.Match("ua-x-y:b"))
	require.Equal(t, `t:\*:*:p`, events.Pattern{"t:*:", ":p"}.Glob())
}

func TestLSNTextIsPostgreSQLs(t *testing.T) {
	for in, want := range map[events.LSN]string{0: "0/0", 0x16B374D848: "16/B374D848", 1<<64 - 1: "FFFFFFFF/FFFFFFFF", 0xA: "0/A", 0x10: "0/10"} {
		require.Equal(t, want, in.String())
		back, err := events.ParseLSN(want)
		require.NoError(t, err)
		require.Equal(t, in, back)
	}
	for _, bad := range []string{"", "1", "x/0", "0/123456789", "0/0/0"} {
		_, err := events.ParseLSN(bad)
		require.Error(t, err, bad)
	}
}
