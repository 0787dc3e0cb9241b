// Package rotate names and moves the files of a log that is rotated:
// app.log is the one being written, app-<time>.log those before it.
package rotate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// layout sorts by name as by time.
const layout = "20060102T150405.000000Z"

// Path names what a log file is renamed to.
func Path(path string, t time.Time) string {
	return strings.TrimSuffix(path, ".log") + "-" + t.UTC().Format(layout) + ".log"
}

// Open opens a log for reading and appending, its directory made if need be.
func Open(path string) (*os.File, fs.FileInfo, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// Files returns the rotated files of a log, oldest first.
func Files(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list rotated logs: %w", err)
	}
	prefix := strings.TrimSuffix(filepath.Base(path), ".log") + "-"
	var names []string
	for _, e := range entries {
		if _, ok := timeOf(e.Name(), prefix); ok {
			names = append(names, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	slices.Sort(names)
	return names, nil
}

func timeOf(name, prefix string) (time.Time, bool) {
	s, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return time.Time{}, false
	}
	s, ok = strings.CutSuffix(s, ".log")
	if !ok || len(s) != len(layout) {
		return time.Time{}, false
	}
	t, err := time.Parse(layout, s)
	return t, err == nil
}

// Rotate moves the file at path out of the way and deletes the oldest
// rotated files beyond keep.
func Rotate(path string, keep int, now time.Time) error {
	names, err := Files(path)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		// Never before an older one, even if the clock was set back.
		prefix := strings.TrimSuffix(filepath.Base(path), ".log") + "-"
		newest, _ := timeOf(filepath.Base(names[len(names)-1]), prefix)
		if !now.Truncate(time.Microsecond).After(newest) {
			now = newest.Add(time.Microsecond)
		}
	}
	name := Path(path, now)
	if err := os.Rename(path, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names = append(names, name)
	for _, old := range names[:max(0, len(names)-max(0, keep))] {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
