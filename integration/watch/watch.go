// Package watch asks a running cdc or invalidator how it is, over HTTP, as an operator would.
//
// Its promise: what it returns is what the program said, or an error that says what the program said instead.
package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Program is where a running program answers: CDC_HTTP or INVALIDATOR_HTTP. Its methods may be called from many goroutines.
type Program struct {
	// Name is for errors.
	Name string
	// Address is its host and port.
	Address string
}

const patience = 2 * time.Second

// client keeps no connections: programs come and go.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (p Program) get(ctx context.Context, path string) (code int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Address+path, nil)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", p.Name, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", p.Name, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", p.Name, err)
	}
	return response.StatusCode, string(text), nil
}

// Ready returns nil if it says that it is ready, or else an error with what it waits for.
func (p Program) Ready(ctx context.Context) error {
	code, body, err := p.get(ctx, "/readyz")
	if err == nil && code != http.StatusOK {
		err = errors.New(strings.ReplaceAll(strings.TrimSpace(body), "\n", "; "))
	}
	return err
}

// Alive returns nil if it answers /livez.
func (p Program) Alive(ctx context.Context) error {
	code, body, err := p.get(ctx, "/livez")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%s is not alive: %d %s", p.Name, code, body)
	}
	return err
}

// Status reads /status into a pointer.
func (p Program) Status(ctx context.Context, into any) error {
	_, body, err := p.get(ctx, "/status")
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		return fmt.Errorf("read status of %s: %w", p.Name, err)
	}
	return nil
}
