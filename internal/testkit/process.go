package testkit

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// process is a child with its own children. It needs no goroutine: the write end of a pipe that all of them inherit
// tells by its end that the last one is gone.
type process struct {
	cmd  *exec.Cmd
	life *os.File
}

// command says what to start. Output goes to files, which need no goroutine either.
type command struct {
	path   string
	args   []string
	env    []string // replaces the environment unless nil
	dir    string
	stdout string // "" for the same file as stderr
	stderr string
	user   *syscall.Credential // nil for the present one
	died   syscall.Signal      // what the child gets when this process dies
}

func start(c command) (*process, error) {
	stderr, err := os.OpenFile(c.stderr, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer stderr.Close()
	stdout := stderr
	if c.stdout != "" {
		if stdout, err = os.OpenFile(c.stdout, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return nil, fmt.Errorf("open output: %w", err)
		}
		defer stdout.Close()
	}
	life, inherited, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer inherited.Close()
	cmd := exec.Command(c.path, c.args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.env, c.dir, stdout, stderr
	cmd.ExtraFiles = []*os.File{inherited}
	cmd.SysProcAttr = attributes(c)
	if err := cmd.Start(); err != nil {
		life.Close()
		return nil, fmt.Errorf("start %s: %w", c.path, err)
	}
	return &process{cmd: cmd, life: life}, nil
}

// running tells whether the process or one of its children is alive.
func (p *process) running() bool {
	return p != nil && p.gone(time.Millisecond) != nil
}

// gone waits until the process and all of its children have ended.
func (p *process) gone(timeout time.Duration) error {
	if err := p.life.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil // closed by wait
	}
	_, err := p.life.Read(make([]byte, 1))
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return fmt.Errorf("process %d still runs after %v", p.cmd.Process.Pid, timeout)
}

// wait returns the exit code once all have ended: -1 if a signal ended it. It may be called again.
func (p *process) wait(timeout time.Duration) (int, error) {
	if p.cmd.ProcessState == nil {
		if err := p.gone(timeout); err != nil {
			return 0, err
		}
		if err := p.cmd.Wait(); err != nil && p.cmd.ProcessState == nil {
			return 0, fmt.Errorf("wait for process: %w", err)
		}
		p.life.Close()
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// end sends a signal and waits. What does not obey in time is killed, and reported.
func (p *process) end(signal os.Signal, timeout time.Duration) error {
	if p == nil || p.cmd.ProcessState != nil {
		return nil
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process: %w", err)
	}
	_, err := p.wait(timeout)
	if err == nil {
		return nil
	}
	if kill := p.cmd.Process.Kill(); kill != nil && !errors.Is(kill, os.ErrProcessDone) {
		return errors.Join(err, kill)
	}
	_, killed := p.wait(timeout)
	return errors.Join(fmt.Errorf("end process with %v: %w", signal, err), killed)
}

// freePort finds a TCP port on which nobody listens. It is below the range from which the kernel takes ports for
// outgoing connections, so that a server which is stopped finds it free again.
func freePort() (int, error) {
	for range 100 {
		port := 15000 + rand.IntN(17000)
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("free port: %w", err)
		}
		return port, nil
	}
	return 0, errors.New("find free port: none in 100 tries")
}
