// Package cache is what an application uses to read through Redis a value that walfence invalidates.
//
// Its promise: a fill that began before an invalidation is refused, so no value that was read too early is ever stored.
// A miss takes a guard, a short-lived record beside the key; the value is stored only while that guard stands, and
// every invalidation removes it. Nothing depends on clocks, and losing guards (eviction, expiry, FLUSHALL) refuses
// fills and never lets a wrong one in.
//
// The row must be read after the miss, from the primary, and not inside a transaction whose snapshot is older than the
// miss or that has written. [Cache.Get] calls its loader at the right moment. A loader that reads a replica follows the
// replica rule through [OnReplica] or [Miss.Prove]; one that is inside such a transaction is given a context from
// [WithoutFill].
//
// A [Feed] adds a cache in the process's own memory that is kept in step. docs/cache.md walks from plain GET and SET to
// all of it.
package cache
