//go:build !linux

package edge

import "syscall"

// hungUp reports whether the other side of a connection has ended it. Where
// bytes are before the end, it is not seen.
func hungUp(raw syscall.RawConn) bool { return look(raw) == gone }
