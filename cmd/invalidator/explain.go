package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/rulestest"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

type explainCommand struct {
	Change string `arg:"" optional:"" placeholder:"JSON|FILE" help:"The change as JSON: {\"table\": \"users\", \"op\": \"update\", \"old\": {...}, \"new\": {...}}, an event, a line of tail --json, or a file with one."`
	Table  string `name:"table" placeholder:"TABLE" help:"The change's table."`
	Op     string `name:"op" placeholder:"OP" help:"insert, update, delete or truncate."`
	Old    string `name:"old" placeholder:"JSON" help:"The old row."`
	New    string `name:"new" placeholder:"JSON" help:"The new row; of an update, what differs."`
	Last   int    `name:"last" placeholder:"N" help:"The newest N events of the stream."`
	JSON   bool   `name:"json" help:"One JSON object per event."`

	ruleSettings `embed:""`
	config.NATS  `embed:"" group:"NATS"`
}

// Run says what changes lead to, and for every rule that does nothing, why.
func (c *explainCommand) Run(ctx context.Context, env *config.Env) error {
	program, err := c.load(env)
	if err != nil {
		return err
	}
	list, err := c.events(ctx, program.Source())
	if err != nil {
		return err
	}
	for i, e := range list {
		if err := c.print(env, program, e, i); err != nil {
			return fmt.Errorf("print explanation: %w", err)
		}
	}
	return nil
}

func (c *explainCommand) print(env *config.Env, p *mapping.Program, e *events.Event, i int) error {
	explained := p.Explain(e)
	if c.JSON {
		return writeJSON(env.Stdout, explained)
	}
	var head string
	if c.Last > 0 {
		head = eventLine(e) + "\n"
	}
	if i > 0 {
		head = "\n" + head
	}
	_, err := fmt.Fprintln(env.Stdout, head+strings.TrimRight(explained.String(), "\n"))
	return err
}

// events returns what is to be explained, from the one place that the flags name.
func (c *explainCommand) events(ctx context.Context, source string) ([]*events.Event, error) {
	ways := 0
	for _, used := range []bool{c.Change != "", c.Table != "" || c.Op != "" || c.Old != "" || c.New != "", c.Last > 0} {
		if used {
			ways++
		}
	}
	if ways != 1 {
		return nil, config.Mistake(errors.New("say what to explain, in one way: a change as JSON, --table with --op and rows, or --last N"))
	}
	if c.Last > 0 {
		return c.last(ctx, source)
	}
	var e *events.Event
	var err error
	if c.Change != "" {
		e, err = given(c.Change, source)
	} else {
		e, err = c.flags(source)
	}
	if err != nil {
		return nil, config.Mistake(err)
	}
	return []*events.Event{e}, nil
}

func (c *explainCommand) last(ctx context.Context, source string) ([]*events.Event, error) {
	past, err := openPast(ctx, c.NATS, source)
	if err != nil {
		return nil, err
	}
	defer past.close()
	return past.last(ctx, c.Last)
}

// flags makes an event of the flags.
func (c *explainCommand) flags(source string) (*events.Event, error) {
	parts := []string{"table: " + strconv.Quote(c.Table), "op: " + strconv.Quote(c.Op)}
	if c.Old != "" {
		parts = append(parts, "old: "+c.Old)
	}
	if c.New != "" {
		parts = append(parts, "new: "+c.New)
	}
	return changed([]byte("{"+strings.Join(parts, ", ")+"}"), source)
}

func changed(text []byte, source string) (*events.Event, error) {
	change, err := rulestest.ParseChange(text)
	if err != nil {
		return nil, err
	}
	return change.Event(source)
}

// given reads a change, an event, or a line of `tail --json`, from the argument or from the file that it names.
func given(argument, source string) (*events.Event, error) {
	text := []byte(strings.TrimSpace(argument))
	if !bytes.HasPrefix(text, []byte("{")) {
		var err error
		if text, err = os.ReadFile(argument); err != nil {
			return nil, fmt.Errorf("read change: %w", err)
		}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) == nil {
		if message, ok := fields["message"]; ok {
			return decoded(message)
		}
		if _, ok := fields["kind"]; ok {
			return decoded(text)
		}
	}
	return changed(text, source)
}

func decoded(body []byte) (*events.Event, error) {
	e := &events.Event{}
	if err := events.Decode(body, e); err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	return e, nil
}
