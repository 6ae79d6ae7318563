package testkit

// OpenScratch makes a directory for what the Open functions start. It goes when this process ends, at the latest.
func OpenScratch(name string) (string, error) { return scratch(name) }

// FreePort finds a TCP port of 127.0.0.1 on which nobody listens, for a program that must find the same one after a
// restart.
func FreePort() (int, error) { return freePort() }
