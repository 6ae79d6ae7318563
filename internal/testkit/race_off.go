//go:build !race

package testkit

// raceDetector tells whether this test was built with -race: then so are the programs that it starts.
const raceDetector = false
