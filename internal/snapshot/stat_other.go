//go:build !linux

package snapshot

import (
	"io/fs"
	"syscall"
	"time"
)

// statOf is what the system knows of a file. Without the time of its last
// change nothing is believed to be unchanged.
func statOf(info fs.FileInfo) (s stat) {
	s.changed, s.used = time.Now().UnixNano(), info.Size()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.uid, s.gid, s.links = st.Uid, st.Gid, uint64(st.Nlink)
	}
	return s
}
