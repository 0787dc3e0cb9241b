package keeper

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// pump carries one pipe of one process into its log file. While the pipe is
// quiet it holds a parked goroutine and nothing else.
type pump struct {
	f       *os.File
	to      *logFile
	scratch *buffers
	label   string
	stream  string // "out", "err"
	partial []byte // start of a line whose end has not come; at most maxText
	dropped atomic.Uint64
	halting atomic.Bool
	done    chan struct{} // closed when the pipe ended and everything is written

	mu      sync.Mutex
	syncing []chan struct{}
}

// newPump takes over the read end of a pipe; fd must be non-blocking.
func newPump(fd int, to *logFile, scratch *buffers, label, stream string) *pump {
	return &pump{f: os.NewFile(uintptr(fd), "log pipe"), to: to, scratch: scratch,
		label: label, stream: stream, done: make(chan struct{})}
}

func (p *pump) run() {
	defer close(p.done)
	conn, err := p.f.SyscallConn()
	for err == nil {
		if p.halting.Load() {
			return
		}
		// A buffer is taken only when there is something to read.
		_, err = p.read(conn, false)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = p.drain(conn)
		}
	}
	p.f.Close()
	p.feed(nil, true)
}

// haltLimit is how long a pump may take to halt; a disk may hang.
const haltLimit = time.Second

// halt ends the pump between two lines, the pipe stays as it is.
func (p *pump) halt() {
	p.halting.Store(true)
	p.f.SetReadDeadline(time.Unix(1, 0))
	t := time.NewTimer(haltLimit)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
	}
}

// again starts a pump that goes on where this one was halted.
func (p *pump) again() *pump {
	q := &pump{f: p.f, to: p.to, scratch: p.scratch, label: p.label, stream: p.stream, done: make(chan struct{})}
	q.partial = p.partial
	q.dropped.Store(p.dropped.Load())
	p.f.SetReadDeadline(time.Time{})
	go q.run()
	return q
}

// read reads once and writes what came. At the end of the pipe it fails. With
// poll it returns 0 instead of waiting.
//
// What was read stays in the pipe until it is in the log: keeper may be killed
// in between, and then the next one reads it again.
func (p *pump) read(conn syscall.RawConn, poll bool) (n int, err error) {
	var buf *[]byte
	var rerr error
	var look *peeker
	err = conn.Read(func(fd uintptr) bool {
		buf = p.scratch.get()
		look = p.scratch.peeker()
		for {
			n, rerr = look.read(int(fd), (*buf)[:flushSize])
			if rerr != syscall.EINTR {
				break
			}
		}
		if rerr == syscall.EAGAIN {
			p.scratch.done(look)
			p.scratch.put(buf)
			buf, look, n, rerr = nil, nil, 0, nil
			return poll
		}
		return true
	})
	if look != nil {
		defer p.scratch.done(look)
	}
	if buf == nil {
		return 0, err
	}
	defer p.scratch.put(buf)
	if err = errors.Join(err, rerr); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, errPipeEnd
	}
	if look.peeked && n == flushSize {
		// The rest of the last line is near: it stays in the pipe.
		if i := bytes.LastIndexByte((*buf)[:n], '\n'); i >= 0 {
			n = i + 1
		}
	}
	p.feed((*buf)[:n], false)
	if look.peeked {
		err = conn.Control(func(fd uintptr) { rerr = take(int(fd), (*buf)[:n]) })
	}
	return n, errors.Join(err, rerr)
}

var errPipeEnd = errors.New("end of pipe")

// feed writes the whole lines of what was held back and b.
func (p *pump) feed(b []byte, last bool) {
	if len(p.partial) > 0 {
		b = append(p.partial, b...)
	}
	rest, dropped := p.to.write(p.scratch, p.label, p.stream, b, last)
	p.dropped.Add(uint64(dropped))
	if p.partial = nil; len(rest) > 0 {
		p.partial = bytes.Clone(rest)
	}
}

// sync waits until everything that was in the pipe at the time of the call is
// in the log, the pipe has ended, or limit fires.
func (p *pump) sync(limit <-chan struct{}) {
	ch := make(chan struct{})
	p.mu.Lock()
	p.syncing = append(p.syncing, ch)
	p.mu.Unlock()
	p.f.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	select {
	case <-ch:
	case <-p.done:
	case <-limit:
	}
}

// drain serves sync: it reads until the pipe is empty. A process that writes
// without end is stopped at what a pipe can hold.
func (p *pump) drain(conn syscall.RawConn) error {
	p.f.SetReadDeadline(time.Time{})
	p.mu.Lock()
	waiting := p.syncing
	p.syncing = nil
	p.mu.Unlock()
	for total := 0; total < 1<<20; {
		n, err := p.read(conn, true)
		if errors.Is(err, os.ErrDeadlineExceeded) { // one more sync
			p.f.SetReadDeadline(time.Time{})
			continue
		}
		if err != nil {
			return err // the end; done answers those who wait
		}
		if n == 0 {
			break
		}
		total += n
	}
	p.feed(nil, true)
	p.mu.Lock()
	waiting = append(waiting, p.syncing...)
	p.syncing = nil
	p.mu.Unlock()
	for _, ch := range waiting {
		close(ch)
	}
	return nil
}

// close ends the pump although someone still holds the pipe.
func (p *pump) close() { p.f.Close() }
