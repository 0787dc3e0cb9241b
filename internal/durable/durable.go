// Package durable replaces small files that only their owner may read: all of
// it or nothing, and on the disk when it returns. Whoever keeps keys, counts or
// records in a file uses it; it knows nothing of what is in them.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Write replaces a file, with mode 0600, in one step. Its directory must exist.
// After an error the file is the one of before.
func Write(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+strings.TrimPrefix(filepath.Base(path), ".")+"-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		if rm := os.Remove(f.Name()); !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
		return err
	}
	return Dir(filepath.Dir(path))
}

// Dir makes names that were made or removed in a directory last.
func Dir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
