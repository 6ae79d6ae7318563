package testkit

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPollReportsTheLastError(t *testing.T) {
	calls := 0
	err := poll(20*time.Millisecond, func() error {
		calls++
		if calls == 1 {
			return errors.New("first")
		}
		return errors.New("later")
	})
	require.EqualError(t, err, "not within 20ms: later")
	require.Greater(t, calls, 2)
}

func TestPollEndsWithSuccess(t *testing.T) {
	calls := 0
	require.NoError(t, poll(time.Minute, func() error {
		calls++
		if calls < 4 {
			return errors.New("not yet")
		}
		return nil
	}))
	require.Equal(t, 4, calls)
}

func TestPollGivesUpAtOnceWhenWaitingIsInVain(t *testing.T) {
	err := poll(time.Hour, func() error { return errStop })
	require.ErrorIs(t, err, errStop)
}
