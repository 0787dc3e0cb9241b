package supervise

import (
	"golang.org/x/sys/unix"
)

// delegated reports whether systemd handed this cgroup to us (Delegate=yes):
// then all processes in it are ours to arrange.
func delegated(dir string) bool {
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		buf := make([]byte, 8)
		if n, err := unix.Getxattr(dir, name, buf); err == nil && string(buf[:n]) == "1" {
			return true
		}
	}
	return false
}

func writable(file string) bool { return unix.Access(file, unix.W_OK) == nil }
