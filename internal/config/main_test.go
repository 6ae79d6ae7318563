package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

type grammar struct {
	Run  all   `cmd:"" help:"Run it."`
	Rest quiet `cmd:"" help:"Do nothing."`
	Log  `group:"Log"`
}

type all struct {
	Postgres    `group:"PostgreSQL"`
	NATS        `group:"NATS"`
	Redis       `group:"Redis"`
	Rules       `group:"Rules"`
	CDC         `group:"cdc"`
	Invalidator `group:"invalidator"`

	returns func(context.Context, *all, *Env) error
}

func (a *all) Run(ctx context.Context, env *Env) error { return a.returns(ctx, a, env) }

// shared is how a program's commands share groups.
type shared struct {
	CDC `embed:"" group:"cdc"`
}

type sharing struct {
	shared
	Redis `embed:"" group:"Redis"`
}

func (sharing) Run() error { return nil }

func TestGroupsWithinAnUnexportedStructAreCheckedToo(t *testing.T) {
	var stdout, stderr bytes.Buffer
	p := Program{Name: "test", Grammar: &struct {
		Run sharing `cmd:""`
	}{}}
	code := Main(t.Context(), p, []string{"run"}, []string{"CDC_SLOT=Upper-Case", "REDIS_URL=x"}, &stdout, &stderr)
	require.Equal(t, CodeMistake, code)
	require.Contains(t, stderr.String(), "CDC_SLOT")
	require.Contains(t, stderr.String(), "REDIS_URL")
}

type quiet struct{}

func (quiet) Run() error { return ErrQuiet }

type outcome struct {
	code           int
	stdout, stderr string
	settings       all
	log            Log
}

// call runs the test grammar. returns is what its run command does, nothing if nil.
func call(t *testing.T, environ, args []string, returns func(context.Context, *all, *Env) error) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	var o outcome
	g := &grammar{}
	g.Run.returns = func(ctx context.Context, a *all, env *Env) error {
		o.settings, o.log = *a, g.Log
		if returns == nil {
			return nil
		}
		return returns(ctx, a, env)
	}
	o.code = Main(t.Context(), Program{"walfence", "Tests.", g}, args, environ, &stdout, &stderr)
	o.stdout, o.stderr = stdout.String(), stderr.String()
	return o
}

const databaseURL = "DATABASE_URL=postgres://u@h/db"

func TestDefaultsAreThoseOfTheDocumentation(t *testing.T) {
	o := call(t, []string{databaseURL, "CDC_SLOT="}, []string{"run"}, nil)
	require.Zero(t, o.code, o.stderr)
	s := o.settings
	require.Equal(t, "embedded", s.NATS.URL.Reveal())
	require.Equal(t, "127.0.0.1:4222", s.Listen)
	require.Equal(t, "./data/nats", s.Store)
	require.Equal(t, Size(8e9), s.MaxBytes)
	require.Equal(t, 24*time.Hour, s.MaxAge)
	require.Equal(t, 1, s.Replicas)
	require.Equal(t, "redis://127.0.0.1:6379/0", s.Redis.URL.Reveal())
	require.Equal(t, "rules.yaml", s.Rules.Path)
	require.Equal(t, CDC{
		Slot: "walfence", Publication: "walfence", Setup: "auto", ColumnLists: "off", FirstStart: "sweep",
		EpochOnCrash: "always", HTTP: "127.0.0.1:8081", Heartbeat: 2 * time.Second,
	}, s.CDC)
	require.Positive(t, s.Workers)
	require.Equal(t, "127.0.0.1:8082", s.Invalidator.HTTP)
	require.Equal(t, Log{Level: "info"}, o.log)
}

func TestFlagWinsOverEnvironmentAndEnvironmentOverDefault(t *testing.T) {
	environ := []string{databaseURL, "CDC_SLOT=from_env", "HEARTBEAT=3s", "STREAM_MAX_BYTES=10GiB", "LOG_LEVEL=debug"}
	o := call(t, environ, []string{"run", "--cdc-slot=from_flag", "--workers", "7"}, nil)
	require.Zero(t, o.code, o.stderr)
	require.Equal(t, "from_flag", o.settings.Slot)
	require.Equal(t, 3*time.Second, o.settings.Heartbeat)
	require.Equal(t, Size(10<<30), o.settings.MaxBytes)
	require.Equal(t, 7, o.settings.Workers)
	require.Equal(t, "debug", o.log.Level)
}

func TestOurEnvironmentIsTheGivenOne(t *testing.T) {
	t.Setenv("CDC_SLOT", "from_process")
	o := call(t, []string{databaseURL}, []string{"run"}, nil)
	require.Equal(t, "walfence", o.settings.Slot)
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	o := call(t, []string{
		"DATABASE_URL=postgre://u:hunter2@h/db", "NATS_URL=nats://h:99999", "REDIS_URL=redis:/x", "CDC_SLOT=My Slot",
		"HEARTBEAT=often", "STREAM_MAX_BYTES=lots", "WORKERS=0", "CDC_FIRST_START=maybe", "LOG_LEVEL=loud", "CDC_HTTP=8081",
	}, []string{"run", "--stream-replicas=x", "--cdc-column-lists=of"}, nil)
	require.Equal(t, CodeMistake, o.code)
	for _, line := range []string{
		`DATABASE_URL: unknown scheme "postgre", want one of postgres, postgresql: for example postgres://`,
		`NATS_URL: a port is not a number from 1 to 65535: for example nats://`,
		`REDIS_URL: it is not a URL: for example redis://`,
		`CDC_SLOT: "My Slot" is not a name: 1 to 63 of a-z, 0-9 and _`,
		`HEARTBEAT: `, `STREAM_MAX_BYTES: "lots" is not a size: for example 8GB`,
		`WORKERS: 0 is not possible: from 1 to 1024`,
		`CDC_FIRST_START: unknown value "maybe": one of sweep, trust`,
		`LOG_LEVEL: unknown value "loud"`, `CDC_HTTP: "8081" is not host:port`,
		`STREAM_REPLICAS: `, `CDC_COLUMN_LISTS: unknown value "of": one of on, off`,
	} {
		require.Contains(t, o.stderr, line)
	}
	require.Equal(t, 12, bytes.Count([]byte(o.stderr), []byte("\n")), o.stderr)
	require.NotContains(t, o.stderr, "hunter2")
}

func TestMistakesOfOtherCommandsDoNotMatter(t *testing.T) {
	o := call(t, []string{"HEARTBEAT=often"}, []string{"rest"}, nil)
	require.Equal(t, CodeFailure, o.code)
	require.Empty(t, o.stderr)
}

func TestDatabaseURLIsAskedFor(t *testing.T) {
	o := call(t, nil, []string{"run"}, nil)
	require.Equal(t, CodeMistake, o.code)
	require.Equal(t, "walfence: DATABASE_URL: not set: for example postgres://db.example:5432/shop?user=cdc\n", o.stderr)
}

func TestUnknownFlagsAndCommandsAreMistakesWithASuggestion(t *testing.T) {
	o := call(t, nil, []string{"run", "--cdc-slott=x"}, nil)
	require.Equal(t, CodeMistake, o.code)
	require.Contains(t, o.stderr, `unknown flag --cdc-slott, did you mean "--cdc-slot"`)
	o = call(t, nil, []string{"rum"}, nil)
	require.Equal(t, CodeMistake, o.code)
	require.Contains(t, o.stderr, `did you mean "run"`)
}

func TestSecretComesFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(path, []byte("postgres://u:hunter2@h/db\n"), 0o600))
	o := call(t, []string{"DATABASE_URL_FILE=" + path}, []string{"run"}, nil)
	require.Zero(t, o.code, o.stderr)
	require.Equal(t, "postgres://u:hunter2@h/db", o.settings.DatabaseURL.Reveal())

	o = call(t, []string{"DATABASE_URL_FILE=" + path, databaseURL}, []string{"run"}, nil)
	require.Equal(t, "walfence: DATABASE_URL: both DATABASE_URL and DATABASE_URL_FILE are set: unset one of them\n", o.stderr)
	require.Equal(t, CodeMistake, o.code)

	o = call(t, []string{"DATABASE_URL_FILE=" + path + "x"}, []string{"run"}, nil)
	require.Contains(t, o.stderr, "walfence: DATABASE_URL_FILE: open "+path+"x: no such file")
	require.Equal(t, CodeMistake, o.code)
}

func TestPasswordInAFlagDrawsAWarningAndIsNotPrinted(t *testing.T) {
	for _, args := range [][]string{
		{"--database-url=postgres://u:hunter2@h/db"},
		{"--database-url", "host=h password=hunter2"},
		{"--database-url=postgres://h/db?password=hunter2"},
	} {
		o := call(t, nil, append([]string{"run"}, args...), nil)
		require.Zero(t, o.code, o.stderr)
		require.Contains(t, o.stderr, "warning: everybody on this machine can read the password in --database-url: "+
			"set DATABASE_URL or DATABASE_URL_FILE instead\n")
		require.NotContains(t, o.stderr, "hunter2")
	}
	for _, quiet := range []string{"postgres://u@h/db", "postgres://h/db"} {
		require.Empty(t, call(t, nil, []string{"run", "--database-url=" + quiet}, nil).stderr)
	}
	o := call(t, []string{databaseURL}, []string{"run", "--nats-url=nats://token@h"}, nil)
	require.Contains(t, o.stderr, "--nats-url")
	o = call(t, []string{"DATABASE_URL=postgres://u:hunter2@h/db"}, []string{"run"}, nil)
	require.Empty(t, o.stderr)
}

func TestExitCodesFollowTheError(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   int
		stderr string
	}{
		{nil, CodeDone, ""},
		{errors.New("dial postgres://u:hunter2@h: refused"), CodeFailure, "walfence: dial postgres://[redacted]@h: refused\n"},
		{fmt.Errorf("load rules: %w", Mistake(errors.New("bad"))), CodeMistake, "walfence: load rules: bad\n"},
		{fmt.Errorf("open: %w", Problems{{"A", "b", "c"}, {"D", "e", ""}}), CodeMistake, "open: A: b: c\nD: e\n"},
		{fmt.Errorf("x: %w", ErrQuiet), CodeFailure, ""},
	} {
		o := call(t, []string{databaseURL}, []string{"run"}, func(context.Context, *all, *Env) error { return c.err })
		require.Equal(t, c.code, o.code)
		require.Equal(t, c.stderr, o.stderr)
	}
	require.NoError(t, Mistake(nil))
}

func TestFirstSignalAsksAndSecondInsists(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreAnyFunction("os/signal.signal_recv"))
	exits := make(chan int, 1)
	ctx, stop := untilSignal(t.Context(), func(code int) { exits <- code })
	defer stop()
	require.NoError(t, ctx.Err())
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	<-ctx.Done()
	require.EqualError(t, context.Cause(ctx), "received signal: terminated")
	require.Empty(t, exits)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGINT))
	require.Equal(t, CodeFailure, <-exits)
}

func TestCommandSeesTheSignal(t *testing.T) {
	o := call(t, []string{databaseURL}, []string{"run"}, func(ctx context.Context, _ *all, env *Env) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			return err
		}
		<-ctx.Done()
		_, err := fmt.Fprintln(env.Stdout, "left")
		return err
	})
	require.Zero(t, o.code)
	require.Equal(t, "left\n", o.stdout)
}

func TestHelpGroupsSettingsAndNamesTheirVariables(t *testing.T) {
	o := call(t, []string{"HEARTBEAT=often"}, []string{"run", "--help"}, nil)
	require.Zero(t, o.code)
	require.Empty(t, o.stderr)
	for _, want := range []string{"PostgreSQL\n", "NATS\n", "--database-url=URL", "$DATABASE_URL", "--nats-url=URL", "${REDIS_URL}", "($HEARTBEAT, default 2s)"} {
		require.Contains(t, o.stdout, want)
	}
}
