// Package source keeps one database streaming.
//
// Its promise: what streams is the database that the rules were checked against, through a slot and a publication that are
// as they must be; whatever fails, it is set up again and goes on from where the stream stands.
package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/gate"
	"github.com/walfence/walfence/internal/relay"
	"github.com/walfence/walfence/internal/wal"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// Config is what a source is told.
type Config struct {
	URL         string // of the database; secret
	Slot        string
	Publication string
	Setup       bool // may create and change its own slot and publication
	ColumnLists bool
	Trust       bool // caches may keep what they hold at the first start
	TrustCrash  bool // a crash of PostgreSQL lost no commit
	Heartbeat   time.Duration
	Program     *mapping.Program
	Log         *zap.Logger
	Metrics     prometheus.Registerer
	// Ready is told whether the source streams and, if not, why.
	Ready func(ok bool, reason string)
	// JetStream makes the streams, and tells of what they hold.
	JetStream jetstream.JetStream
	// Ensure creates the streams or finds them; it returns when CHANGES was created.
	Ensure func(context.Context) (time.Time, error)
}

// Source streams one database into a relay.
type Source struct {
	cfg     Config
	relay   *relay.Relay
	metrics *metrics
	started bool            // a session has streamed since the program started
	told    map[string]bool // misfits of tables that have been logged

	// What the session before found out, for the next one.
	broken     string              // it proved that continuity is broken: why
	expect     *events.Transaction // what it waited for
	recognised events.Transaction  // what it waited for and saw
}

// New returns a source that does nothing before [Source.Run].
func New(cfg Config, r *relay.Relay) *Source {
	return &Source{cfg: cfg, relay: r, metrics: newMetrics(cfg.Metrics), told: map[string]bool{}}
}

// PermanentError is what a restart cannot mend: a mistake in settings, rules or rights.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *PermanentError) Unwrap() error { return e.Err }

func permanent(err error) error { return &PermanentError{Err: err} }

// A session that lasted so long was a good one: what ends it is retried soon.
const goodSession = 30 * time.Second

// Run streams until ctx ends, session after session. The error is a [PermanentError], and only before the first session: what
// goes wrong later, a migration for example, must not end what other tables rely on.
func (s *Source) Run(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(15*time.Second), backoff.WithMaxElapsedTime(0))
	var logged time.Time
	for attempt := 1; ; attempt++ {
		began := time.Now()
		err := s.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var fatal *PermanentError
		if errors.As(err, &fatal) && !s.started {
			return err
		}
		if time.Since(began) > goodSession {
			pause.Reset()
			attempt, logged = 1, time.Time{}
		}
		if s.learn(err) {
			continue
		}
		s.cfg.Ready(false, explain(err))
		wait := pause.NextBackOff()
		if taken(err) {
			wait = takeOverEvery
		}
		s.metrics.sessions.WithLabelValues("ended").Inc()
		if time.Since(logged) > time.Minute {
			logged = time.Now()
			s.cfg.Log.Warn("not streaming, will try again", zap.String("reason", explain(err)), zap.Int("attempt", attempt))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// learn keeps what a session found out, and reports whether the next one is to begin at once.
func (s *Source) learn(err error) bool {
	switch {
	case errors.Is(err, relay.ErrReread):
		s.recognised = *s.expect
	case errors.Is(err, relay.ErrRewound):
		s.cfg.Log.Error("continuity is broken", zap.Error(err))
		s.broken = relay.ReasonRewound
	case errors.Is(err, errStreamTruncated):
		s.cfg.Log.Error("continuity is broken", zap.Error(err))
		s.broken = relay.ReasonTruncated
	case errors.Is(err, errStreamRecreated):
		s.cfg.Log.Error("continuity is broken", zap.Error(err))
		s.broken = relay.ReasonStream
	default:
		return false
	}
	return true
}

// How often a cdc that waits for another one's slot looks whether it is free.
const takeOverEvery = time.Second

// taken reports whether another cdc reads the slot.
func taken(err error) bool {
	var pg *pgconn.PgError
	var active *catalog.SlotActiveError
	return errors.As(err, &active) || errors.As(err, &pg) && pg.Code == "55006"
}

// explain says in one line what is wrong, and what to do where the error does not say it.
func explain(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	var pg *pgconn.PgError
	switch errors.As(err, &pg); {
	case taken(err):
		return text + ": another cdc reads it; this one takes over when that one ends"
	case pg != nil && pg.Code == "3D000":
		return text + ": create the database, or mend DATABASE_URL"
	case pg != nil && (pg.Code == "28P01" || pg.Code == "28000"):
		return text + ": check user and password of DATABASE_URL, and pg_hba.conf"
	}
	return text
}

// connections of one session, all to one server.
type connections struct {
	wal   *wal.Conn // streams
	gate  *pgx.Conn // asks for snapshots
	admin *pgx.Conn // catalog, heartbeats, statistics
}

func (c *connections) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, conn := range []*pgx.Conn{c.gate, c.admin} {
		if conn != nil {
			_ = conn.Close(ctx) // whatever fails, the connection is gone
		}
	}
	if c.wal != nil {
		c.wal.Close()
	}
}

// Connect opens an ordinary connection to the database that url names.
func Connect(ctx context.Context, url string) (*pgx.Conn, error) {
	parsed, err := wal.ParseURL(url)
	if err != nil {
		return nil, permanent(err)
	}
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, permanent(fmt.Errorf("parse DATABASE_URL: %w", err))
	}
	parsed.RuntimeParams["idle_session_timeout"] = "0"
	cfg.Config = *parsed
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to database: %w", err)
	}
	return conn, nil
}

func identify(ctx context.Context, conn *pgx.Conn) (gate.Server, error) {
	results, err := conn.PgConn().Exec(ctx, gate.IdentifySQL).ReadAll()
	if err != nil {
		return gate.Server{}, fmt.Errorf("identify server: %w", err)
	}
	return gate.ReadServer(results[0].Rows[0])
}
