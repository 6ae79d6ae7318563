// Package redis speaks to one cache: a single Redis, one behind Sentinel, or a Cluster.
//
// Its promise: when it says that a key or a sweep is done, a Redis primary has answered that the value and its guard are gone,
// and a fill whose miss came before can no longer store anything. It never prints a password, and never skips a key of
// which it is not sure. Everything it does is idempotent: after any error the caller does it again.
package redis
