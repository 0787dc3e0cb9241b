package snapshot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// file copies one regular file and notes the hash of its content. Where the
// file system shares blocks, the copy costs no space; else the data is copied
// and hashed in one pass.
func (c *copier) file(j job, buf []byte) error {
	// A pipe that took the file's place must not block us, a link must not lead us away.
	in, err := os.OpenFile(j.from, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	if now, err := in.Stat(); err != nil || !now.Mode().IsRegular() {
		return fmt.Errorf("%s changed while it was copied", j.from)
	}
	c.mu.Lock()
	path := filepath.Join(c.dst, c.entries[j.at].path)
	c.mu.Unlock()

	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	h := sha256.New()
	var n int64
	if clone(out, in) {
		n, err = io.CopyBuffer(h, onlyReader{out}, buf)
	} else {
		n, err = io.CopyBuffer(io.MultiWriter(out, h), onlyReader{in}, buf)
	}
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil { // some file systems report a full disk only now
		return err
	}
	if err := c.settle(path, j.info, j.info.Mode().Perm()); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h.Sum(c.entries[j.at].sum[:0])
	c.res.Files++
	c.res.Bytes += n
	return nil
}

// onlyReader hides other methods of a file, so that io.CopyBuffer uses the buffer.
type onlyReader struct{ io.Reader }

// settle gives the copy the owner (for root), permissions and time of the original.
func (c *copier) settle(path string, info fs.FileInfo, perm fs.FileMode) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && c.owner && (st.Uid != 0 || st.Gid != 0) {
		err := os.Lchown(path, int(st.Uid), int(st.Gid))
		// In a container root may not know every owner; the copy is root's then.
		if err != nil && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	if err := os.Chmod(path, perm); err != nil {
		return err
	}
	return os.Chtimes(path, info.ModTime(), info.ModTime())
}
