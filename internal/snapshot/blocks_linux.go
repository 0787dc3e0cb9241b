package snapshot

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// clone makes out share the blocks of in; false if the file system cannot.
func clone(out, in *os.File) bool {
	return unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil
}

// nextData finds the next piece of a file that is no hole; size: there is none.
func nextData(f *os.File, at, size int64) (from, to int64, err error) {
	from, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size, nil
	}
	if errors.Is(err, unix.EINVAL) { // the file system knows no holes
		return at, size, nil
	}
	if err != nil {
		return 0, 0, err
	}
	to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
	return from, min(to, size), err
}
