package config

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// Env is what surrounds a command: where it prints, and the environment. It does not change.
type Env struct {
	Stdout, Stderr io.Writer

	variables map[string]string
}

// NewEnv makes an Env of NAME=value lines.
func NewEnv(lines []string, stdout, stderr io.Writer) *Env {
	e := &Env{Stdout: stdout, Stderr: stderr, variables: make(map[string]string)}
	for _, line := range lines {
		if name, value, ok := strings.Cut(line, "="); ok {
			e.variables[name] = value
		}
	}
	return e
}

// Lookup returns a variable's value. An empty one counts as not set.
func (e *Env) Lookup(name string) (string, bool) {
	value := e.variables[name]
	return value, value != ""
}

// Secret returns the value of NAME, or what is in the file that NAME_FILE names, without the newline at its end.
func (e *Env) Secret(name string) (string, bool, error) {
	value, direct := e.Lookup(name)
	path, file := e.Lookup(name + "_FILE")
	switch {
	case direct && file:
		return "", false, Problem{name, "both " + name + " and " + name + "_FILE are set", "unset one of them"}
	case !file:
		return value, direct, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", false, Problem{name + "_FILE", err.Error(), "set it to a file that this program may read"}
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", false, Problem{name + "_FILE", fmt.Sprintf("%s is empty", path), "write the value into it"}
	}
	return secret, true, nil
}

// InRules returns what looks up ${NAME} in rules: REDIS_URL is the setting, everything else the environment, directly or by
// NAME_FILE. What cannot be read counts as not set.
func (e *Env) InRules(r Redis) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		if name == "REDIS_URL" {
			return r.URL.Reveal(), true
		}
		value, ok, err := e.Secret(name)
		return value, ok && err == nil
	}
}
