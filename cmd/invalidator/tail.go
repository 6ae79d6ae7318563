package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/ops"
	"github.com/walfence/walfence/internal/stream"
)

type tailCommand struct {
	Only string `name:"only" placeholder:"changes|invalidations" help:"Show only one of the two."`
	JSON bool   `name:"json" help:"One JSON object a line: stream, seq, subject, message."`
	// Heartbeats come every second or two, and would bury the rest.
	Heartbeats bool `name:"heartbeats" help:"Show heartbeats too."`

	config.NATS `embed:"" group:"NATS"`
	config.Log  `embed:"" group:"Log"`
}

// Run shows what comes, until ctx ends.
func (c *tailCommand) Run(ctx context.Context, env *config.Env) error {
	streams := map[string][]string{
		"": {stream.Changes, stream.Invalidations}, "changes": {stream.Changes}, "invalidations": {stream.Invalidations},
	}[c.Only]
	if streams == nil {
		return config.Mistake(fmt.Errorf("--only is changes or invalidations, not %q", c.Only))
	}
	log, err := ops.NewLogger(c.Log, env.Stderr)
	if err != nil {
		return config.Mistake(err)
	}
	nc, err := stream.Connect(ctx, streamConfig(c.NATS), "invalidator tail", log)
	if err != nil {
		return ended(ctx, mistaken(err))
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	return ended(ctx, c.follow(ctx, js, streams, &printer{w: env.Stdout, json: c.JSON, heartbeats: c.Heartbeats}, log))
}

// ended turns the end that a signal asked for into success.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// follow shows what comes on all streams until ctx ends or nothing can be shown any more.
func (c *tailCommand) follow(ctx context.Context, js jetstream.JetStream, streams []string, out *printer, log *zap.Logger) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	for _, name := range streams {
		wg.Go(func() {
			if err := one(ctx, js, name, out, log); err != nil {
				stop(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// one shows what comes on one stream from now on. Interruptions are mended by the consumer itself.
func one(ctx context.Context, js jetstream.JetStream, name string, out *printer, log *zap.Logger) error {
	consumer, err := js.OrderedConsumer(ctx, name, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return fmt.Errorf("follow stream %s: %w", name, err)
	}
	failed := make(chan error, 1)
	reading, err := consumer.Consume(func(m jetstream.Msg) {
		if err := out.message(name, m); err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	}, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		log.Warn("interrupted, going on", zap.String("subject", name), zap.Error(err))
	}))
	if err != nil {
		return fmt.Errorf("follow stream %s: %w", name, err)
	}
	defer func() { <-reading.Closed() }()
	defer reading.Stop()
	log.Info("following", zap.String("subject", name))
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// printer writes whole lines, from several goroutines.
type printer struct {
	mu         sync.Mutex
	w          io.Writer
	json       bool
	heartbeats bool
}

// heartbeat stands in the head of such an event's body; in a value its quotes would be escaped.
var heartbeat = []byte(`"kind":"heartbeat"`)

func (p *printer) message(name string, m jetstream.Msg) error {
	if !p.heartbeats && bytes.Contains(m.Data(), heartbeat) {
		return nil
	}
	line := humanLine(m)
	if p.json {
		var err error
		if line, err = jsonLine(name, m); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := io.WriteString(p.w, line+"\n"); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func jsonLine(name string, m jetstream.Msg) (string, error) {
	var seq uint64
	if meta, err := m.Metadata(); err == nil {
		seq = meta.Sequence.Stream
	}
	line := struct {
		Stream  string          `json:"stream"`
		Seq     uint64          `json:"seq"`
		Subject string          `json:"subject"`
		Message json.RawMessage `json:"message,omitempty"`
		Damaged []byte          `json:"damaged,omitempty"` // a body that is not JSON, in base64
	}{Stream: name, Seq: seq, Subject: m.Subject(), Message: m.Data()}
	if !json.Valid(m.Data()) {
		line.Message, line.Damaged = nil, m.Data()
	}
	text, err := json.Marshal(line)
	if err != nil {
		return "", fmt.Errorf("encode line: %w", err)
	}
	return string(text), nil
}
