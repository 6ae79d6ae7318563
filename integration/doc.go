// Package integration has no code of its own: its tests run the two built programs against real servers, as a user would,
// break things, and look for what is then cached and must not be.
//
// Its promise: what these tests show is true of the programs, since they know nothing of what is inside.
package integration
