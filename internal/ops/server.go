package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// patience bounds how long a request may take to arrive, and Close may wait for those under way.
const patience = 5 * time.Second

// Server answers /livez, /readyz, /status and /metrics. Its methods may be called from any goroutine.
type Server struct {
	address    string
	conditions *Conditions
	http       http.Server
	log        *zap.Logger
	started    time.Time
	done       chan error

	mu     sync.Mutex
	status map[string]func() any
}

// Serve listens on address, where port 0 takes a free one, and answers from then on until Close. It adds the conditions to
// the registry.
func Serve(address string, conditions *Conditions, registry *prometheus.Registry, log *zap.Logger) (*Server, error) {
	if err := registry.Register(conditions); err != nil {
		return nil, fmt.Errorf("register conditions: %w", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for http: %w", err)
	}
	s := &Server{
		address: listener.Addr().String(), conditions: conditions, log: log, started: time.Now(),
		done: make(chan error, 1), status: make(map[string]func() any),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.live)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /status", s.state)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	s.http = http.Server{Handler: mux, ReadTimeout: patience, IdleTimeout: time.Minute}
	go func() { s.done <- s.http.Serve(listener) }()
	log.Info("http listens", zap.String("address", s.address))
	return s, nil
}

// Addr is the host and port that it listens on.
func (s *Server) Addr() string { return s.address }

// Register adds a part to /status. state is called for every request, from its goroutine, and what it returns is
// written as JSON.
func (s *Server) Register(name string, state func() any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status[name] = state
}

// Close stops listening and waits, for a few seconds at most, for answers under way.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("close http: %w", err), s.http.Close())
	}
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve http: %w", served))
	}
	s.done <- http.ErrServerClosed // for whoever closes again
	return err
}

func (s *Server) live(w http.ResponseWriter, _ *http.Request) { s.plain(w, http.StatusOK, "ok\n") }

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	all := s.conditions.All()
	code, text := http.StatusOK, "ok\n"
	if unmet := reasons(all); unmet != "" {
		code, text = http.StatusServiceUnavailable, unmet
	}
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		s.json(w, code, map[string]any{"ready": code == http.StatusOK, "conditions": all})
		return
	}
	s.plain(w, code, text)
}

// reasons are the conditions that do not hold, one a line.
func reasons(all []Condition) (text string) {
	for _, c := range all {
		if !c.OK {
			text += c.Name + ": " + c.Reason + "\n"
		}
	}
	return text
}

func (s *Server) state(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	parts := maps.Clone(s.status)
	s.mu.Unlock()
	answer := map[string]any{
		"build": ThisBuild(), "started": s.started, "ready": s.conditions.Ready(), "conditions": s.conditions.All(),
	}
	for name, state := range parts {
		answer[name] = state() // without the lock: it may take others
	}
	s.json(w, http.StatusOK, answer)
}

func (s *Server) plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	s.answer(w, code, []byte(text))
}

func (s *Server) json(w http.ResponseWriter, code int, value any) {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		s.log.Error("http answer cannot be encoded", zap.Error(err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	s.answer(w, code, append(text, '\n'))
}

func (s *Server) answer(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if _, err := w.Write(body); err != nil {
		s.log.Debug("http client left", zap.Error(err))
	}
}
