// Package rulestest runs users' tests of their rules: changes written in YAML, and what they must lead to.
//
// Its promise: a test passes only if the engine that runs in production leads its changes to exactly what the test says,
// no more and no less. It needs no server.
package rulestest
