package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"

	"gapless/internal/rotate"
)

// ReadOptions choose what ReadLogs returns.
type ReadOptions struct {
	Lines  int             // the last n lines that pass Filter; 0: none, negative: all
	Follow bool            // go on with new lines until the context ends
	Filter func(Line) bool // nil: every line
	Since  time.Time       // looks back no further than this, with Lines over 0; zero: to the beginning

	Parse func([]byte) (Line, bool) // reads a line with its end, false: it is skipped; nil: as keeper writes them
}

const (
	readChunk    = 64 << 10
	followPeriod = 100 * time.Millisecond
)

// ReadLogs reads a log file and its rotated files: the last lines, oldest
// first, and then, with Follow, each new line once, across rotations. A log
// that does not exist has no lines. The end of ctx is not an error.
func ReadLogs(ctx context.Context, path string, opt ReadOptions) iter.Seq2[Line, error] {
	if opt.Parse == nil {
		opt.Parse = parseLine
	}
	return func(yield func(Line, error) bool) {
		r := &logReader{ctx: ctx, path: path, opt: opt, yield: yield}
		defer r.close()
		if err := r.run(); err != nil && err != errStop && ctx.Err() == nil {
			yield(Line{}, err)
		}
	}
}

// errStop says that the caller wants no more.
var errStop = errors.New("stop")

type logReader struct {
	ctx   context.Context
	path  string
	opt   ReadOptions
	yield func(Line, error) bool
	f     *os.File // the file being followed; nil: there was none yet
	off   int64    // start of the first line of f not yet read
	buf   []byte   // for forward; as long as the longest line so far
}

func (r *logReader) close() {
	if r.f != nil {
		r.f.Close()
	}
}

func (r *logReader) run() error {
	rotated, err := r.open()
	if err != nil {
		return err
	}
	if err := r.past(rotated); err != nil || !r.opt.Follow {
		return err
	}
	tick := time.NewTicker(followPeriod)
	defer tick.Stop()
	for {
		if err := r.catchUp(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			return nil
		}
	}
}

// open pins the current file, and the end of its last whole line as the point
// where the past ends. It returns the rotated files before it.
func (r *logReader) open() (rotated []string, err error) {
	if r.f, err = openLog(r.path); err != nil {
		return nil, err
	}
	if rotated, err = rotate.Files(r.path); err != nil {
		return nil, err
	}
	if n := len(rotated); r.f == nil && n > 0 {
		// In the middle of a rotation, or the file was removed.
		if r.f, err = openLog(rotated[n-1]); err != nil {
			return nil, err
		}
	}
	if r.f == nil {
		return nil, nil
	}
	if i := indexFile(rotated, r.f); i >= 0 { // rotated since we opened it
		rotated = rotated[:i]
	}
	fi, err := r.f.Stat()
	if err != nil {
		return nil, err
	}
	r.off, err = wholeLines(r.f, fi.Size())
	return rotated, err
}

// past yields the last lines before r.off.
func (r *logReader) past(rotated []string) error {
	if r.opt.Lines < 0 {
		for _, name := range rotated {
			f, err := openLog(name)
			if err != nil {
				return err
			}
			if f == nil {
				continue
			}
			_, err = r.forward(f, 0, -1)
			f.Close()
			if err != nil {
				return err
			}
		}
		if r.f == nil {
			return nil
		}
		_, err := r.forward(r.f, 0, r.off)
		return err
	}
	lines, err := r.lastLines(rotated)
	if err != nil {
		return err
	}
	for _, l := range slices.Backward(lines) {
		if err := r.give(l); err != nil {
			return err
		}
	}
	return nil
}

// lastLines returns the last lines that pass the filter, newest first.
func (r *logReader) lastLines(rotated []string) (lines []Line, err error) {
	collect := func(text []byte) bool {
		l, ok := r.opt.Parse(text)
		if ok && l.Time.Before(r.opt.Since) {
			return false
		}
		if ok && r.wants(l) {
			lines = append(lines, l)
		}
		return len(lines) < r.opt.Lines && r.ctx.Err() == nil
	}
	if r.opt.Lines == 0 {
		return nil, nil
	}
	if r.f != nil {
		if more, err := backward(r.f, r.off, collect); err != nil || !more {
			return lines, err
		}
	}
	for _, name := range slices.Backward(rotated) {
		f, err := openLog(name)
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		more, err := backwardAll(f, collect)
		f.Close()
		if err != nil || !more {
			return lines, err
		}
	}
	return lines, nil
}

// catchUp yields what was written since, in this file and those after it.
func (r *logReader) catchUp() error {
	for {
		if r.f != nil {
			fi, err := r.f.Stat()
			if err != nil {
				return err
			}
			if fi.Size() < r.off { // somebody emptied it
				r.off = 0
			}
			if fi.Size() > r.off {
				if r.off, err = r.forward(r.f, r.off, -1); err != nil {
					return err
				}
			}
			if there, err := os.Stat(r.path); err == nil && os.SameFile(fi, there) || errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			// Rotated away: what was written before that is complete now.
			if r.off, err = r.forward(r.f, r.off, -1); err != nil {
				return err
			}
		}
		next, err := r.next()
		if err != nil || next == nil {
			return err
		}
		r.close()
		r.f, r.off = next, 0
	}
}

// next opens the file that follows r.f, or returns nil if there is none yet.
func (r *logReader) next() (*os.File, error) {
	for {
		name, err := r.nextName()
		if err != nil {
			return nil, err
		}
		f, err := openLog(name)
		if err != nil {
			return nil, err
		}
		// Nothing may have been rotated between looking and opening.
		again, err := r.nextName()
		if err != nil {
			if f != nil {
				f.Close()
			}
			return nil, err
		}
		if again == name {
			if f == nil || r.f == nil || !sameFile(f, r.f) {
				return f, nil
			}
			f.Close()
			return nil, nil
		}
		if f != nil {
			f.Close()
		}
		if r.ctx.Err() != nil {
			return nil, r.ctx.Err()
		}
	}
}

func (r *logReader) nextName() (string, error) {
	rotated, err := rotate.Files(r.path)
	if err != nil {
		return "", err
	}
	i := -1 // deleted already: all that remain are newer
	if r.f != nil {
		i = indexFile(rotated, r.f)
	}
	if i+1 < len(rotated) {
		return rotated[i+1], nil
	}
	return r.path, nil
}

// forward yields the whole lines of f from off to end (negative: as far as
// there are any) and returns where the first line not read starts.
func (r *logReader) forward(f *os.File, off, end int64) (int64, error) {
	if r.buf == nil {
		r.buf = make([]byte, readChunk)
	}
	for {
		if err := r.ctx.Err(); err != nil {
			return off, err
		}
		b := r.buf
		if end >= 0 {
			b = b[:min(int64(len(b)), end-off)]
		}
		n, err := f.ReadAt(b, off)
		if err != nil && err != io.EOF {
			return off, fmt.Errorf("read log: %w", err)
		}
		b = b[:n]
		last := bytes.LastIndexByte(b, '\n') + 1
		if last == 0 {
			if n < len(r.buf) {
				return off, nil
			}
			r.buf = make([]byte, 2*len(r.buf))
			continue
		}
		for line := range bytes.Lines(b[:last]) {
			if l, ok := r.opt.Parse(line); ok && r.wants(l) {
				if err := r.give(l); err != nil {
					return off, err
				}
			}
		}
		off += int64(last)
	}
}

func (r *logReader) wants(l Line) bool { return r.opt.Filter == nil || r.opt.Filter(l) }

func (r *logReader) give(l Line) error {
	if r.ctx.Err() != nil || !r.yield(l, nil) {
		return errStop
	}
	return nil
}

// backwardAll is backward over all whole lines of f.
func backwardAll(f *os.File, visit func([]byte) bool) (more bool, err error) {
	fi, err := f.Stat()
	if err != nil {
		return false, err
	}
	end, err := wholeLines(f, fi.Size())
	if err != nil {
		return false, err
	}
	return backward(f, end, visit)
}

// backward visits the lines of f before end, the last one first, until visit
// returns false. It reads no more of the file than that needs.
func backward(f *os.File, end int64, visit func([]byte) bool) (more bool, err error) {
	var tail []byte // from the start of an unfinished line on
	for pos := end; pos > 0; {
		n := min(readChunk, pos)
		pos -= n
		b := make([]byte, n, int(n)+len(tail))
		if _, err := f.ReadAt(b, pos); err != nil {
			return false, fmt.Errorf("read log: %w", err)
		}
		b = append(b, tail...)
		for {
			i := bytes.LastIndexByte(bytes.TrimSuffix(b, []byte{'\n'}), '\n')
			if i < 0 {
				break
			}
			if !visit(b[i+1:]) {
				return false, nil
			}
			b = b[:i+1]
		}
		tail = b
	}
	if len(tail) > 0 && !visit(tail) {
		return false, nil
	}
	return true, nil
}

// wholeLines returns the end of the last whole line before size.
func wholeLines(f *os.File, size int64) (int64, error) {
	buf := make([]byte, 4<<10)
	for size > 0 {
		n := min(int64(len(buf)), size)
		if _, err := f.ReadAt(buf[:n], size-n); err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return size - n + int64(i) + 1, nil
		}
		size -= n
	}
	return 0, nil
}

// openLog opens a log file; nil if it does not exist.
func openLog(name string) (*os.File, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	return f, nil
}

func indexFile(names []string, f *os.File) int {
	fi, err := f.Stat()
	if err != nil {
		return -1
	}
	return slices.IndexFunc(names, func(name string) bool {
		other, err := os.Stat(name)
		return err == nil && os.SameFile(fi, other)
	})
}

func sameFile(a, b *os.File) bool {
	x, err1 := a.Stat()
	y, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
