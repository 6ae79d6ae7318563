package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// How a silent peer is noticed: after at most three intervals. NATS' own default takes six minutes.
const (
	pingInterval = 5 * time.Second
	pingsOut     = 2
)

// Option changes how [Connect] connects.
type Option func(*connection)

// OnState calls f with whether the connection is up, and why not; also, with ok true and a reason, when the server denied
// an operation: whoever asked for it sees only a timeout. f must not block. Calls come one at a time.
func OnState(f func(ok bool, reason string)) Option {
	return func(c *connection) { c.state = f }
}

// Metrics registers and counts walfence_nats_errors_total.
func Metrics(r prometheus.Registerer) Option {
	return func(c *connection) { c.errors = errorCounter(r) }
}

// With adds options of nats.go itself.
func With(options ...nats.Option) Option {
	return func(c *connection) { c.options = append(c.options, options...) }
}

// connection is what the callbacks of one nats.Conn need.
type connection struct {
	log     *zap.Logger
	state   func(ok bool, reason string)
	errors  *prometheus.CounterVec
	options []nats.Option
}

// Connect connects, and keeps trying until ctx ends; a mistake in the settings is returned at once as a [ConfigError].
// Once connected the connection reconnects forever. While it is away publishing fails at once: nothing is buffered and
// sent later behind the back of whoever keeps the order. Passwords appear neither in errors nor in logs.
func Connect(ctx context.Context, cfg Config, name string, log *zap.Logger, opts ...Option) (*nats.Conn, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	c := newConnection(log.With(zap.String("server", hosts(cfg.Servers()))), opts)
	options := append(c.natsOptions(name), cfg.security()...)
	return c.dial(ctx, cfg.Servers(), append(options, c.options...))
}

func newConnection(log *zap.Logger, opts []Option) *connection {
	c := &connection{log: log, state: func(bool, string) {}, errors: errorCounter(nil)}
	for _, o := range opts {
		o(c)
	}
	return c
}

func (c *connection) dial(ctx context.Context, servers string, options []nats.Option) (*nats.Conn, error) {
	var nc *nats.Conn
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	attempt, logged := 0, time.Time{}
	err := backoff.RetryNotify(func() (err error) {
		nc, err = nats.Connect(servers, options...)
		return err
	}, backoff.WithContext(wait, ctx), func(err error, _ time.Duration) {
		attempt++
		c.state(false, "cannot connect to NATS: "+err.Error())
		if time.Since(logged) >= time.Minute {
			logged = time.Now()
			c.log.Warn("cannot connect to nats, trying again", zap.Int("attempt", attempt), zap.Error(err))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	c.log.Info("connected to nats", zap.String("version", nc.ConnectedServerVersion()))
	c.state(true, "")
	return nc, nil
}

func (cfg Config) security() []nats.Option {
	var options []nats.Option
	if cfg.Embedded() {
		return nil
	}
	if cfg.Creds != "" {
		options = append(options, nats.UserCredentials(cfg.Creds))
	}
	if cfg.NKey != "" {
		options = append(options, nkey(cfg.NKey))
	}
	if cfg.CA != "" {
		options = append(options, nats.RootCAs(cfg.CA))
	}
	if cfg.Cert != "" {
		options = append(options, nats.ClientCert(cfg.Cert, cfg.Key))
	}
	return options
}

func nkey(file string) nats.Option {
	return func(o *nats.Options) error {
		option, err := nats.NkeyOptionFromSeed(file)
		if err != nil {
			return fmt.Errorf("read nkey seed: %w", err)
		}
		return option(o)
	}
}

func (c *connection) natsOptions(name string) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(500*time.Millisecond, time.Second),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsOut),
		nats.IgnoreAuthErrorAbort(), // a password that was rotated is put right some day
		nats.ReconnectOnFlusherError(),
		nats.DisconnectErrHandler(c.disconnected),
		nats.ReconnectHandler(c.reconnected),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.state(false, "cannot reconnect to NATS: "+err.Error()) }),
		nats.ErrorHandler(c.failed),
	}
}

func (c *connection) disconnected(_ *nats.Conn, err error) {
	if err == nil { // we closed it
		return
	}
	c.errors.WithLabelValues("disconnect").Inc()
	c.state(false, "disconnected from NATS: "+err.Error())
	c.log.Warn("disconnected from nats", zap.Error(err))
}

func (c *connection) reconnected(nc *nats.Conn) {
	c.state(true, "")
	c.log.Info("reconnected to nats", zap.String("to", hosts(nc.ConnectedUrlRedacted())))
}

// failed sees what no caller is told: above all a denied subject, which looks like a timeout to whoever asked.
func (c *connection) failed(_ *nats.Conn, sub *nats.Subscription, err error) {
	fields := []zap.Field{zap.Error(err)}
	if sub != nil {
		fields = append(fields, zap.String("subject", sub.Subject))
	}
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		c.errors.WithLabelValues("permission").Inc()
		c.state(true, "NATS denied an operation: "+err.Error())
		c.log.Error("nats denied an operation", fields...)
	case errors.Is(err, nats.ErrSlowConsumer):
		c.errors.WithLabelValues("slow_consumer").Inc()
		c.log.Warn("nats dropped messages before a slow consumer", fields...)
	default:
		c.errors.WithLabelValues("other").Inc()
		c.log.Warn("nats reported an error", fields...)
	}
}

func errorCounter(r prometheus.Registerer) *prometheus.CounterVec {
	return register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "walfence_nats_errors_total",
		Help: "Errors that the connection to NATS reported by itself, by kind.",
	}, []string{"kind"}))
}

// register returns the collector that is already registered under the same name, if any: several connections of a process
// count together.
func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if r == nil {
		return c
	}
	err := r.Register(c)
	var known prometheus.AlreadyRegisteredError
	if errors.As(err, &known) {
		return known.ExistingCollector.(C)
	}
	if err != nil {
		panic(err) // two different collectors of one name: a mistake in this program
	}
	return c
}
