package testkit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	buildMu sync.Mutex
	built   = make(map[string]string)
)

// Binary builds one of the repository's programs, cmd/<name>, once per process, and returns its path.
func Binary(t testing.TB, name string) string {
	t.Helper()
	path, err := Build("cmd/" + name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return path
}

// Build builds a main package of this repository once per process, with the race detector if this process has it.
// The package is named by its directory below the repository's top.
func Build(pkg string) (string, error) {
	buildMu.Lock()
	defer buildMu.Unlock()
	if path, ok := built[pkg]; ok {
		return path, nil
	}
	if err := depend(); err != nil {
		return "", err
	}
	dir, err := scratch("bin")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.Base(pkg))
	args := []string{"build", "-buildvcs=false", "-o", path}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./"+pkg)...)
	cmd.Dir = Top()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", pkg, err, out)
	}
	built[pkg] = path
	return path, nil
}

// depend looks at every source file. go test notes what a test process looks at, and takes a result from its cache only
// while none of that has changed; of what the compiler reads for a program it knows nothing.
func depend() error {
	err := filepath.WalkDir(Top(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if name := entry.Name(); strings.HasSuffix(name, ".go") || name == "go.mod" || name == "go.sum" {
			_, err = os.Stat(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // an editor's file that has gone since
			err = nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look at source files: %w", err)
	}
	return nil
}

// Top is the repository's top directory.
func Top() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Program is one run of a program. Its methods may be called from one goroutine at a time.
type Program struct {
	// Dir holds stdout and stderr.log, and is its working directory.
	Dir string

	process *process
}

// Run starts a program for one test, with these environment variables and no others but PATH and HOME, and kills it
// after the test if it still runs.
func Run(t testing.TB, path string, env map[string]string, args ...string) *Program {
	t.Helper()
	p, err := OpenProgram(scratchFor(t, filepath.Base(path)), path, env, args...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return p
}

// OpenProgram starts a program in a directory.
func OpenProgram(dir, path string, env map[string]string, args ...string) (*Program, error) {
	all := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		all = append(all, name+"="+env[name])
	}
	p := &Program{Dir: dir}
	var err error
	p.process, err = start(command{
		path: path, args: args, env: all, dir: dir, died: syscall.SIGKILL,
		stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr.log"),
	})
	return p, err
}

// PID is the program's process id.
func (p *Program) PID() int { return p.process.cmd.Process.Pid }

// Running tells whether the program still runs.
func (p *Program) Running() bool { return p.process.cmd.ProcessState == nil && p.process.running() }

// Signal sends a signal.
func (p *Program) Signal(signal os.Signal) error {
	if err := p.process.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("signal program: %w", err)
	}
	return nil
}

// Kill ends the program with kill -9 and waits for it. It may be called again.
func (p *Program) Kill() error { return p.process.end(syscall.SIGKILL, 10*time.Second) }

// Exit waits until the program ends and returns its exit code, -1 if a signal ended it.
func (p *Program) Exit(t testing.TB, timeout time.Duration) int {
	t.Helper()
	code, err := p.process.wait(timeout)
	if err != nil {
		t.Fatalf("wait for program: %v", err)
	}
	return code
}

// Stdout is what the program has written to standard output so far.
func (p *Program) Stdout() string { return p.read("stdout") }

// Stderr is what the program has written to standard error so far, its log included.
func (p *Program) Stderr() string { return p.read("stderr.log") }

func (p *Program) read(name string) string {
	text, err := os.ReadFile(filepath.Join(p.Dir, name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Entry is one line of a program's log in JSON.
type Entry map[string]any

// Message is what the entry says.
func (e Entry) Message() string { return e.Text("msg") }

// Text is a field's value as text, or "".
func (e Entry) Text(key string) string {
	if v, ok := e[key]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

// Log is what the program has logged so far. Lines that are not JSON are left out.
func (p *Program) Log() []Entry {
	var entries []Entry
	lines := bufio.NewScanner(bytes.NewReader([]byte(p.Stderr())))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Entry
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// Await waits until the program has logged a message, and returns its first entry. It fails the test if the program ends
// without.
func (p *Program) Await(t testing.TB, timeout time.Duration, message string) Entry {
	t.Helper()
	e, err := p.Find(timeout, message)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return e
}

// Find waits until the program has logged a message, and returns its first entry.
func (p *Program) Find(timeout time.Duration, message string) (Entry, error) {
	var found Entry
	err := poll(timeout, func() error {
		running := p.Running() // before the log is read, which is complete if it does not
		for _, e := range p.Log() {
			if e.Message() == message {
				found = e
				return nil
			}
		}
		if !running {
			return fmt.Errorf("%w: program ended: %s", errStop, tail(filepath.Join(p.Dir, "stderr.log"), 10))
		}
		return errors.New("log lacks the message")
	})
	if err != nil {
		return nil, fmt.Errorf("await %q: %w", message, err)
	}
	return found, nil
}
