package api

import (
	"net"
	"syscall"
)

// peerUID is the user at the other end of a unix socket, told by the kernel.
func peerUID(conn net.Conn) (uid int, ok bool) {
	c, isUnix := conn.(*net.UnixConn)
	if !isUnix {
		return 0, false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *syscall.Ucred
	var fault error
	if err := raw.Control(func(fd uintptr) {
		cred, fault = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || fault != nil {
		return 0, false
	}
	return int(cred.Uid), true
}
