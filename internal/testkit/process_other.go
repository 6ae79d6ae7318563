//go:build !linux

package testkit

import "syscall"

// attributes cannot tie the child to this process here: what is killed with -9 leaves its children behind.
func attributes(c command) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: c.user, Setpgid: true}
}
