// Package ops is what operators see of a running program: its log, its health, its state and its metrics.
//
// Its promise: whatever a program is waiting for, /readyz and /status say so, with the reason, while it runs; and no
// password reaches the log.
package ops
