package cli

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gapless/internal/daemon"
)

// fileChanges is what differs between a directory and a release's tree, by
// paths relative to both.
type fileChanges struct {
	Changed []string `json:"changed"`
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
}

func (f *fileChanges) any() bool { return len(f.Changed)+len(f.Added)+len(f.Removed) > 0 }

// compare looks for what a release of dir would have that tree has not. A
// copy keeps its size and time, so content is read only where those differ.
// What an ignore file names is no part of a release; what a build or an
// install made, and assets of former releases, are in the tree alone, and no
// change. It is nil if either cannot be read.
func compare(dir, tree string, built bool, skip, assets []string) *fileChanges {
	if real, err := filepath.EvalSymlinks(dir); err == nil { // an app may be started from a link
		dir = real
	}
	for _, path := range skip {
		if real, err := filepath.EvalSymlinks(path); err == nil && filepath.IsAbs(path) {
			skip = append(skip, real)
		}
	}
	out := &fileChanges{Changed: []string{}, Added: []string{}, Removed: []string{}}
	ignored, err := daemon.Ignored(dir)
	if err != nil {
		return nil
	}
	skipped := func(rel string, isDir bool) bool {
		return filepath.Base(rel) == ".git" || slices.Contains(skip, rel) || slices.Contains(skip, filepath.Join(dir, rel)) || ignored(rel, isDir)
	}
	err = walk(dir, skipped, func(rel string, info fs.FileInfo) error {
		was, err := os.Lstat(filepath.Join(tree, rel))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			out.Added = append(out.Added, rel)
		case err != nil:
			return err
		case was.Mode().Type() != info.Mode().Type():
			out.Changed = append(out.Changed, rel)
		default:
			same, err := sameFile(filepath.Join(dir, rel), filepath.Join(tree, rel), info, was)
			if err != nil {
				return err
			}
			if !same {
				out.Changed = append(out.Changed, rel)
			}
		}
		return nil
	})
	if err == nil && !built {
		err = walk(tree, skipped, func(rel string, _ fs.FileInfo) error {
			_, err := os.Lstat(filepath.Join(dir, rel))
			if errors.Is(err, fs.ErrNotExist) && (within(assets, rel) || slices.Contains(strings.Split(rel, "/"), "node_modules")) {
				return nil
			}
			if errors.Is(err, fs.ErrNotExist) {
				out.Removed = append(out.Removed, rel)
				return nil
			}
			return err
		})
	}
	if err != nil {
		return nil
	}
	return out
}

// within reports whether a path is below one of the directories.
func within(dirs []string, rel string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(rel, dir+"/") })
}

// walk calls each for every file and link below dir.
func walk(dir string, skipped func(string, bool) bool, each func(rel string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if rel != "." && skipped(rel, d.IsDir()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		link := d.Type() == fs.ModeSymlink
		if !d.Type().IsRegular() && !link || link && slices.Contains(strings.Split(rel, "/"), "node_modules") {
			return nil // in node_modules a release has copies of what links lead to
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return each(rel, info)
	})
}

// sameFile compares two files, or links, of one type.
func sameFile(a, b string, ai, bi fs.FileInfo) (bool, error) {
	if ai.Mode()&fs.ModeSymlink != 0 {
		to, err := os.Readlink(a)
		if err != nil {
			return false, err
		}
		was, err := os.Readlink(b)
		return to == was, err
	}
	mode := ai.Mode().Perm()
	if bi.Mode()&0o222 == 0 { // shared with other releases, which must not be written to
		mode &^= 0o222
	}
	if ai.Size() != bi.Size() || mode != bi.Mode().Perm() {
		return false, nil
	}
	if ai.ModTime().Equal(bi.ModTime()) {
		return true, nil
	}
	x, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer func() { _ = x.Close() }()
	y, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer func() { _ = y.Close() }()
	bufX, bufY := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errX := io.ReadFull(x, bufX)
		m, errY := io.ReadFull(y, bufY)
		if !bytes.Equal(bufX[:n], bufY[:m]) {
			return false, nil
		}
		if errX != nil || errY != nil {
			done := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
			return done(errX) && done(errY), nil
		}
	}
}
