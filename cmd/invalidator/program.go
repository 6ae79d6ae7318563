package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/walfence/walfence/internal/apply"
	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/redis"
	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/mapping"
)

// ruleSettings are what reading the rules takes.
type ruleSettings struct {
	config.Redis `embed:"" group:"Redis"`
	config.Rules `embed:"" group:"Rules"`
}

// load reads and compiles the rules. All that is wrong with them is printed; then the error is a quiet mistake.
func (s ruleSettings) load(env *config.Env) (*mapping.Program, error) {
	text, err := os.ReadFile(s.Path)
	if err != nil {
		return nil, config.Mistake(fmt.Errorf("read rules: %w: set RULES to the file with the rules", err))
	}
	program, err := mapping.Compile(s.Path, text, env.InRules(s.Redis))
	var problems mapping.Problems
	if errors.As(err, &problems) {
		_, err := io.WriteString(env.Stderr, problems.Pretty())
		return nil, config.Mistake(errors.Join(config.ErrQuiet, err))
	}
	return program, err
}

// openCaches opens every cache of the program. None is connected to yet.
func openCaches(program *mapping.Program) (caches []apply.Cache, err error) {
	for _, c := range program.Caches() {
		client, err := redis.Open(c.URL)
		if err != nil {
			return nil, config.Mistake(errors.Join(fmt.Errorf("open cache %s: %w", c.Name, err), closeCaches(caches)))
		}
		caches = append(caches, apply.Cache{Name: c.Name, Client: client})
	}
	return caches, nil
}

func closeCaches(caches []apply.Cache) error {
	var errs []error
	for _, c := range caches {
		if err := c.Client.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close cache %s: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}

// streamConfig turns the settings into what package stream takes.
func streamConfig(n config.NATS) stream.Config {
	return stream.Config{
		URL: n.URL.Reveal(), Listen: n.Listen, Store: n.Store, Creds: n.Creds, NKey: n.NKey, CA: n.CA, Cert: n.Cert, Key: n.Key,
		MaxBytes: int64(n.MaxBytes), MaxAge: n.MaxAge, Replicas: n.Replicas,
	}
}

// mistaken marks the errors of package stream that a restart cannot mend.
func mistaken(err error) error {
	var settings *stream.ConfigError
	if errors.As(err, &settings) {
		return config.Mistake(err)
	}
	return err
}
