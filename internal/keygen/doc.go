// Package keygen writes typed functions that build the keys of a rules file, in Go and in TypeScript.
//
// Its promise: for the same values, the functions build exactly the keys that the rules invalidate, escaped the same way.
package keygen
