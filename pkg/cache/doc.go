// Package cache is what an application uses to read through Redis a value that walfence invalidates.
//
// Its promise: a fill that began before an invalidation is refused, so no value that was read too early is ever stored.
// A miss takes a guard, a short-lived record beside the key; the value is stored only while that guard stands, and
// every invalidation removes it. Nothing depends on clocks, and losing guards (eviction, expiry, FLUSHALL) refuses
// fills and never lets a wrong one in.
//
// The row must be read after the miss, from the primary, and not inside a transaction whose snapshot is older than the
// miss or that has written. [Cache.Get] calls its loader at the right moment; what the loader does there is up to it.
package cache
