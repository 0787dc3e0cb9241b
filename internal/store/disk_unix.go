//go:build unix

package store

import (
	"errors"
	"io/fs"
	"syscall"

	sqlite3 "modernc.org/sqlite/lib"
)

// diskHint says what helps where a disk does not take a write; "" if it is something else.
func diskHint(err error) string {
	c := code(err)
	switch {
	case c == sqlite3.SQLITE_FULL, errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free some space on the disk that holds GAPLESS_HOME; what runs serves on"
	case c == sqlite3.SQLITE_READONLY, errors.Is(err, syscall.EROFS):
		return "the disk that holds GAPLESS_HOME is read-only: look why with dmesg, and mount it writable again; what runs serves on"
	case c == sqlite3.SQLITE_IOERR, errors.Is(err, syscall.EIO):
		return "the disk that holds GAPLESS_HOME does not work as it should: look with dmesg; what runs serves on"
	case c == sqlite3.SQLITE_CANTOPEN, c == sqlite3.SQLITE_PERM, errors.Is(err, fs.ErrPermission):
		return "check who owns the files in GAPLESS_HOME; what runs serves on"
	}
	return ""
}
