package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// cached is what was found in a file of the source, so that it needs no
// reading while nothing about it has changed.
type cached struct {
	Size, Modified, Changed int64
	Dev, Ino                uint64
	Perm                    fs.FileMode
	UID, GID                uint32
	Sum                     [sha256.Size]byte
	Kept                    int64 // modification time of the object
	Sure                    bool  // a later change would have shown in the times
}

// tick is how coarse the times of file systems may be: what changed so
// shortly before it was read may change again and look the same.
const tick = 2 * time.Second

// seen describes a file that was read at that time, as git's "racily clean"
// entries are told apart.
func seen(info fs.FileInfo, sum [sha256.Size]byte, kept int64, read time.Time) cached {
	c := identify(info)
	c.Sum, c.Kept = sum, kept
	c.Sure = max(c.Modified, c.Changed) < read.Add(-tick).UnixNano()
	return c
}

func identify(info fs.FileInfo) cached {
	st := statOf(info)
	return cached{Size: info.Size(), Modified: info.ModTime().UnixNano(), Changed: st.changed, Dev: st.dev, Ino: st.ino,
		Perm: info.Mode().Perm(), UID: st.uid, GID: st.gid}
}

// unchanged reports whether the file that is described now is what c was made from.
func (c cached) unchanged(info fs.FileInfo) bool {
	now := identify(info)
	now.Sum, now.Kept, now.Sure = c.Sum, c.Kept, c.Sure
	return c.Sure && now == c
}

// readCache returns what the last Take found, by path. A file that is not
// there or not whole only costs time.
func readCache(name string) map[string]cached {
	out := map[string]cached{}
	data, err := os.ReadFile(name)
	if err != nil || len(data) < sha256.Size {
		return out
	}
	body := data[sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], data[:sha256.Size]) {
		return out
	}
	if gob.NewDecoder(bytes.NewReader(body)).Decode(&out) != nil {
		return map[string]cached{}
	}
	return out
}

// writeCache replaces the file in one step.
func writeCache(name string, files map[string]cached) error {
	var body bytes.Buffer
	if err := gob.NewEncoder(&body).Encode(files); err != nil {
		return err
	}
	sum := sha256.Sum256(body.Bytes())
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(sum[:], body.Bytes()...))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
