// Package testkit runs the neighbours that walfence talks to, PostgreSQL, Redis and NATS, and walfence's own programs.
//
// Its promise: a test meets the real thing on addresses of its own, and nothing that it started outlives the test
// process, however that process ends. A neighbour that is missing fails the test with one line that says what to
// install. Logs of what a failed test used are kept, and the test says where.
//
// The functions that take a testing.TB clean up after themselves. The Open functions return errors instead, for
// programs such as the demo and the benchmark.
package testkit
