package cache

import "sync"

// flightKey names a miss: all that missed a key and hold the same guard.
type flightKey struct{ key, guard string }

// flight is what readers of this process that share a miss wait for.
type flight[T any] struct {
	key  flightKey
	done chan struct{}
	got  *entry[T] // set before done is closed; nil: ask Redis again
	led  bool      // somebody in this process loads
	over bool
}

// role is what a reader does in a flight.
type role int

const (
	lead   role = iota // load
	follow             // wait for who loads in this process
	watch              // wait for another process, for all that follow
)

// flights are those of one cache.
type flights[T any] struct {
	mu  sync.Mutex
	all map[flightKey]*flight[T]
}

// join returns the flight of a miss, and what the reader is to do in it. The guard's leader always loads: another reader of
// the same process may have come first, and waits for it.
func (fs *flights[T]) join(key flightKey, leader bool) (*flight[T], role) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.all[key]
	switch {
	case f == nil:
		f = &flight[T]{key: key, done: make(chan struct{}), led: leader}
		if fs.all == nil {
			fs.all = map[flightKey]*flight[T]{}
		}
		fs.all[key] = f
		if leader {
			return f, lead
		}
		return f, watch
	case leader && !f.led:
		f.led = true
		return f, lead
	}
	return f, follow
}

// finish hands got to all that follow. Only the first call counts: the guard's leader and one that loads too may share
// a flight.
func (fs *flights[T]) finish(f *flight[T], got *entry[T]) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.over {
		return
	}
	f.over, f.got = true, got
	if fs.all[f.key] == f {
		delete(fs.all, f.key)
	}
	close(f.done)
}

// abandon ends a flight that its watcher leaves, unless somebody in this process loads: who follows asks again.
func (fs *flights[T]) abandon(f *flight[T]) {
	fs.mu.Lock()
	led := f.led
	fs.mu.Unlock()
	if !led {
		fs.finish(f, nil)
	}
}
