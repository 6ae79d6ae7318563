package apply_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/apply"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

// with changes the rules of the bench.
func with(t testing.TB, rules string) func(*apply.Options) {
	return func(opt *apply.Options) { opt.Program = compile(t, rules) }
}

const head = `
version: 1
source: shop
tenant: {column: tenant_id}
caches:
  main: {redis: "${REDIS_URL}"}
`

const bumping = head + `
scopes:
  names: "tenant:{tenant}:names"
rules:
  - name: user
    table: users
    delete: ["tenant:{tenant}:user:{id}"]
    bump: [names]
`

func TestABumpGivesTheScopesKeysNewNamesAndTellsTheFeed(t *testing.T) {
	s := setUp(t, with(t, bumping))
	scopes, err := cache.NewScopes(s.client, cache.ScopesOptions{})
	require.NoError(t, err)
	t.Cleanup(scopes.Close)
	name := func(tenant string) string {
		key, err := scopes.Key(t.Context(), cache.Scope(tenant, "names"), "page:1")
		require.NoError(t, err)
		return key
	}
	seven, eight := name("7"), name("8")
	require.Equal(t, seven, name("7"))
	s.handle(t, message(t, users(updated("1", "ann", "7"))))
	require.NotEqual(t, seven, name("7"))
	require.Equal(t, eight, name("8"), "another tenant's scope")
	var told []string
	for _, i := range s.feed(t)["invalidations.main.7"] {
		told = append(told, i.Keys...)
		for _, scope := range i.Scopes {
			told = append(told, "scope "+scope)
		}
	}
	require.Equal(t, []string{"tenant:7:user:1", "scope tenant:7:names"}, told)
	require.Equal(t, 2.0, s.total(t, "walfence_keys_invalidated_total"))

	seven = name("7")
	s.handle(t, message(t, &events.Event{Kind: events.KindTruncate, Table: events.Table{Schema: "public", Name: "users"}}))
	require.NotEqual(t, seven, name("7"), "swept")
	require.NotEqual(t, eight, name("8"))
}

const repeating = head + `
rules:
  - name: user
    table: users
    delete: ["tenant:{tenant}:user:{id}"]
    repeat: [300ms, 600ms]
`

func TestRepeatRemovesWhatAnUnguardedReaderStoredAfterTheFirstTime(t *testing.T) {
	s := setUp(t, with(t, repeating))
	s.fill(t, "tenant:7:user:1", "tenant:7:user:2")
	s.handle(t, message(t, users(updated("1", "ann", "7"))))
	for round := range 2 {
		s.fill(t, "tenant:7:user:1")
		testkit.Eventually(t, 5*time.Second, func() error {
			if left := s.left(t); len(left) > 1 {
				return fmt.Errorf("round %d: left %q", round, left)
			}
			return nil
		})
	}
	require.Equal(t, []string{"tenant:7:user:2"}, s.left(t))
	testkit.Eventually(t, 5*time.Second, func() error {
		if told := s.feed(t)["invalidations.main.7"]; len(told) != 3 {
			return fmt.Errorf("told %d times", len(told))
		}
		return nil
	})
	require.Equal(t, 2.0, s.total(t, "walfence_keys_repeated_total"))
}

func TestASweepOfARuleThatRepeatsIsRepeated(t *testing.T) {
	s := setUp(t, with(t, strings.ReplaceAll(repeating, "300ms, 600ms", "500ms")))
	s.handle(t, message(t, &events.Event{Kind: events.KindEpoch, Reason: "timeline"}))
	s.fill(t, "tenant:7:user:1", "other")
	testkit.Eventually(t, 5*time.Second, func() error {
		if left := s.left(t); len(left) > 1 {
			return fmt.Errorf("left %q", left)
		}
		return nil
	})
	testkit.Eventually(t, 5*time.Second, func() error {
		if told := s.feed(t)["invalidations.main._"]; len(told) != 2 {
			return fmt.Errorf("told %d times", len(told))
		}
		return nil
	})
}

func TestAStopRemovesAtOnceWhatWasToBeRemovedLater(t *testing.T) {
	var applier *apply.Applier
	s := setUp(t, with(t, strings.ReplaceAll(repeating, "300ms, 600ms", "1h")), func(opt *apply.Options) {
		own := *opt
		own.Metrics = nil
		applier = apply.New(own)
	})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { applier.Run(ctx) })
	require.NoError(t, applier.Handle(t.Context(), []*nats.Msg{message(t, users(updated("1", "ann", "7")))}))
	s.fill(t, "tenant:7:user:1")
	stop()
	wg.Wait()
	require.Empty(t, s.left(t))
}

func TestWhatWaitsToBeRepeatedIsBounded(t *testing.T) {
	s := setUp(t, with(t, strings.ReplaceAll(repeating, "300ms, 600ms", "1h")))
	long := strings.Repeat("x", 3900)
	n := 0
	for range 10 {
		var messages []*nats.Msg
		for range 1000 {
			n++
			messages = append(messages, message(t, users(updated(fmt.Sprintf("%s%d", long, n), "ann", "7"))))
		}
		s.handle(t, messages...)
	}
	given := s.total(t, "walfence_repeats_given_up_total")
	require.InDelta(t, 10_000-(64<<20)/(2*3920+64), given, 1000, "whole batches, the oldest first")
}
