package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
)

// screen writes lines that stay, and on a terminal below them a block that is redrawn in place; elsewhere the block is
// a line now and then. It serves one goroutine.
type screen struct {
	w        io.Writer
	terminal bool
	drawn    int // lines of the block that is shown
	shown    time.Time
}

const (
	redrawEvery = 200 * time.Millisecond
	lineEvery   = 2 * time.Second
)

func newScreen(w io.Writer) *screen {
	file, ok := w.(*os.File)
	return &screen{w: w, terminal: ok && isatty.IsTerminal(file.Fd()) && os.Getenv("TERM") != "dumb"}
}

// say writes a line that stays.
func (s *screen) say(format string, args ...any) {
	s.erase()
	fmt.Fprintf(s.w, format+"\n", args...)
}

// show shows the block, unless that was done just before.
func (s *screen) show(now time.Time, b block) {
	every := lineEvery
	if s.terminal {
		every = redrawEvery
	}
	if now.Sub(s.shown) < every {
		return
	}
	s.shown = now
	if !s.terminal {
		fmt.Fprintln(s.w, b.line())
		return
	}
	s.erase()
	lines := b.lines()
	s.drawn = len(lines)
	fmt.Fprintln(s.w, strings.Join(lines, "\n"))
}

// erase takes the block away.
func (s *screen) erase() {
	if s.drawn > 0 {
		fmt.Fprintf(s.w, "\x1b[%dA\r\x1b[J", s.drawn)
		s.drawn = 0
	}
}

// block is what is shown while it runs.
type block struct {
	elapsed, length  time.Duration
	commits, keys    float64 // a second
	reads, hits      float64 // a second, and of all
	p50, p99         time.Duration
	late             uint64
	latest           time.Duration
	refused          uint64
	cdc, invalidator string
}

func (b block) time() string {
	if b.length == 0 {
		return fmt.Sprintf("%.0f s", b.elapsed.Seconds())
	}
	return fmt.Sprintf("%.0f of %.0f s", b.elapsed.Seconds(), b.length.Seconds())
}

func (b block) line() string {
	return fmt.Sprintf("%s  commits/s %.0f  keys invalidated/s %.0f  commit to invalidated p50 %s p99 %s  reads/s %.0f  late reads %d (worst %s)  cdc %s, invalidator %s",
		b.time(), b.commits, b.keys, short(b.p50), short(b.p99), b.reads, b.late, short(b.latest), b.cdc, b.invalidator)
}

func (b block) lines() []string {
	row := func(name, format string, args ...any) string {
		return fmt.Sprintf("  %-24s"+format, append([]any{name}, args...)...)
	}
	return []string{
		"",
		row("time", "%s", b.time()),
		row("commits/s", "%.0f", b.commits),
		row("keys invalidated/s", "%.0f", b.keys),
		row("commit to invalidated", "p50 %s   p99 %s", short(b.p50), short(b.p99)),
		row("reads/s", "%.0f   %.0f %% from the cache", b.reads, 100*b.hits),
		row("late reads so far", "%d   worst %s", b.late, short(b.latest)),
		row("fills refused so far", "%d", b.refused),
		row("cdc", "%s", b.cdc),
		row("invalidator", "%s", b.invalidator),
	}
}

// short is a duration with two or three digits that matter.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < 100*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
