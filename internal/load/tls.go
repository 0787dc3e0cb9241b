package load

import (
	"crypto/tls"
	"net"
	"syscall"
)

// secure is a TLS connection whose socket can be looked at.
type secure struct {
	*tls.Conn
	below net.Conn
}

// SyscallConn implements syscall.Conn.
func (s *secure) SyscallConn() (syscall.RawConn, error) {
	return s.below.(syscall.Conn).SyscallConn()
}
