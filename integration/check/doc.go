// Package check finds stale values in a cache.
//
// Its promise: once writes have stopped and everything published is applied, a cached value that differs from the
// database is reported, whichever way it came to be; and while the load runs, every read of a value that a finished
// commit had already replaced is counted, with how late it was.
//
// The demo, the tests of the built programs and the soak share it. Its own tests show that it finds what it is there to
// find: readers without a guard make it fail.
package check
