package redis

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/zap"
)

const (
	dialTimeout = 2 * time.Second
	// ioTimeout bounds one round trip. A pipeline of [pipelineKeys] keys takes Redis about two milliseconds.
	ioTimeout = 3 * time.Second
	// maxRetries is what go-redis does by itself, for a connection that died in the pool. All longer patience is the caller's.
	maxRetries = 1
	// poolSize is per server: workers of one process, a sweep, and room.
	poolSize = 32
)

// Client is one cache. It is safe for concurrent use.
type Client struct {
	rdb     redis.UniversalClient
	cluster *redis.ClusterClient // nil unless it is a Cluster
	scratch sync.Pool            // *removal
}

// Open reads the URL and returns a client. It does not connect: a cache that is away is no error here. Its error is a
// mistake in the URL, and holds no part of it that may be secret.
func Open(rawURL string) (*Client, error) {
	t, err := parseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("read redis URL: %w", err)
	}
	c := &Client{}
	switch t.form {
	case cluster:
		c.cluster = redis.NewClusterClient(t.clusterOptions())
		c.rdb = c.cluster
	case sentinel:
		c.rdb = redis.NewFailoverClient(t.sentinelOptions())
	default:
		c.rdb = redis.NewClient(t.singleOptions())
	}
	c.scratch.New = func() any { return &removal{} }
	return c, nil
}

// Ping asks the server, or on Cluster each primary, for an answer.
func (c *Client) Ping(ctx context.Context) error {
	ping := func(ctx context.Context, node *redis.Client) error { return node.Ping(ctx).Err() }
	var err error
	if c.cluster != nil {
		err = c.cluster.ForEachMaster(ctx, ping)
	} else {
		err = c.rdb.Ping(ctx).Err()
	}
	if err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	return nil
}

// Close closes all connections. What runs then fails.
func (c *Client) Close() error { return c.rdb.Close() }

func (t target) singleOptions() *redis.Options {
	return &redis.Options{
		Addr: t.addrs[0], Username: t.user, Password: t.password, DB: t.db, TLSConfig: t.tls,
		DialTimeout: dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true,
		MaxRetries: maxRetries, DialerRetries: 1, PoolSize: poolSize, DisableIdentity: true,
		MaintNotificationsConfig: noNotifications(),
	}
}

func (t target) sentinelOptions() *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName: t.primary, SentinelAddrs: t.addrs, SentinelUsername: t.sentinelUser, SentinelPassword: t.sentinelPassword,
		Username: t.user, Password: t.password, DB: t.db, TLSConfig: t.tls,
		DialTimeout: dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true,
		MaxRetries: maxRetries, DialerRetries: 1, PoolSize: poolSize, DisableIdentity: true,
	}
}

func (t target) clusterOptions() *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs: t.addrs, Username: t.user, Password: t.password, TLSConfig: t.tls,
		DialTimeout: dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true,
		MaxRetries: maxRetries, DialerRetries: 1, PoolSize: poolSize, DisableIdentity: true,
		// Commands go where their first key is, so UNLINK of one slot may stand in a pipeline.
		DisableRoutingPolicies:   true,
		MaintNotificationsConfig: noNotifications(),
	}
}

// noNotifications spares the handshake a command that few servers know and that an ACL would have to grant.
func noNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// LogTo sends what go-redis has to say, which it otherwise prints to standard error, to log at debug level. It is
// process-wide, and meant for main.
func LogTo(log *zap.Logger) { redis.SetLogger(driverLog{log.Sugar()}) }

type driverLog struct{ log *zap.SugaredLogger }

func (d driverLog) Printf(_ context.Context, format string, args ...any) {
	d.log.Debugw("redis driver", "reason", fmt.Sprintf(format, args...))
}
