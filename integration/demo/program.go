package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/walfence/walfence/integration/watch"
	"github.com/walfence/walfence/internal/testkit"
)

// program is cdc or invalidator, over all of its starts.
type program struct {
	watch.Program
	path, dir string
	env       map[string]string
	run       *testkit.Program
}

// program builds one of the programs.
func (s *stage) program(name, http string, envs ...map[string]string) (*program, error) {
	path, err := testkit.Build("cmd/" + name)
	if err != nil {
		return nil, err
	}
	dir, err := s.make(name)
	if err != nil {
		return nil, err
	}
	p := &program{Program: watch.Program{Name: name, Address: http}, path: path, dir: dir, env: map[string]string{}}
	for _, env := range envs {
		maps.Copy(p.env, env)
	}
	return p, nil
}

func (p *program) start() (err error) {
	p.run, err = testkit.OpenProgram(p.dir, p.path, p.env, "run")
	return err
}

// kill ends it with kill -9.
func (p *program) kill() error { return p.run.Kill() }

const stopPatience = 15 * time.Second

// stop asks it to end, and kills it if it does not in time.
func (p *program) stop() error {
	if p.run == nil || !p.run.Running() {
		return nil
	}
	if err := p.run.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(err, p.run.Kill())
	}
	for deadline := time.Now().Add(stopPatience); p.run.Running(); {
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s did not end within %v", p.Name, stopPatience), p.run.Kill())
		}
		<-time.After(10 * time.Millisecond)
	}
	return nil
}

// awaitReady waits until it is ready. What it logged last is part of the error.
func (p *program) awaitReady(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := p.Ready(ctx)
		if err == nil {
			return nil
		}
		if !p.run.Running() {
			return fmt.Errorf("%s ended: %s", p.Name, p.lastWords())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", p.Name, err, p.lastWords())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lastWords are the last lines of its log.
func (p *program) lastWords() string {
	text, err := os.ReadFile(filepath.Join(p.dir, "stderr.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
