package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/ops"
	"github.com/walfence/walfence/internal/relay"
)

type statusCommand struct {
	database
	JSON bool `name:"json" help:"Print JSON."`
}

// status is what `cdc status` shows.
type status struct {
	Server      string          `json:"server"`
	Database    string          `json:"database"`
	Publication string          `json:"publication"`
	Tables      string          `json:"publication_state"`
	Slot        *catalog.Slot   `json:"slot"`
	Running     json.RawMessage `json:"running,omitempty"` // what a cdc on this machine says of itself
}

// Run asks the database, and the cdc on CDC_HTTP if there is one.
func (c *statusCommand) Run(ctx context.Context, env *config.Env) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	server, err := catalog.ReadServer(ctx, conn)
	if err != nil {
		return err
	}
	st := status{Server: "PostgreSQL " + server.VersionText, Database: server.Database, Publication: c.Publication}
	fingerprint, err := catalog.Fingerprint(ctx, conn, c.Publication)
	if err != nil {
		return err
	}
	st.Tables = "missing"
	if fingerprint != "" {
		st.Tables = "present, fingerprint " + fingerprint
	}
	if st.Slot, err = catalog.ReadSlot(ctx, conn, c.Slot); err != nil {
		return err
	}
	st.Running = c.ask(ctx)
	if c.JSON {
		e := json.NewEncoder(env.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(st)
	}
	return st.print(env.Stdout, c.CDC)
}

// ask returns what a running cdc says, or nil.
func (c *statusCommand) ask(ctx context.Context) json.RawMessage {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.HTTP+"/status", nil)
	if err != nil {
		return nil
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil || !json.Valid(body) {
		return nil
	}
	return body
}

func (st *status) print(out io.Writer, cfg config.CDC) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	row("server", "%s, database %s", st.Server, st.Database)
	row("publication", "%s: %s", st.Publication, st.Tables)
	if st.Slot == nil {
		row("slot", "%s: missing; cdc run, or cdc setup, creates it", cfg.Slot)
	} else {
		row("slot", "%s: %s, its WAL is %s", cfg.Slot, map[bool]string{true: "read by a cdc", false: "read by nobody"}[st.Slot.Active], st.Slot.WALStatus)
		row("confirmed", "%s", st.Slot.ConfirmedFlush)
		row("retained", "%d bytes of WAL", st.Slot.RetainedBytes)
	}
	st.running(row, cfg)
	return w.Flush()
}

// running shows the few things that matter of what a cdc says of itself; --json has all.
func (st *status) running(row func(name, format string, args ...any), cfg config.CDC) {
	if st.Running == nil {
		row("cdc", "does not answer on %s (CDC_HTTP)", cfg.HTTP)
		return
	}
	var said struct {
		Ready      bool            `json:"ready"`
		Conditions []ops.Condition `json:"conditions"`
		Source     struct {
			Relay relay.Status `json:"relay"`
		} `json:"source"`
	}
	if err := json.Unmarshal(st.Running, &said); err != nil {
		row("cdc", "answers on http://%s/status what this version does not understand", cfg.HTTP)
		return
	}
	r := said.Source.Relay
	row("cdc", "ready %v, epoch %d", said.Ready, r.Epoch)
	for _, c := range said.Conditions {
		if !c.OK {
			row("", "%s: %s", c.Name, c.Reason)
		}
	}
	row("published", "%s, committed %s", r.Published, r.PublishedAt.Local().Format(time.DateTime))
	row("in the stream", "up to %s; %d events in flight, %d transactions wait to be visible", r.Floor, r.InFlight, r.GateWaiting)
}
