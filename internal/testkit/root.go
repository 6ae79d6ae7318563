package testkit

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// reaper waits until this process is gone (its standard input ends), then removes what is left. It runs in a session
// of its own, so that neither Ctrl-C nor kill -9 of the tests stops it.
const reaper = `cat >/dev/null
for i in 1 2 3 4 5 6 7 8 9 10; do
	if [ -e "$0/keep" ]; then find "$0" ! -type d ! -name '*.log' -delete && exit
	else rm -rf "$0" && exit
	fi
	sleep 0.3
done 2>/dev/null`

// rootDir keeps the pipe open for as long as the process lives: that the kernel closes it is what the reaper waits for.
type rootDir struct {
	path string
	pipe io.WriteCloser
}

// root is the directory of everything that this process starts. It is short, since Unix sockets live in it, and open
// to other users, since PostgreSQL runs as one.
var root = sync.OnceValues(func() (*rootDir, error) {
	base := os.TempDir()
	if len(base) > 30 {
		base = "/tmp"
	}
	dir, err := os.MkdirTemp(base, "walfence-")
	if err != nil {
		return nil, fmt.Errorf("make scratch directory: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open scratch directory: %w", err)
	}
	cmd := exec.Command("sh", "-c", reaper, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start reaper: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start reaper: %w", err)
	}
	return &rootDir{dir, pipe}, nil
})

// scratch makes a directory of this process. Only logs in it survive the process, and only if keep was called.
func scratch(name string) (string, error) {
	top, err := root()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(top.path, name+"-")
	if err != nil {
		return "", fmt.Errorf("make scratch directory: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", fmt.Errorf("open scratch directory: %w", err)
	}
	return dir, nil
}

// scratchFor makes a directory that goes with the test. If the test fails its logs stay.
func scratchFor(t testing.TB, name string) string {
	t.Helper()
	dir, err := scratch(name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			keep(t, dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("remove %s: %v", dir, err)
		}
	})
	return dir
}

// keep makes the reaper leave logs alone, and shows the ends of those in dir.
func keep(t testing.TB, dir string) {
	t.Helper()
	if top, err := root(); err == nil {
		if err := os.WriteFile(filepath.Join(top.path, "keep"), nil, 0o600); err != nil {
			t.Logf("keep logs: %v", err)
		}
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, path := range logs {
		if text := tail(path, 20); text != "" {
			t.Logf("%s ends with:\n%s", path, text)
		}
	}
}

// tail returns a file's last lines.
func tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
