package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/ops"
	"github.com/walfence/walfence/internal/source"
	"github.com/walfence/walfence/mapping"
)

// commands is the command line.
type commands struct {
	Run      runCommand      `cmd:"" help:"Stream changes until stopped. Sets up what its role may."`
	Setup    setupCommand    `cmd:"" help:"Create or update publication and slot, and say what is missing."`
	Teardown teardownCommand `cmd:"" help:"Drop slot and publication."`
	Status   statusCommand   `cmd:"" help:"Show slot, publication and, if cdc runs, where it stands."`
	Version  versionCommand  `cmd:"" help:"Show the version."`
}

func program() config.Program {
	return config.Program{
		Name: "cdc", About: "Publishes the committed changes of a PostgreSQL database on NATS JetStream.", Grammar: &commands{},
	}
}

// database is what every command needs that talks to PostgreSQL.
type database struct {
	config.Postgres `embed:"" group:"Database"`
	config.Rules    `embed:"" group:"Rules"`
	config.CDC      `embed:"" group:"Capture"`
	config.Log      `embed:"" group:"Log"`
}

// compile reads the rules. cdc talks to no cache: a variable that holds a cache's address need not be set.
func (d *database) compile(env *config.Env) (*mapping.Program, error) {
	text, err := os.ReadFile(d.Path)
	if err != nil {
		return nil, config.Mistake(fmt.Errorf("read rules: %w; RULES names the file", err))
	}
	p, err := mapping.Compile(d.Path, text, func(name string) (string, bool) {
		if value, ok := env.Lookup(name); ok {
			return value, true
		}
		return "redis://unknown", true
	})
	var problems mapping.Problems
	if errors.As(err, &problems) {
		return nil, config.Mistake(errors.New(problems.Pretty()))
	}
	return p, config.Mistake(err)
}

const connectTimeout = 15 * time.Second

// connect opens an ordinary connection, for a command that does not wait for PostgreSQL to come.
func (d *database) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := source.Connect(ctx, d.DatabaseURL.Reveal())
	return conn, mistaken(err)
}

// mistaken marks what a restart cannot mend.
func mistaken(err error) error {
	var permanent *source.PermanentError
	if errors.As(err, &permanent) {
		return config.Mistake(err)
	}
	return err
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(env *config.Env) error {
	_, err := fmt.Fprintf(env.Stdout, "cdc %s\n", ops.ThisBuild())
	return err
}
