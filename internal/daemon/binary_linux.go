package daemon

import (
	"math"

	"golang.org/x/sys/unix"
)

// hasCapabilities reports whether a binary may do more than the user who
// starts it, as with setcap: a copy of it may not.
func hasCapabilities(path string) bool {
	n, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && n > 0
}

// freeSpace is what a file system has left for us, in bytes.
func freeSpace(path string) uint64 {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil || fs.Bsize <= 0 {
		return math.MaxUint64 // not known: then it is tried
	}
	return fs.Bavail * uint64(fs.Bsize)
}
