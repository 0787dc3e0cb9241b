package snapshot

import (
	"io/fs"
	"syscall"
)

// statOf is what the system knows of a file beside size and modification time.
func statOf(info fs.FileInfo) (s stat) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s = stat{dev: uint64(st.Dev), ino: st.Ino, changed: st.Ctim.Nano(), uid: st.Uid, gid: st.Gid, links: uint64(st.Nlink), used: st.Blocks * 512}
	}
	return s
}
