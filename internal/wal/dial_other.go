//go:build !linux

package wal

import "net"

// unpoll is for Linux.
func unpoll(conn net.Conn) net.Conn { return conn }
