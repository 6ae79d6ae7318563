// Command bench measures walfence against floors of the same run: how fast it drains WAL that plain readers drain too,
// and how long after a commit its key is gone. README.md beside it says how to read what it prints.
package main

import (
	"context"
	"os"

	"github.com/walfence/walfence/internal/config"
)

func main() {
	os.Exit(config.Main(context.Background(), config.Program{
		Name:    "bench",
		About:   "Measures walfence against floors of the same run, on servers of its own.",
		Grammar: &settings{},
	}, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
