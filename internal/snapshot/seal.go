package snapshot

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// origin is what a private file of a tree was when it was put there.
type origin struct {
	as   cached
	sum  [sha256.Size]byte
	from string // the file that it is a copy of and could be a link to; "": known by its sum
}

// found is one file of a finished tree.
type found struct {
	path string
	info fs.FileInfo
}

// Seal makes a tree share what can be shared, when an install or a build has
// written the last of it. Until then its files are private, so that nothing
// that writes to them reaches another release. Files that an installer linked
// to a store of its own become copies.
func (s *Store) Seal(ctx context.Context, tree string, res *Result, user int) error {
	s.use.RLock()
	defer s.use.RUnlock()
	var all []found
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		rel, err := filepath.Rel(tree, path)
		if err != nil || !d.Type().IsRegular() || !res.private && !InModules(filepath.Dir(rel)) {
			return err
		}
		info, err := d.Info()
		all = append(all, found{rel, info})
		return err
	})
	if err != nil {
		return fmt.Errorf("look at what was built: %w", err)
	}
	slices.SortStableFunc(all, func(a, b found) int { return int(min(1, max(-1, a.info.Size()-b.info.Size()))) })
	p := policy{user: user}
	buf := make([]byte, 256<<10)
	for _, f := range all {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var err error
		if p.shares(f.path, f.info) {
			err = s.seal(tree, f, res.placed[f.path], buf)
			res.Shared++
		} else if statOf(f.info).links > 1 {
			err = s.part(filepath.Join(tree, f.path), objectOf(f.info, os.Geteuid() == 0), buf)
		}
		if noLink(err) || errors.Is(err, fs.ErrPermission) { // it stays private
			res.Shared--
			continue
		}
		if err != nil {
			return explain(fmt.Errorf("share %s: %w", f.path, err))
		}
	}
	res.placed = nil
	return nil
}

// seal makes one file of a tree a link to an object.
func (s *Store) seal(tree string, f found, was origin, buf []byte) error {
	path := filepath.Join(tree, f.path)
	link := s.temporary()
	defer os.Remove(link) // gone, if it took its place
	if was.as == identify(f.info) && was.from != "" {
		if err := os.Link(was.from, link); err != nil {
			return err
		}
		return os.Rename(link, path)
	}
	o := objectOf(f.info, os.Geteuid() == 0)
	o.perm &^= 0o222
	o.sum = was.sum
	if was.as != identify(f.info) {
		var err error
		if o.sum, err = sumFile(path, buf); err != nil {
			return err
		}
	}
	err := s.link(o, link)
	if errors.Is(err, errAbsent) {
		if err = s.add(path, o, buf); err == nil {
			err = s.link(o, link)
		}
	}
	if err != nil {
		return err
	}
	return os.Rename(link, path)
}

// add makes an object of a copy of the file.
func (s *Store) add(path string, o object, buf []byte) error {
	out, err := s.create()
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	sum, err := copyInside(out, path, buf)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if sum != nil && *sum != o.sum {
		return fmt.Errorf("%s changed while it was read", path)
	}
	return s.keep(out.Name(), o)
}

// part replaces a file that has links elsewhere by a copy.
func (s *Store) part(path string, o object, buf []byte) error {
	out, err := s.create()
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // gone, if it took its place
	_, err = copyInside(out, path, buf)
	if err = errors.Join(err, out.Close()); err == nil {
		err = dress(out.Name(), o)
	}
	if err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

// temporary is a name for a link that is about to take a file's place.
func (s *Store) temporary() string { return filepath.Join(s.objects(), tmp+rand.Text()) }

// copyInside copies a file of ours: where the file system can, the copy shares
// its blocks until one of both is written to, and there is no sum.
func copyInside(out *os.File, from string, buf []byte) (*[sha256.Size]byte, error) {
	in, err := os.OpenFile(from, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if clone(out, in) {
		return nil, nil
	}
	sum, _, err := copyFile(out, in, buf)
	return &sum, err
}

func sumFile(path string, buf []byte) ([sha256.Size]byte, error) {
	in, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	defer in.Close()
	sum, _, err := copyFile(nil, in, buf)
	return sum, err
}
