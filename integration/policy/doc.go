// Package policy holds what this repository asks of itself, as tests: which package may import which, what every package
// and exported name must say, what tests must not do, and that the files around the code know its settings.
package policy
