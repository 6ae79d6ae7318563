package main

import (
	"fmt"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/ops"
)

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(env *config.Env) error {
	_, err := fmt.Fprintln(env.Stdout, "invalidator", ops.ThisBuild())
	return err
}
