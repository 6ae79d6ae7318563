package testkit

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

const (
	firstPoll = 2 * time.Millisecond
	lastPoll  = 50 * time.Millisecond
)

// Eventually calls check until it returns nil, and fails the test with check's last error once timeout has passed.
// It calls check at least once, and never from two goroutines.
func Eventually(t testing.TB, timeout time.Duration, check func() error) {
	t.Helper()
	if err := poll(timeout, check); err != nil {
		t.Fatalf("%v", err)
	}
}

// errStop ends a poll at once: what is waited for cannot happen any more.
var errStop = errors.New("gave up")

func poll(timeout time.Duration, check func() error) error {
	deadline := time.Now().Add(timeout)
	pause := firstPoll
	for {
		err := check()
		if err == nil {
			return nil
		}
		if errors.Is(err, errStop) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", timeout, err)
		}
		<-time.After(pause)
		pause = min(2*pause, lastPoll)
	}
}
