// Package events is walfence's wire: what travels on CHANGES and INVALIDATIONS, how it is written and read, and the
// subjects it travels on.
//
// Its promise: whatever was encoded is decoded to the same value, by this version or a later one, and a reader that
// meets a newer version says so instead of guessing. docs/wire.md describes the format for programs in other languages.
package events

// Version is the wire version that this package writes, and the newest it reads.
const Version = 1
