package edge

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
)

const (
	bufferSize = 20 << 10
	maxHead    = 16 << 10 // of a request or response; a rewritten one still fits into a buffer
)

type buffer [bufferSize]byte

// buffers is shared by everything that reads from sockets. A connection holds
// a buffer only while there is something in it: idle ones cost their
// goroutine and nothing else.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

func putBuffer(b *buffer) {
	if b != nil {
		buffers.Put(b)
	}
}

// reader waits until a socket is readable and takes a buffer only then.
type reader struct {
	conn io.Reader
	raw  syscall.RawConn // nil: not a plain socket
	try  func(fd uintptr) bool

	once bool // do not wait

	buf *buffer
	n   int
	err error
}

func (r *reader) init(c net.Conn) {
	r.conn = c
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	r.raw = raw
	r.try = r.read
}

// read is called with a readable descriptor, or to see whether it is one.
func (r *reader) read(fd uintptr) bool {
	b := getBuffer()
	for {
		n, err := syscall.Read(int(fd), b[:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			putBuffer(b)
			r.buf, r.n, r.err = nil, 0, err
			return r.once
		case err != nil:
			putBuffer(b)
			r.buf, r.n, r.err = nil, 0, err
		case n == 0:
			putBuffer(b)
			r.buf, r.n, r.err = nil, 0, io.EOF
		default:
			r.buf, r.n, r.err = b, n, nil
		}
		return true
	}
}

// next returns a buffer with at least one byte in it, which the caller must
// put back, or an error.
func (r *reader) next() (*buffer, int, error) {
	if r.raw == nil {
		b := getBuffer()
		n, err := r.conn.Read(b[:])
		if n == 0 {
			putBuffer(b)
			if err == nil {
				err = io.ErrNoProgress
			}
			return nil, 0, err
		}
		return b, n, nil
	}
	if !r.once {
		// Under load the bytes arrive while others run. This saves the first
		// look, which would find nothing, and a wake-up by the poller.
		runtime.Gosched()
	}
	if err := r.raw.Read(r.try); err != nil {
		return nil, 0, err
	}
	b, n, err := r.buf, r.n, r.err
	r.buf, r.err = nil, nil
	return b, n, err
}

// now is next without waiting.
func (r *reader) now() (*buffer, int, error) {
	if r.raw == nil {
		return nil, 0, os.ErrDeadlineExceeded
	}
	r.once = true
	defer func() { r.once = false }()
	return r.next()
}

// peer says what a look at a socket shows without reading from it.
type peer int

const (
	quiet  peer = iota // alive, nothing to read
	speaks             // there are bytes to read
	gone               // closed its side, or reset
)

// look peeks at a socket without waiting and without taking a byte.
func look(raw syscall.RawConn) peer {
	if raw == nil {
		return quiet
	}
	l := lookers.Get().(*looker)
	p := gone
	if raw.Control(l.at) == nil {
		p = l.seen
	}
	lookers.Put(l)
	return p
}

// looker is what a look needs. It is kept, because each request on a kept
// connection begins with a look, and what is given to a RawConn is allocated.
type looker struct {
	at   func(fd uintptr)
	seen peer
}

var lookers = sync.Pool{New: func() any {
	l := new(looker)
	l.at = l.peek
	return l
}}

func (l *looker) peek(fd uintptr) {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	switch {
	case err == syscall.EAGAIN, err == syscall.EINTR:
		l.seen = quiet
	case err != nil, n == 0:
		l.seen = gone
	default:
		l.seen = speaks
	}
}
