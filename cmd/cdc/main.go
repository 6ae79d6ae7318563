// Command cdc reads the committed changes of one PostgreSQL database and publishes them as events on JetStream.
package main

import (
	"context"
	"os"

	"github.com/walfence/walfence/internal/config"
)

func main() {
	os.Exit(config.Main(context.Background(), program(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
