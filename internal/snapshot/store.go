package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Store holds what releases share: the content of files, and installed
// dependencies. Each object is a read-only file named by a hash of its
// content, permissions, owner and time; releases have hard links to it, so the
// number of its links says whether it is still of use. No object is ever a
// link to a file of the user.
type Store struct {
	dir string
	use sync.RWMutex // held for reading while links are made, for writing while objects are deleted
}

// stat is what the system knows of a file beside its size and times.
type stat struct {
	dev, ino uint64
	changed  int64 // when content or metadata changed, Unix time in nanoseconds
	uid, gid uint32
	links    uint64
	used     int64 // bytes on disk
}

// object is the address of a file's content, with all that its links share.
type object struct {
	sum      [sha256.Size]byte
	size     int64
	perm     fs.FileMode
	uid, gid uint32
	modified int64 // Unix time in nanoseconds
}

// Open opens or makes the store in dir. Trees that use it must be on the same
// file system.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	for _, d := range []string{s.objects(), s.deps()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make the store of releases: %w", err)
		}
	}
	return s, nil
}

func (s *Store) objects() string { return filepath.Join(s.dir, "objects") }
func (s *Store) deps() string    { return filepath.Join(s.dir, "deps") }

// tmp begins the names of objects that are being written.
const tmp = "tmp-"

func (s *Store) path(o object) string {
	b := append([]byte(nil), o.sum[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(o.perm))
	b = binary.BigEndian.AppendUint32(b, o.uid)
	b = binary.BigEndian.AppendUint32(b, o.gid)
	b = binary.BigEndian.AppendUint64(b, uint64(o.modified))
	sum := sha256.Sum256(b)
	name := hex.EncodeToString(sum[:])
	return filepath.Join(s.objects(), name[:2], name[2:])
}

// errAbsent says that the store does not have an object, or not any more as
// it was: whoever may write to everything may have written to it.
var errAbsent = errors.New("the store does not have this object")

// link makes path a link to the object.
func (s *Store) link(o object, path string) error {
	from := s.path(o)
	err := os.Link(from, path)
	if errors.Is(err, fs.ErrNotExist) {
		return errAbsent
	}
	if err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Size() != o.size || info.Mode() != o.perm || info.ModTime().UnixNano() != o.modified {
		if err := errors.Join(os.Remove(path), os.Remove(from)); err != nil {
			return err
		}
		return errAbsent
	}
	return nil
}

// create makes the file of a new object for writing; see keep.
func (s *Store) create() (*os.File, error) {
	return os.CreateTemp(s.objects(), tmp+"*")
}

// keep makes the file name, whose content is o's, the object o, unless somebody
// else was quicker: theirs must not be replaced, because whoever links to it
// just now would find it gone. The caller removes name.
func (s *Store) keep(name string, o object) error {
	if err := dress(name, o); err != nil {
		return err
	}
	path := s.path(o)
	err := os.Link(name, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.Mkdir(filepath.Dir(path), 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			err = os.Link(name, path)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// dress gives a file an object's owner, permissions and time.
func dress(name string, o object) error {
	if os.Geteuid() == 0 && (o.uid != 0 || o.gid != 0) {
		err := os.Lchown(name, int(o.uid), int(o.gid))
		// In a container root may not know every owner; the file is root's then.
		if err != nil && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	if err := os.Chmod(name, o.perm); err != nil {
		return err
	}
	at := time.Unix(0, o.modified)
	return os.Chtimes(name, at, at)
}

// Sweep deletes objects that no tree links to and dependencies of releases
// that are gone. It does nothing while a release is being made: the next one
// will do. The result is the number of files that were deleted.
func (s *Store) Sweep() (int, error) {
	if !s.use.TryLock() {
		return 0, nil
	}
	defer s.use.Unlock()
	err := s.sweepDeps()
	deleted := 0
	err = errors.Join(err, filepath.WalkDir(s.objects(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if statOf(info).links > 1 && !strings.HasPrefix(d.Name(), tmp) {
			return nil
		}
		deleted++
		return os.Remove(path)
	}))
	if err != nil {
		return deleted, fmt.Errorf("delete what no release uses: %w", err)
	}
	return deleted, nil
}
