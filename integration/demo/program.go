package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/walfence/walfence/internal/testkit"
)

// program is cdc or invalidator, over all of its starts.
type program struct {
	name, path, dir, http string
	env                   map[string]string
	args                  []string
	run                   *testkit.Program
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
	p := &program{name: name, path: path, dir: dir, http: http, env: map[string]string{}, args: []string{"run"}}
	for _, env := range envs {
		maps.Copy(p.env, env)
	}
	return p, nil
}

func (p *program) start() (err error) {
	p.run, err = testkit.OpenProgram(p.dir, p.path, p.env, p.args...)
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
			return errors.Join(fmt.Errorf("%s did not end within %v", p.name, stopPatience), p.run.Kill())
		}
		<-time.After(10 * time.Millisecond)
	}
	return nil
}

// get asks it something over HTTP.
func (p *program) get(ctx context.Context, path string) (code int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.http+path, nil)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", p.name, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", p.name, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", p.name, err)
	}
	return response.StatusCode, string(text), nil
}

// ready returns nil if it says that it is, or else what it waits for.
func (p *program) ready(ctx context.Context) error {
	code, body, err := p.get(ctx, "/readyz")
	if err == nil && code != http.StatusOK {
		err = errors.New(strings.ReplaceAll(strings.TrimSpace(body), "\n", "; "))
	}
	return err
}

// awaitReady waits until it is ready. What it logged last is part of the error.
func (p *program) awaitReady(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		if !p.run.Running() {
			return fmt.Errorf("%s ended: %s", p.name, p.lastWords())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", p.name, err, p.lastWords())
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
