package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

func TestSweepRemovesWhatItWasAskedForAndTellsTheFeed(t *testing.T) {
	n := setUp(t)
	client := n.redis.Client(t)
	require.NoError(t, client.MSet(t.Context(), "tenant:7:user:1", 1, "tenant:8:user:1", 1, "settings", 1, "other", 1).Err())
	left := func() []string { return client.Keys(t.Context(), "*").Val() }

	code, stdout, stderr := invoke(t.Context(), n.env(), "sweep", "--all", "--dry-run")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "cache main: 3 keys would be removed")
	require.Len(t, left(), 4)

	code, stdout, stderr = invoke(t.Context(), n.env(), "sweep", "--tenant", "7")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "cache main: 1 keys and 0 guards removed")
	require.ElementsMatch(t, []string{"tenant:8:user:1", "settings", "other"}, left())

	code, _, stderr = invoke(t.Context(), n.env(), "sweep", "--rule", "user", "--rule", "settings")
	require.Zero(t, code, stderr)
	require.Equal(t, []string{"other"}, left())
	require.Equal(t, []string{"invalidations.main.7", "invalidations.main._", "invalidations.main._"}, n.feedSubjects(t))

	code, _, stderr = invoke(t.Context(), n.env(), "sweep", "--rule", "usr")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, `no rule "usr"`)
}

func (n *neighbours) feedSubjects(t *testing.T) (subjects []string) {
	t.Helper()
	s, err := n.js.Stream(t.Context(), stream.Invalidations)
	require.NoError(t, err)
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		var told events.Invalidation
		require.NoError(t, json.Unmarshal(m.Data, &told))
		require.NotEmpty(t, told.Patterns)
		subjects = append(subjects, m.Subject)
	}
	return subjects
}

func TestSweepDoesNotBeginWithoutTheFeedUnlessTold(t *testing.T) {
	n := setUp(t)
	client := n.redis.Client(t)
	require.NoError(t, client.Set(t.Context(), "settings", 1, 0).Err())
	n.nats.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	code, _, stderr := invoke(ctx, n.env(), "sweep", "--all")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "--no-feed")
	require.EqualValues(t, 1, client.Exists(t.Context(), "settings").Val())
	code, _, stderr = invoke(ctx, n.env(), "sweep", "--all", "--no-feed")
	require.Zero(t, code, stderr)
	require.Zero(t, client.Exists(t.Context(), "settings").Val())
}

func TestTailShowsChangesAndInvalidationsUntilItIsStopped(t *testing.T) {
	n := setUp(t)
	for _, args := range [][]string{{"tail"}, {"tail", "--json"}} {
		ctx, stop := context.WithCancel(t.Context())
		var out, err lockedBuffer
		done := make(chan int)
		go func() {
			done <- realMain(ctx, args, []string{"NATS_URL=" + n.nats.URL}, &out, &err)
		}()
		testkit.Eventually(t, 10*time.Second, func() error { return expect(&err, 2, `"following"`) })
		n.publish(t, 0xabc, "7", "1\x1b[2J")
		_, failed := n.js.Publish(t.Context(), "invalidations.main.7",
			[]byte(`{"v":1,"cache":"main","tenant":"7","lsn":"0/ABC","keys":["tenant:7:user:1"],"rules":["user"]}`))
		require.NoError(t, failed)
		testkit.Eventually(t, 10*time.Second, func() error { return expect(&out, 2, "ABC") })
		stop()
		require.Zero(t, <-done)
		require.NotContains(t, out.String(), "\x1b")
		if len(args) == 1 {
			require.Contains(t, out.String(), "1:0/ABC:0 xid 7 public.users: 1 update")
			require.Contains(t, out.String(), "cache main, tenant 7: tenant:7:user:1 (user)")
			continue
		}
		for line := range strings.Lines(out.String()) {
			require.True(t, json.Valid([]byte(line)), line)
		}
	}
}

// expect reports whether a text holds something at least n times.
func expect(b *lockedBuffer, n int, what string) error {
	if text := b.String(); strings.Count(text, what) < n {
		return fmt.Errorf("%q is not there %d times: %s", what, n, text)
	}
	return nil
}
