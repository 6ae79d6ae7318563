package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Main runs a program and returns its exit code. It reads settings, runs the command that the arguments name, and prints
// its error without secrets. The first SIGINT or SIGTERM cancels the command's context, the second ends the process with
// CodeFailure at once.
func Main(ctx context.Context, p Program, args, environ []string, stdout, stderr io.Writer) int {
	ctx, stop := untilSignal(ctx, os.Exit)
	defer stop()
	err := p.run(ctx, args, NewEnv(environ, stdout, stderr))
	if err != nil && !errors.Is(err, ErrQuiet) {
		text := strings.TrimRight(Redact(err.Error()), "\n")
		if !strings.Contains(text, "\n") {
			text = p.Name + ": " + text
		}
		fmt.Fprintln(stderr, text) // several lines, SQL for example, can be copied as they are
	}
	return code(err)
}

func (p Program) run(ctx context.Context, args []string, env *Env) error {
	k, err := p.parse(args, env)
	if k == nil || err != nil {
		return err
	}
	k.BindTo(ctx, (*context.Context)(nil))
	return k.Run(env)
}

// untilSignal returns a context that the first signal cancels. A second one calls exit. stop ends both and waits.
func untilSignal(ctx context.Context, exit func(int)) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for count := 0; ; count++ {
			select {
			case s := <-signals:
				cancel(fmt.Errorf("received signal: %v", s))
				if count > 0 {
					exit(CodeFailure)
				}
			case <-stopping:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stopping)
		<-stopped
		cancel(nil)
	}
}
