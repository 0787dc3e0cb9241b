package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// objectOf describes a file but for its content. Owners count only for root,
// who alone can give files away.
func objectOf(info fs.FileInfo, owner bool) object {
	o := object{size: info.Size(), perm: info.Mode().Perm(), modified: info.ModTime().UnixNano()}
	if owner {
		st := statOf(info)
		o.uid, o.gid = st.uid, st.gid
	}
	return o
}

// file puts one file of the source into the tree.
func (c *copier) file(e *entry, buf []byte) error {
	path := filepath.Join(c.dst, e.path)
	o := objectOf(e.info, c.owner)
	var err error
	if e.shared {
		o.perm &^= 0o222
		err = c.share(e, &o, path, buf)
		if noLink(err) {
			e.shared, err = false, nil
		}
	}
	if !e.shared {
		err = c.private(e, &o, path, buf)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.res.Files++
	c.res.Bytes += o.size
	if e.shared {
		c.res.Shared++
	}
	return nil
}

// noLink reports that the file system has no more links to this file, or that
// the store is on another one.
func noLink(err error) bool { return errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.EXDEV) }

// share makes path a link to the object of the file, which is read only if
// anything about it has changed since the last time.
func (c *copier) share(e *entry, o *object, path string, buf []byte) error {
	was, known := c.known[e.path]
	if known && was.unchanged(e.info) {
		o.sum, o.modified = was.Sum, was.Kept
		if err := c.store.link(*o, path); !errors.Is(err, errAbsent) {
			c.learn(e, o, was)
			return err
		}
	}
	out, err := c.store.create()
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	began := time.Now()
	in, err := c.open(e)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	o.sum, o.size, err = copyFile(out, in, buf)
	after, errStat := in.Stat()
	if err = errors.Join(err, errStat, in.Close(), out.Close()); err != nil { // some file systems report a full disk only now
		return err
	}
	// Another time alone is no other file, or every fresh checkout would be all
	// new; and a client's copy stays good.
	if same := identify(e.info); known && was.Sum == o.sum && was.Perm == same.Perm && was.UID == same.UID && was.GID == same.GID {
		o.modified = was.Kept
	}
	entry := seen(e.info, o.sum, o.modified, began)
	entry.Sure = entry.Sure && entry.unchanged(after)
	c.learn(e, o, entry)
	if err := c.store.link(*o, path); !errors.Is(err, errAbsent) {
		return err
	}
	if err := c.store.keep(out.Name(), *o); err != nil {
		return err
	}
	return c.store.link(*o, path)
}

// learn remembers a file for the next time.
func (c *copier) learn(e *entry, o *object, was cached) {
	e.sum = o.sum
	if c.now != nil {
		c.mu.Lock()
		c.now[e.path] = was
		c.mu.Unlock()
	}
}

// private copies the file.
func (c *copier) private(e *entry, o *object, path string, buf []byte) error {
	in, err := c.open(e)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	e.sum, o.size, err = copyFile(out, in, buf)
	if err = errors.Join(err, out.Close()); err == nil {
		err = dress(path, *o)
	}
	if err != nil || !c.opt.Private {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.res.place(e.path, origin{as: identify(info), sum: e.sum})
	return nil
}

// open opens a file of the source. A pipe that took its place must not block
// us, and no link may lead us out of the directory.
func (c *copier) open(e *entry) (*os.File, error) {
	in, err := e.root.root.OpenFile(e.from, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(e.root.real, e.from), err)
	}
	if now, err := in.Stat(); err != nil || !now.Mode().IsRegular() {
		_ = in.Close()
		return nil, fmt.Errorf("%s changed while it was copied", filepath.Join(e.root.real, e.from))
	}
	return in, nil
}

// sparse is from which size on holes in a file are worth looking for, in bytes.
const sparse = 1 << 20

// copyFile copies and hashes in one pass; out may be nil. Holes stay holes: a
// file of 10 GB without content takes no space, and no time.
func copyFile(out, in *os.File, buf []byte) (sum [sha256.Size]byte, n int64, err error) {
	h := sha256.New()
	info, err := in.Stat()
	if err != nil {
		return sum, 0, err
	}
	if info.Size() >= sparse && statOf(info).used < info.Size() {
		n, err = info.Size(), copySparse(out, in, info.Size(), h, buf)
	} else {
		n, err = io.CopyBuffer(both(out, h), onlyReader{in}, buf)
	}
	h.Sum(sum[:0])
	return sum, n, err
}

// copySparse copies what lies between the holes. The hash has the places of
// the pieces in it, and can be no other file's.
func copySparse(out, in *os.File, size int64, h hash.Hash, buf []byte) error {
	if out != nil {
		if err := out.Truncate(size); err != nil {
			return err
		}
	}
	h.Write([]byte("sparse\x00"))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(size)))
	for at := int64(0); at < size; {
		from, to, err := nextData(in, at, size)
		if err != nil {
			return err
		}
		if from >= size {
			return nil
		}
		h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(from)), uint64(to-from)))
		if _, err := in.Seek(from, io.SeekStart); err != nil {
			return err
		}
		if out != nil {
			if _, err := out.Seek(from, io.SeekStart); err != nil {
				return err
			}
		}
		if _, err := io.CopyBuffer(both(out, h), io.LimitReader(in, to-from), buf); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// both writes to the hash and, if there is one, the file.
func both(out *os.File, h hash.Hash) io.Writer {
	if out == nil {
		return h
	}
	return io.MultiWriter(onlyWriter{out}, h)
}

// onlyReader and onlyWriter hide other methods of a file, so that
// io.CopyBuffer uses the buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)
