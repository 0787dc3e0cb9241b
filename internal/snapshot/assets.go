package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Former is the tree of another release of the app.
type Former struct {
	Tree    string
	Carried []string // what Carry put there: it came from a release still older
}

// Carry gives a tree the files of former trees that it does not have itself,
// in those directories only: pages that clients have open ask for the scripts
// and styles of the release that they came from. What a former release had
// from another one is not carried on, so a file lives as long as the release
// that it is of. The result lists what was added, relative to the tree.
func (s *Store) Carry(tree string, dirs []string, former []Former) (added []string, err error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if len(dirs) == 0 {
		return nil, nil
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	buf := make([]byte, 256<<10)
	for _, f := range former {
		old, err := os.OpenRoot(f.Tree)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return added, err
		}
		borrowed := map[string]bool{}
		for _, name := range f.Carried {
			borrowed[name] = true
		}
		for _, dir := range dirs {
			err = errors.Join(err, ignoreMissing(fs.WalkDir(old.FS(), filepath.ToSlash(dir), func(name string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() || borrowed[name] {
					return err
				}
				if _, err := root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
					return nil // it has one of its own, or a link to elsewhere is in the way
				}
				if err := s.carry(old, root, tree, name, buf); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				added = append(added, name)
				return nil
			})))
		}
		if err = errors.Join(err, old.Close()); err != nil {
			return added, explain(fmt.Errorf("carry over assets of %s: %w", filepath.Base(f.Tree), err))
		}
	}
	return added, nil
}

// carry puts one file of an old tree into a new one.
func (s *Store) carry(old, root *os.Root, tree, name string, buf []byte) error {
	in, err := old.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := s.create()
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	o := objectOf(info, os.Geteuid() == 0)
	o.perm &^= 0o222
	o.sum, o.size, err = copyFile(out, in, buf)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	to := filepath.Join(tree, name)
	err = s.link(o, to)
	if errors.Is(err, errAbsent) {
		if err = s.keep(out.Name(), o); err == nil {
			err = s.link(o, to)
		}
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
