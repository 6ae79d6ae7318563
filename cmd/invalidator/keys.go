package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/keygen"
)

type keysCommand struct {
	Lang    string `name:"lang" required:"" placeholder:"go|ts" help:"Language to write."`
	Out     string `name:"out" placeholder:"FILE" help:"File to write; by default standard output."`
	Package string `name:"package" placeholder:"NAME" help:"Name of the package, for Go; by default that of the file's directory, or keys."`

	ruleSettings `embed:""`
}

// Run writes functions that build the keys of the rules.
func (c *keysCommand) Run(env *config.Env) error {
	program, err := c.load(env)
	if err != nil {
		return err
	}
	var code []byte
	switch c.Lang {
	case "go":
		code, err = keygen.Go(program, c.packageName())
	case "ts":
		code, err = keygen.TypeScript(program)
	default:
		err = fmt.Errorf("--lang is go or ts, not %q", c.Lang)
	}
	if err != nil {
		return config.Mistake(err)
	}
	write := func(w io.Writer) error {
		_, err := w.Write(code)
		return err
	}
	if c.Out == "" {
		return write(env.Stdout)
	}
	return writeFile(c.Out, write)
}

func (c *keysCommand) packageName() string {
	if c.Package != "" {
		return c.Package
	}
	if dir := filepath.Base(filepath.Dir(c.Out)); c.Out != "" && dir != "." && dir != ".." && dir != string(filepath.Separator) {
		return dir
	}
	return "keys"
}
