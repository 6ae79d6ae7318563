package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// attempt is one reader that is ready to drain a backlog.
type attempt interface {
	// begin lets it read. It does not wait.
	begin(ctx context.Context) error
	// finish waits until all is drained and tells when that was.
	finish(ctx context.Context) (time.Time, error)
	// processes are those whose use of the machine counts, beside the walsender.
	processes() map[string]int
	// close ends it, however far it is.
	close() error
}

// reader opens attempts to drain a backlog through a slot.
type reader struct {
	name  string
	about string
	open  func(ctx context.Context, r *rig, b *backlog, slot string) (attempt, error)
}

const latencyName = "latency"

// readers are all of them. The first is B.
var readers = []reader{
	{"b", "bare pglogrepl loop, whole rows (B)", bare(fullPublication)},
	{"own", "the same on our publication", bare(ownPublication)},
	{"lists", "the same, with column lists", bare(listsPublication)},
	{"recvlogical", "pg_recvlogical on our publication", openRecvlogical},
	{"cdc", "cdc into JetStream", programs(false, false)},
	{"chain", "whole chain, keys gone", programs(true, false)},
	{"cdc-lists", "cdc, with column lists", programs(false, true)},
	{"chain-lists", "whole chain, with column lists", programs(true, true)},
}

// bareAttempt is the bare loop in this process.
type bareAttempt struct {
	reader *bareReader
	rows   int
	done   chan error
	ended  time.Time
	unhook func() bool
}

func bare(publication string) func(context.Context, *rig, *backlog, string) (attempt, error) {
	return func(ctx context.Context, r *rig, b *backlog, slot string) (attempt, error) {
		reader, err := openBareReader(ctx, r.cluster.URL("postgres"), slot, publication)
		if err != nil {
			return nil, err
		}
		return &bareAttempt{reader: reader, rows: b.rows, done: make(chan error, 1)}, nil
	}
}

func (a *bareAttempt) begin(ctx context.Context) error {
	a.unhook = context.AfterFunc(ctx, func() { _ = a.reader.close() })
	go func() {
		err := a.reader.start(ctx)
		if err == nil {
			err = a.reader.read(func(rows int) bool { return rows < a.rows })
		}
		a.ended = time.Now()
		a.done <- err
	}()
	return nil
}

func (a *bareAttempt) finish(context.Context) (time.Time, error) {
	err := <-a.done
	a.done <- err // for close
	return a.ended, err
}

func (a *bareAttempt) processes() map[string]int { return map[string]int{"reader": os.Getpid()} }

func (a *bareAttempt) close() error {
	if a.unhook != nil {
		a.unhook()
	}
	err := a.reader.close()
	if a.unhook != nil {
		<-a.done
	}
	return err
}

// recvlogical is pg_recvlogical, which comes with PostgreSQL.
type recvlogical struct {
	cmd  *exec.Cmd
	done chan error
}

func openRecvlogical(ctx context.Context, r *rig, b *backlog, slot string) (attempt, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(r.cluster.Bin, "pg_recvlogical"), "--start", "-d", r.cluster.URL("postgres"),
		"--slot", slot, "-o", "proto_version=1", "-o", "publication_names="+ownPublication, "--no-loop", "-f", "/dev/null",
		"--endpos", b.end.String())
	return &recvlogical{cmd: cmd, done: make(chan error, 1)}, nil
}

func (a *recvlogical) begin(context.Context) error {
	if err := a.cmd.Start(); err != nil {
		return fmt.Errorf("start pg_recvlogical: %w", err)
	}
	go func() { a.done <- a.cmd.Wait() }()
	return nil
}

func (a *recvlogical) finish(context.Context) (time.Time, error) {
	err := <-a.done
	ended := time.Now()
	a.done <- err // for close
	if err != nil {
		err = fmt.Errorf("run pg_recvlogical: %w", err)
	}
	return ended, err
}

// processes are none: it is gone, and its walsender with it, when it has finished.
func (a *recvlogical) processes() map[string]int { return map[string]int{} }

func (a *recvlogical) close() error {
	if a.cmd.Process == nil {
		return nil
	}
	if err := a.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end pg_recvlogical: %w", err)
	}
	<-a.done
	return nil
}
