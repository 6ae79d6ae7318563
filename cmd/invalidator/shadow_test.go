package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/internal/testkit"
)

func TestADryRunShowsAndCountsAndTouchesNothing(t *testing.T) {
	n := setUp(t)
	require.NoError(t, n.redis.Kill())
	p := testkit.Run(t, testkit.Binary(t, "invalidator"), n.env(), "run", "--dry-run")
	p.Await(t, 10*time.Second, "dry run follows the stream, and touches nothing")
	n.publish(t, 1, "7", "1")
	testkit.Eventually(t, 10*time.Second, func() error {
		if _, body := get(t, p, "/metrics"); !strings.Contains(body, `walfence_dry_run_total{action="delete",rule="user"} 1`) {
			return fmt.Errorf("not counted: %s", body)
		}
		return nil
	})
	require.Contains(t, p.Stdout(), "xid 7 public.users: 1 update\n  delete tenant:7:user:1 in main (user)\n")
	require.NoError(t, p.Signal(syscall.SIGTERM))
	require.Zero(t, p.Exit(t, 10*time.Second))
	_, err := n.js.Consumer(t.Context(), stream.Changes, stream.Invalidator)
	require.Error(t, err, "the invalidators' consumer is theirs")
	feed, err := n.js.Stream(t.Context(), stream.Invalidations)
	require.NoError(t, err)
	require.Zero(t, feed.CachedInfo().State.LastSeq)
}

func TestADryRunGoesOnAfterNATSWasAway(t *testing.T) {
	n := setUp(t)
	p := testkit.Run(t, testkit.Binary(t, "invalidator"), n.env(), "run", "--dry-run")
	p.Await(t, 10*time.Second, "dry run follows the stream, and touches nothing")
	n.nats.Stop()
	require.NoError(t, n.nats.Start())
	n.js = n.nats.JetStream(t)
	testkit.Eventually(t, 60*time.Second, func() error {
		n.publish(t, 1, "7", "1")
		if !strings.Contains(p.Stdout(), "delete tenant:7:user:1 in main (user)") {
			return fmt.Errorf("nothing shown: %s", p.Stdout())
		}
		return nil
	})
}
