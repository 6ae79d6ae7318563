package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/pkg/events"
)

// reached asks cdc how far the stream is known to go.
func (p *pipeline) reached() error {
	text, err := fetch("http://" + p.cdcHTTP + "/status")
	if err != nil {
		return err
	}
	var status struct {
		Source struct {
			Relay struct {
				Floor events.LSN `json:"floor"`
			} `json:"relay"`
		} `json:"source"`
	}
	if err := json.Unmarshal(text, &status); err != nil {
		return fmt.Errorf("read status of cdc: %w", err)
	}
	if floor := status.Source.Relay.Floor; floor < p.end {
		return fmt.Errorf("the stream's floor is %s, the backlog ends at %s", floor, p.end)
	}
	return nil
}

func (r *rig) emptied(ctx context.Context) error {
	left, err := r.cache.DBSize(ctx).Result()
	if err != nil {
		return fmt.Errorf("count keys: %w", err)
	}
	if left > 0 {
		return fmt.Errorf("%d keys are left", left)
	}
	return nil
}

// messages is how many messages the streams hold, of what can be asked.
func (p *pipeline) messages(ctx context.Context) map[string]uint64 {
	js, err := jetstream.New(p.nats)
	if err != nil {
		return nil
	}
	held := map[string]uint64{}
	for _, name := range []string{stream.Changes, stream.Invalidations} {
		if s, err := js.Stream(ctx, name); err == nil && s.CachedInfo().State.Msgs > 0 {
			held[name] = s.CachedInfo().State.Msgs
		}
	}
	return held
}

// verify makes sure that rows were counted one by one: a sweep would have emptied the cache too, and faster.
func (p *pipeline) verify(ctx context.Context) error {
	return wait(ctx, time.Second, askEvery, func() error {
		if err := expect(p.cdcHTTP, "walfence_cdc_changes_total", p.rows); err != nil || p.invalidator == nil {
			return err
		}
		return expect(p.invalidatorHTTP, "walfence_keys_invalidated_total", p.rows)
	})
}

// interruptions tells of what made cdc connect again while it was measured: such a run is slow, and the cause matters more.
func (p *pipeline) interruptions() {
	streaming := false
	for _, e := range p.cdc.Log() {
		streaming = streaming || e.Message() == "streaming"
		if level := e.Text("level"); streaming && (level == "warn" || level == "error") {
			progress("cdc: %s %s: %s %s", e.Text("time"), level, e.Message(), e.Text("error"))
		}
	}
}

// expect asks a program whether a counter has reached a number.
func expect(address, counter string, want int) error {
	text, err := fetch("http://" + address + "/metrics")
	if err != nil {
		return err
	}
	have := 0.0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, counter+"{") || strings.HasPrefix(line, counter+" ") {
			n, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
			if err != nil {
				return fmt.Errorf("read counter: %w", err)
			}
			have += n
		}
	}
	if have < float64(want) {
		return fmt.Errorf("%s is %.0f, not %d", counter, have, want)
	}
	return nil
}

func fetch(url string) ([]byte, error) {
	answer, err := http.Get(url)
	if err != nil {
		return nil, fmt.Errorf("ask program: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("ask program: %w", err)
	}
	return text, nil
}

// log is what both programs have said.
func (p *pipeline) log() string {
	text := "cdc:\n" + p.cdc.Stderr()
	if p.invalidator != nil {
		text += "invalidator:\n" + p.invalidator.Stderr()
	}
	return text
}
