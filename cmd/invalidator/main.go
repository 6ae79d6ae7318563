// Command invalidator takes the changes that cdc publishes, and removes what they make stale from the caches that
// rules.yaml names. `invalidator --help` lists what else it does.
package main

import (
	"context"
	"io"
	"os"

	"github.com/walfence/walfence/internal/config"
)

func main() {
	os.Exit(realMain(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// grammar is what invalidator can be asked to do.
type grammar struct {
	Run     runCommand     `cmd:"" help:"Apply invalidations until told to stop."`
	Check   checkCommand   `cmd:"" help:"Say all that is wrong with rules, and with a database, that they do not fit it."`
	Explain explainCommand `cmd:"" help:"Say what a change leads to, and for every rule that does nothing, why."`
	Test    testCommand    `cmd:"" help:"Run tests of rules, without any server."`
	Diff    diffCommand    `cmd:"" help:"Replay stored changes under two versions of rules, and show what differs."`
	Keys    keysCommand    `cmd:"" help:"Write functions that build the keys of the rules, in Go or TypeScript."`
	Sweep   sweepCommand   `cmd:"" help:"Remove everything that rules can have put into the caches."`
	Tail    tailCommand    `cmd:"" help:"Show changes and applied invalidations as they happen."`
	Version versionCommand `cmd:"" help:"Show which program this is."`
}

func realMain(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	return config.Main(ctx, config.Program{
		Name:    "invalidator",
		About:   "Removes from Redis what committed changes in PostgreSQL make stale.",
		Grammar: &grammar{},
	}, args, environ, stdout, stderr)
}
