package daemon

import "syscall"

// readOnly reports whether the file system of dir is mounted read-only.
func readOnly(dir string) bool {
	const rdonly = 1 // ST_RDONLY
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && st.Flags&rdonly != 0
}
