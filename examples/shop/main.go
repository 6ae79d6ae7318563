// Command shop is a small multi-tenant service that reads through walfence's cache: a profile, settings, a catalogue's list
// and its search. It shows how the parts of package cache fit together; rules.yaml beside it says what a change makes invalid.
//
//	DATABASE_URL=... REDIS_URL=... NATS_URL=... go run ./shop
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/pkg/cache"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

// serve connects to everything and answers until ctx ends.
func serve(ctx context.Context) error {
	db, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer db.Close()
	opt, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		return fmt.Errorf("read REDIS_URL: %w", err)
	}
	opt.ContextTimeoutEnabled = true // or no timeout could be kept
	client := redis.NewClient(opt)
	defer client.Close()
	nc, err := nats.Connect(os.Getenv("NATS_URL"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true))
	if err != nil {
		return fmt.Errorf("connect to nats: %w", err)
	}
	defer nc.Close()
	s, err := newShop(db, client, nc)
	if err != nil {
		return err
	}
	defer s.close()
	return listen(ctx, s.handler())
}

func listen(ctx context.Context, h http.Handler) error {
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(server.Shutdown(shutdown), ignoreClosed(<-ended))
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// shop is the service: its database, and a cache for each kind of value.
type shop struct {
	db       *pgxpool.Pool
	feed     *cache.Feed
	scopes   *cache.Scopes
	profiles *cache.Cache[profile]
	settings *cache.Cache[settings]
	lists    *cache.Cache[[]product]
	metrics  *prometheus.Registry
}

func newShop(db *pgxpool.Pool, client redis.UniversalClient, nc *nats.Conn) (s *shop, err error) {
	s = &shop{db: db, metrics: prometheus.NewRegistry()}
	if s.feed, err = cache.OpenFeed(nc, cache.FeedOptions{Cache: "main"}); err != nil {
		return nil, err
	}
	loads := cache.NewLimiter(20) // of all caches together: it is one database
	shared := []cache.Option{cache.WithFeed(s.feed), cache.WithLimiter(loads)}
	if s.scopes, err = cache.NewScopes(client, cache.ScopesOptions{}, shared...); err != nil {
		return nil, err
	}
	if s.profiles, err = cache.New[profile](client, cache.Options{Name: "profiles", TTL: 5 * time.Minute}, shared...); err != nil {
		return nil, err
	}
	if s.settings, err = cache.New[settings](client, cache.Options{
		Name: "settings", TTL: time.Hour, RefreshBefore: time.Minute, StaleOnError: 24 * time.Hour,
	}, shared...); err != nil {
		return nil, err
	}
	if s.lists, err = cache.New[[]product](client, cache.Options{
		Name: "lists", TTL: time.Minute, Stale: 5 * time.Minute, CompressAbove: 4 << 10,
	}, shared...); err != nil {
		return nil, err
	}
	s.metrics.MustRegister(s.profiles.Collector(), s.settings.Collector(), s.lists.Collector())
	return s, nil
}

func (s *shop) close() {
	s.profiles.Close()
	s.settings.Close()
	s.lists.Close()
	s.scopes.Close()
	s.feed.Close()
}

func (s *shop) handler() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(gin.Recovery())
	tenant := r.Group("/tenants/:tenant")
	tenant.GET("/users/:id", s.getProfile)
	tenant.PUT("/users/:id/name", s.putName)
	tenant.GET("/settings", s.getSettings)
	tenant.GET("/products", s.getProducts)
	r.GET("/metrics", gin.WrapH(promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{})))
	return r
}
