package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
)

// display shows how far something is: on a terminal on one line that changes, elsewhere on a line of its own now and then.
// It may be updated from several goroutines.
type display struct {
	w        io.Writer
	terminal bool
	every    time.Duration

	mu    sync.Mutex
	shown time.Time
}

func newDisplay(w io.Writer) *display {
	d := &display{w: w, every: 5 * time.Second, shown: time.Now()}
	if file, ok := w.(*os.File); ok && isatty.IsTerminal(file.Fd()) {
		d.terminal, d.every = true, 100*time.Millisecond
	}
	return d
}

// update shows a text, unless another was shown just before.
func (d *display) update(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.shown) < d.every {
		return
	}
	d.shown = time.Now()
	if d.terminal {
		fmt.Fprintf(d.w, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(d.w, text)
}

// end leaves an empty line on a terminal.
func (d *display) end() {
	if d.terminal {
		fmt.Fprint(d.w, "\r\x1b[K")
	}
}
