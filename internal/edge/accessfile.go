package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"gapless"
	"gapless/internal/rotate"
)

// accessFile is the file of an access log. One goroutine writes it; another
// edge generation may write the same one at the same time. What cannot be
// written is lost and counted: nobody waits for a disk that is full.
type accessFile struct {
	path   string
	report func(error) // told once when lines begin to be lost, nil when that ends

	f       *os.File
	size    int64
	born    time.Time // of the first line; zero: empty
	checked time.Time

	failed  bool
	retryAt time.Time
}

const (
	accessRetry = time.Second // a file that cannot be written is tried this often
	accessCheck = time.Second // that the file at the path is still the open one is checked this often
)

// write appends whole lines, and returns how many are in the file and how
// many are lost.
func (a *accessFile) write(b []byte, p *gapless.AccessLog) (written, lost uint64) {
	now := time.Now()
	all := uint64(bytes.Count(b, []byte{'\n'}))
	if a.failed && now.Before(a.retryAt) {
		return 0, all
	}
	err := a.ready(int64(len(b)), p, now)
	if err == nil {
		var n int
		n, err = a.put(b)
		if written = uint64(bytes.Count(b[:n], []byte{'\n'})); written > 0 && a.born.IsZero() {
			a.born = now
		}
	}
	if err == nil {
		if a.failed {
			a.failed = false
			a.report(nil)
		}
		return all, 0
	}
	a.close()
	if !a.failed {
		a.report(err)
	}
	a.failed, a.retryAt = true, now.Add(accessRetry)
	return written, all - written
}

// put writes b; after an error only whole lines of it stay. It returns how
// many bytes stayed.
func (a *accessFile) put(b []byte) (int, error) {
	n, err := a.f.Write(b)
	a.size += int64(n)
	if err == nil {
		return n, nil
	}
	keep := bytes.LastIndexByte(b[:n], '\n') + 1
	if n > keep {
		if fi, serr := a.f.Stat(); serr == nil {
			err = errors.Join(err, a.f.Truncate(fi.Size()-int64(n-keep)))
		}
	}
	return keep, err
}

// ready opens and rotates the file as needed.
func (a *accessFile) ready(n int64, p *gapless.AccessLog, now time.Time) error {
	if a.f != nil && now.Sub(a.checked) > accessCheck {
		a.checked = now
		switch fi := a.current(); {
		case fi == nil: // somebody moved or removed it
			a.close()
		default:
			a.size = fi.Size() // another generation writes it, too
		}
	}
	if a.f == nil {
		if err := a.open(now); err != nil {
			return err
		}
	}
	old := p.MaxAge > 0 && !a.born.IsZero() && now.Sub(a.born) > p.MaxAge.Std()
	if a.size > 0 && (old || p.MaxSize > 0 && a.size+n > p.MaxSize) {
		return a.rotate(p.Keep, now)
	}
	return nil
}

func (a *accessFile) open(now time.Time) error {
	f, fi, err := rotate.Open(a.path)
	if err != nil {
		return err
	}
	a.f, a.size, a.checked, a.born = f, fi.Size(), now, time.Time{}
	if !fi.Mode().IsRegular() || a.size == 0 { // /dev/stdout is fine, too
		return nil
	}
	head := make([]byte, 1024)
	k, _ := f.ReadAt(head, 0)
	if a.born = bornAt(head[:k]); a.born.IsZero() {
		a.born = fi.ModTime()
	}
	// A writer that was killed may have left half a line.
	if _, err := f.ReadAt(head[:1], a.size-1); err == nil && head[0] != '\n' {
		_, err := a.put([]byte{'\n'})
		return err
	}
	return nil
}

// bornAt reads the time of the first line, zero if there is none.
func bornAt(head []byte) time.Time {
	var line struct {
		Time time.Time `json:"time"`
	}
	if dec := json.NewDecoder(bytes.NewReader(head)); dec.Decode(&line) == nil {
		return line.Time
	}
	_, rest, _ := bytes.Cut(head, []byte("["))
	at, _, _ := bytes.Cut(rest, []byte("]"))
	t, err := time.Parse("02/Jan/2006:15:04:05 -0700", string(at))
	if err != nil {
		return time.Time{}
	}
	return t
}

// current returns what is at the path if it is the open file, else nil.
func (a *accessFile) current() os.FileInfo {
	open, err := a.f.Stat()
	if err != nil {
		return nil
	}
	there, err := os.Stat(a.path)
	if err != nil || !os.SameFile(open, there) {
		return nil
	}
	return open
}

// rotate moves the file away and begins a new one, unless another generation
// just did.
func (a *accessFile) rotate(keep int, now time.Time) error {
	if fi, err := a.f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return err
	}
	if err := syscall.Flock(int(a.f.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock the access log: %w", err)
	}
	var err error
	if a.current() != nil {
		err = rotate.Rotate(a.path, keep, now)
	}
	a.close() // unlocks it, too
	if err != nil {
		return err
	}
	return a.open(now)
}

func (a *accessFile) close() {
	if a.f != nil {
		a.f.Close()
		a.f = nil
	}
}
