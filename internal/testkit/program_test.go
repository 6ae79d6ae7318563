package testkit

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func script(t *testing.T, body string) *Program {
	t.Helper()
	return Run(t, "/bin/sh", map[string]string{"WORD": "hello"}, "-c", body)
}

func TestProgramsLogIsReadWhileItRuns(t *testing.T) {
	p := script(t, `echo '{"msg":"ready","address":"'$WORD'","n":3}' >&2; echo plain >&2; echo out; exec sleep 1000`)
	e := p.Await(t, 10*time.Second, "ready")
	require.Equal(t, "hello", e.Text("address"))
	require.Equal(t, "3", e.Text("n"))
	require.Empty(t, e.Text("absent"))
	Eventually(t, 10*time.Second, func() error {
		if p.Stdout() != "out\n" {
			return fmt.Errorf("stdout is %q", p.Stdout())
		}
		return nil
	})
	require.True(t, p.Running())
	require.Contains(t, p.Stderr(), "plain")
	require.NoError(t, p.Kill())
	require.False(t, p.Running())
	require.Equal(t, -1, p.Exit(t, time.Second))
}

func TestProgramsSignalsAndExitCode(t *testing.T) {
	p := script(t, `trap 'exit 7' TERM; echo '{"msg":"ready"}' >&2; while :; do sleep 0.01; done`)
	p.Await(t, 10*time.Second, "ready")
	require.NoError(t, p.Signal(syscall.SIGTERM))
	require.Equal(t, 7, p.Exit(t, 10*time.Second))
}

func TestAwaitingAProgramThatEndedDoesNotWait(t *testing.T) {
	p := script(t, `echo sorry >&2; exit 3`)
	_, err := p.Find(time.Hour, "ready")
	require.ErrorIs(t, err, errStop)
	require.ErrorContains(t, err, "sorry")
}

func TestBuildReportsTheCompilersWords(t *testing.T) {
	_, err := Build("cmd/nothing")
	require.ErrorContains(t, err, "cmd/nothing")
}

// TestNothingOutlivesAProcessThatIsKilled runs this test binary again as a victim that starts servers, kills it with -9,
// and looks for what it started.
func TestNothingOutlivesAProcessThatIsKilled(t *testing.T) {
	if os.Getenv("TESTKIT_VICTIM") != "" {
		victim(t)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "TESTKIT_VICTIM=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	fields := report(t, bufio.NewScanner(out))
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	for _, pid := range fields[2:] {
		n, err := strconv.Atoi(pid)
		require.NoError(t, err)
		Eventually(t, 20*time.Second, func() error {
			if err := syscall.Kill(n, 0); err == nil {
				return fmt.Errorf("process %d still runs", n)
			}
			return nil
		})
	}
	Eventually(t, 20*time.Second, func() error {
		if _, err := os.Stat(fields[1]); err == nil {
			return fmt.Errorf("%s is still there", fields[1])
		}
		return nil
	})
}

// victim tells where it lives and whom it has started, and waits to be killed.
func victim(t *testing.T) {
	p := script(t, "exec sleep 1000")
	fmt.Println("victim", filepath.Dir(p.Dir), p.PID(), Postgres(t).process.cmd.Process.Pid, Redis(t).process.cmd.Process.Pid)
	select {}
}

func report(t *testing.T, lines *bufio.Scanner) []string {
	t.Helper()
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "victim ") {
			return strings.Fields(lines.Text())
		}
	}
	require.Fail(t, "victim ended without a report")
	return nil
}

func TestBuildMakesAProgramOnceAndWithTheRaceDetectorIfWeHaveIt(t *testing.T) {
	first, err := Build("internal/testkit/testdata/hello")
	require.NoError(t, err)
	second, err := Build("internal/testkit/testdata/hello")
	require.NoError(t, err)
	require.Equal(t, first, second)
	p := Run(t, first, nil)
	require.Equal(t, fmt.Sprint(raceDetector), p.Await(t, 10*time.Second, "hello").Text("race"))
	require.Zero(t, p.Exit(t, 10*time.Second))
}
