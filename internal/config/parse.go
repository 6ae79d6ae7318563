package config

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// Program is a command line program and what it can be asked to do.
type Program struct {
	// Name is what it is called, and About what it is for.
	Name, About string
	// Grammar is a pointer to a struct of commands as kong reads it. A command's Run may take a context.Context, which the
	// first SIGINT or SIGTERM cancels, and an *Env.
	Grammar any
}

// reader reads the settings of the command that is called. Kong stops at the first mistake; reader notes it and goes on.
type reader struct {
	env      *Env
	settings map[*kong.Value]string
	problems Problems
	exited   bool // kong has printed its help
}

func (p Program) parser(r *reader) (*kong.Kong, error) {
	k, err := kong.New(p.Grammar,
		kong.Name(p.Name), kong.Description(p.About), kong.Writers(r.env.Stdout, r.env.Stderr),
		kong.Vars{"cores": strconv.Itoa(runtime.GOMAXPROCS(0))},
		kong.Exit(func(int) { r.exited = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
		kong.ValueFormatter(func(v *kong.Value) string { return describe(v, r.settings[v]) }),
		kong.PostBuild(func(k *kong.Kong) error { return kong.Visit(k.Model, r.adopt) }),
		kong.Resolvers(kong.ResolverFunc(r.resolve)))
	if err != nil {
		return nil, fmt.Errorf("build command line: %w", err)
	}
	return k, nil
}

func describe(v *kong.Value, setting string) string {
	if setting == "" {
		return v.Help
	}
	if v.Default == "" {
		return fmt.Sprintf("%s ($%s)", v.Help, setting)
	}
	return fmt.Sprintf("%s ($%s, default %s)", v.Help, setting, v.Default)
}

// adopt takes a setting's environment variable away from kong, which would read this process's environment and not ours,
// and lets it decode without failing.
func (r *reader) adopt(node kong.Visitable, next kong.Next) error {
	if flag, ok := node.(*kong.Flag); ok && len(flag.Envs) > 0 {
		r.settings[flag.Value] = flag.Envs[0]
		flag.Envs, flag.Tag.Envs = nil, nil
		flag.Mapper = patient{flag.Mapper, r}
	}
	return next(nil)
}

// patient notes that a value cannot be decoded and lets kong go on with the next.
type patient struct {
	kong.Mapper
	reader *reader
}

func (p patient) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	err := p.Mapper.Decode(ctx, target)
	if err != nil {
		p.reader.problems = append(p.reader.problems, Problem{
			p.reader.settings[ctx.Value], Redact(err.Error()), fmt.Sprintf("for example %s", ctx.Value.Default),
		})
	}
	return nil
}

// resolve reads a flag that the command line does not have from its environment variable.
func (r *reader) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	name, ok := r.settings[flag.Value]
	if !ok {
		return nil, nil
	}
	value, found := r.env.Lookup(name)
	if flag.Target.Type() == reflect.TypeFor[Secret]() {
		var err error
		if value, found, err = r.env.Secret(name); err != nil {
			var problem Problem
			if errors.As(err, &problem) {
				r.problems = append(r.problems, problem)
			}
			return nil, nil
		}
	}
	if !found {
		return nil, nil
	}
	return value, nil
}

// parse reads the command line and the environment. It returns nil if kong has already done what was asked: help.
func (p Program) parse(args []string, env *Env) (*kong.Context, error) {
	r := &reader{env: env, settings: make(map[*kong.Value]string)}
	k, err := p.parser(r)
	if err != nil {
		return nil, err
	}
	ctx, err := k.Parse(args)
	if r.exited {
		return nil, nil
	}
	if err != nil {
		return nil, Mistake(err)
	}
	r.warn(ctx)
	if problems := append(r.problems, r.check(ctx)...).unique(); len(problems) > 0 {
		return nil, problems
	}
	return ctx, nil
}

// check asks every group of the called command, except for settings that could not even be read.
func (r *reader) check(ctx *kong.Context) Problems {
	unread := make(map[string]bool)
	for _, problem := range r.problems {
		unread[problem.Setting] = true
		unread[strings.TrimSuffix(problem.Setting, "_FILE")] = true
	}
	var found Problems
	called := ctx.Selected()
	if called == nil {
		called = ctx.Model.Node
	}
	for node := called; node != nil; node = node.Parent {
		collect(node.Target, &found)
	}
	var problems Problems
	for _, problem := range found {
		if !unread[problem.Setting] {
			problems = append(problems, problem)
		}
	}
	return problems
}

// collect asks a struct and those embedded in it. Commands below it are not embedded, and so not asked.
func collect(v reflect.Value, problems *Problems) {
	v = reflect.Indirect(v)
	if v.Kind() != reflect.Struct {
		return
	}
	if v.CanInterface() { // an embedded group of an unexported type is not asked itself, but those in it are
		if c, ok := v.Interface().(Checker); ok {
			*problems = append(*problems, c.Check()...)
		}
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if _, embed := field.Tag.Lookup("embed"); field.Anonymous || embed && field.IsExported() {
			collect(v.Field(i), problems)
		}
	}
}

// warn tells of passwords on the command line, where every user of the machine can read them.
func (r *reader) warn(ctx *kong.Context) {
	for _, path := range ctx.Path {
		if path.Flag == nil || path.Resolved {
			continue
		}
		secret, ok := path.Flag.Target.Interface().(Secret)
		if name := r.settings[path.Flag.Value]; ok && holdsPassword(secret.Reveal()) {
			fmt.Fprintf(r.env.Stderr, "warning: everybody on this machine can read the password in --%s: set %s or %s_FILE instead\n",
				path.Flag.Name, name, name)
		}
	}
}
