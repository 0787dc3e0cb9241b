package edge

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// hungUp reports whether the other side of a connection has ended it, also
// where there are bytes before the end that nobody has read.
func hungUp(raw syscall.RawConn) bool {
	over := false
	err := raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		over = err == nil && n > 0 && p[0].Revents != 0
	})
	return err != nil || over
}
