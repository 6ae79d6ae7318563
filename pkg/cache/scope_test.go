package cache_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

func openScopes(t *testing.T, client redis.UniversalClient, options ...cache.Option) *cache.Scopes {
	s, err := cache.NewScopes(client, cache.ScopesOptions{}, options...)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func scopeKey(t *testing.T, s *cache.Scopes, scope string) string {
	key, err := s.Key(t.Context(), scope, "page:1")
	require.NoError(t, err)
	return key
}

func TestBumpingAScopeRenamesItsKeys(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient) {
		a, b := openScopes(t, client), openScopes(t, client)
		scope := cache.Scope("7", "catalog")
		first := scopeKey(t, a, scope)
		require.True(t, strings.HasPrefix(first, "tenant:7:catalog:"))
		require.True(t, strings.HasSuffix(first, ":page:1"))
		require.Equal(t, first, scopeKey(t, b, scope), "all processes share it")
		require.NotEqual(t, first, scopeKey(t, a, cache.Scope("8", "catalog")))
		for range 2 { // to bump is to delete, and may be repeated
			require.NoError(t, client.Unlink(t.Context(), cache.GenerationKey(scope)).Err())
		}
		require.NotEqual(t, first, scopeKey(t, a, scope))
		require.Equal(t, scopeKey(t, a, scope), scopeKey(t, b, scope))
	})
}

func TestATenantsNameCannotNameAnothersScope(t *testing.T) {
	require.Equal(t, "tenant:a%3Ab:catalog", cache.Scope("a:b", "catalog"))
	require.NoError(t, cache.CheckKey(cache.GenerationKey(cache.Scope("{x", "catalog"))))
}

func TestAGenerationIsReadOnceAndKeptInStep(t *testing.T) {
	s := newStage(t, cache.FeedOptions{})
	scopes := openScopes(t, s.redis, cache.WithFeed(s.feed))
	scope := cache.Scope("7", "catalog")
	for _, told := range []events.Invalidation{
		{Scopes: []string{scope}}, {Patterns: []events.Pattern{{"tenant:", ":catalog"}}}, {All: true},
	} {
		first := scopeKey(t, scopes, scope)
		require.NoError(t, s.redis.Unlink(t.Context(), cache.GenerationKey(scope)).Err())
		require.Equal(t, first, scopeKey(t, scopes, scope), "kept locally until the feed tells")
		s.tell(t, told)
		eventually(t, func() bool { return scopeKey(t, scopes, scope) != first }, "still the old generation")
	}
}

func TestScopesSayWhenRedisIsAway(t *testing.T) {
	server := testkit.Redis(t)
	scopes := openScopes(t, server.Client(t))
	require.NoError(t, server.Kill())
	_, err := scopes.Key(t.Context(), "s", "k")
	require.ErrorContains(t, err, "read generation")
}
