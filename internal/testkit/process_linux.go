package testkit

import "syscall"

// attributes make the kernel signal the child when the thread that started it ends. The runtime ends a thread only with
// a goroutine that is locked to it, so that is when this process ends, also by kill -9.
func attributes(c command) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: c.user, Pdeathsig: c.died, Setpgid: true}
}
