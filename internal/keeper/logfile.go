package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"gapless/internal/rotate"
)

const (
	flushSize = 64 << 10

	// How often a log file that cannot be written is tried again.
	retryFirst = 200 * time.Millisecond
	retryMost  = 2 * time.Second
)

// logFiles are the files being written, one writer per path however many
// processes log to it.
type logFiles struct {
	log   *slog.Logger
	mu    sync.Mutex
	files map[string]*logFile
}

// logFile is the one writer of a log file. It never fails: what cannot be
// written is dropped and counted, so that no process ever waits for a disk
// that is full.
type logFile struct {
	path string
	log  *slog.Logger
	refs int // guarded by logFiles.mu

	mu      sync.Mutex
	policy  Log
	f       *os.File // nil: not open
	size    int64
	born    time.Time // of the first line in it; zero: empty
	checked time.Time // when the path was last seen to be this file

	failure error  // why lines are being dropped; nil: all is well
	dropped uint64 // since failure
	retry   *time.Timer
	wait    time.Duration // until the next attempt
	retryAt time.Time
}

// open returns the writer for l; the caller releases it.
func (s *logFiles) open(l Log) *logFile {
	s.mu.Lock()
	f := s.files[l.Path]
	if f == nil {
		f = &logFile{path: l.Path, log: s.log}
		s.files[l.Path] = f
	}
	f.refs++
	s.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.policy = l
	return f
}

func (s *logFiles) release(f *logFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.refs--; f.refs == 0 {
		delete(s.files, f.path)
		f.close()
	}
}

// buffers are for reading pipes and formatting lines; pooled so that what is
// idle holds none.
type buffers struct {
	pool  sync.Pool
	mu    sync.Mutex
	looks []*peeker // not in use
}

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, 0, flushSize)
	return &p
}

func (b *buffers) put(p *[]byte) {
	if cap(*p) <= 4*flushSize {
		*p = (*p)[:0]
		b.pool.Put(p)
	}
}

// write appends the whole lines in data, stamped with the time, label and
// stream; with last also an unfinished one. It returns what is left of data
// and how many lines were dropped.
func (l *logFile) write(scratch *buffers, label, stream string, data []byte, last bool) (rest []byte, dropped int) {
	line, rest, ok := cutLine(data, last)
	if !ok {
		return data, 0
	}
	p := scratch.get()
	defer scratch.put(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	prefix := fmt.Appendf(nil, "%s %s %s ", stamp(now), label, stream)
	buf, lines := *p, 0
	for ; ok; line, rest, ok = cutLine(rest, last) {
		start := len(buf)
		buf = append(buf, prefix...)
		buf = append(appendEscaped(buf, line), '\n')
		if start > 0 && (len(buf) > flushSize || l.over(int64(len(buf)))) {
			dropped += l.append(buf[:start], lines, now)
			buf, lines = append(buf[:0], buf[start:]...), 0
		}
		lines++
	}
	dropped += l.append(buf, lines, now)
	*p = buf
	return rest, dropped
}

// over reports whether n more bytes would make the file too big.
func (l *logFile) over(n int64) bool {
	return l.policy.MaxSize > 0 && l.size+n > l.policy.MaxSize
}

// append writes whole lines and returns how many were dropped.
func (l *logFile) append(b []byte, lines int, now time.Time) (dropped int) {
	if l.failure != nil && now.Before(l.retryAt) {
		l.dropped += uint64(lines)
		return lines
	}
	if err := l.ready(int64(len(b)), now); err != nil {
		l.fail(err, lines)
		return lines
	}
	if len(b) == 0 {
		return 0
	}
	n, err := l.put(b)
	if n > 0 && l.born.IsZero() {
		l.born = now
	}
	if err != nil {
		lost := lines - bytes.Count(b[:n], []byte{'\n'})
		l.fail(err, lost)
		return lost
	}
	return 0
}

// ready opens and rotates the file as needed, and notes what was dropped as
// soon as the file can be written again.
func (l *logFile) ready(n int64, now time.Time) error {
	if l.f != nil && now.Sub(l.checked) > time.Second {
		// Someone may have moved or removed the file.
		l.checked = now
		if !l.current() {
			l.f.Close()
			l.f = nil
		}
	}
	if l.f == nil {
		if err := l.reopen(now); err != nil {
			return err
		}
	}
	old := l.policy.MaxAge > 0 && !l.born.IsZero() && now.Sub(l.born) > l.policy.MaxAge
	if l.size > 0 && (l.over(n) || old) {
		if err := l.rotate(now); err != nil {
			return err
		}
	}
	if l.failure == nil {
		return nil
	}
	if l.dropped > 0 {
		notice := fmt.Appendf(nil, "%s gapless: dropped %d lines (%s)\n", stamp(now), l.dropped, cause(l.failure))
		if _, err := l.put(notice); err != nil {
			return err
		}
	}
	l.log.Info("log file is written again", "path", l.path, "dropped", l.dropped)
	l.failure, l.dropped, l.wait = nil, 0, 0
	return nil
}

// put writes b; after an error only whole lines of it stay in the file. It
// returns how many bytes stayed.
func (l *logFile) put(b []byte) (int, error) {
	n, err := l.f.Write(b)
	if err == nil {
		l.size += int64(n)
		return n, nil
	}
	keep := bytes.LastIndexByte(b[:n], '\n') + 1
	if n > keep {
		if fi, serr := l.f.Stat(); serr == nil {
			err = errors.Join(err, l.f.Truncate(fi.Size()-int64(n-keep)))
		}
	}
	l.size += int64(keep)
	return keep, err
}

func (l *logFile) reopen(now time.Time) error {
	f, fi, err := rotate.Open(l.path)
	if err != nil {
		return err
	}
	l.f, l.size, l.born, l.checked = f, fi.Size(), time.Time{}, now
	if l.size == 0 {
		return nil
	}
	l.born = fi.ModTime()
	head := make([]byte, len(stampLayout))
	if _, err := f.ReadAt(head, 0); err == nil {
		if t, err := time.Parse(stampLayout, string(head)); err == nil {
			l.born = t
		}
	}
	// A writer that was killed may have left half a line.
	if _, err := f.ReadAt(head[:1], l.size-1); err == nil && head[0] != '\n' {
		_, err := l.put([]byte{'\n'})
		return err
	}
	return nil
}

// current reports whether the open file is still the one at its path.
func (l *logFile) current() bool {
	open, err := l.f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.path)
	return err == nil && os.SameFile(open, there)
}

func (l *logFile) rotate(now time.Time) error {
	l.f.Close()
	l.f = nil
	if err := rotate.Rotate(l.path, l.policy.Keep, now); err != nil {
		return err
	}
	return l.reopen(now)
}

// fail starts or goes on with dropping lines, and plans the next attempt.
func (l *logFile) fail(err error, lost int) {
	if l.failure == nil {
		l.log.Warn("log file cannot be written, lines are dropped", "path", l.path, "error", err)
	}
	if l.f != nil {
		l.f.Close() // the next attempt opens it anew
		l.f = nil
	}
	l.failure = err
	l.dropped += uint64(lost)
	l.wait = min(max(2*l.wait, retryFirst), retryMost)
	l.retryAt = time.Now().Add(l.wait)
	if l.retry == nil {
		l.retry = time.AfterFunc(l.wait, l.again)
	} else {
		l.retry.Reset(l.wait)
	}
}

// again notes what was dropped although no new line comes.
func (l *logFile) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil {
		l.append(nil, 0, time.Now())
	}
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retry != nil {
		l.retry.Stop()
	}
	if l.failure != nil {
		l.retryAt = time.Time{}
		l.append(nil, 0, time.Now())
		l.failure = nil
		if l.retry != nil {
			l.retry.Stop()
		}
	}
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

// cause is the innermost reason, for people: "no space left on device".
func cause(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
