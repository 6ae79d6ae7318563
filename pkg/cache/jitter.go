package cache

import (
	"math/rand/v2"
	"time"
)

// shorten takes up to a fraction off a lifetime, at random. A fraction that is not positive takes nothing.
func shorten(d time.Duration, fraction float64) time.Duration {
	if fraction <= 0 {
		return d
	}
	return d - time.Duration(rand.Float64()*fraction*float64(d))
}
