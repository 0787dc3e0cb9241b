//go:build !linux

package keeper

import (
	"context"
	"net"

	"gapless"
)

// Run is not there yet on this system.
func Run(context.Context, Config) error {
	return gapless.Errorf(gapless.Unsupported, "keeper runs on Linux only, so far")
}

// Inherits reports whether this process was a keeper before.
func Inherits() bool { return false }

// Listen opens a socket of this machine.
func Listen(addr string) (*net.TCPListener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, gapless.Errorf(gapless.Unavailable, "cannot listen on %s: %w", addr, err)
	}
	return ln.(*net.TCPListener), nil
}
