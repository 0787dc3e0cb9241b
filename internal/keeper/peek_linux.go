package keeper

import (
	"errors"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// peeker looks into a pipe without taking anything out of it: what is there
// is duplicated into a pipe of its own and read from that.
type peeker struct {
	in, out int // ends of its pipe; -1: there is none
	peeked  bool
}

const maxPeekers = 4

func (b *buffers) peeker() *peeker {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.looks); n > 0 {
		p := b.looks[n-1]
		b.looks = b.looks[:n-1]
		return p
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return &peeker{in: -1, out: -1} // out of descriptors: it reads plainly
	}
	return &peeker{in: fds[1], out: fds[0]}
}

func (b *buffers) done(p *peeker) {
	if p.in < 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.looks) < maxPeekers {
		b.looks = append(b.looks, p)
		return
	}
	unix.Close(p.in)
	unix.Close(p.out)
}

// read reads what is in the pipe fd; peeked then says whether it is still
// there. At the end of the pipe it returns 0.
func (p *peeker) read(fd int, buf []byte) (int, error) {
	p.peeked = false
	if p.in >= 0 {
		n, err := unix.Tee(fd, p.in, len(buf), unix.SPLICE_F_NONBLOCK)
		switch {
		case err == nil && n == 0:
			return 0, nil
		case err == nil:
			p.peeked = true
			return readAll(p.out, buf[:n])
		case !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM):
			return 0, err
		}
	}
	return syscall.Read(fd, buf)
}

// take takes out of the pipe what was peeked; buf is overwritten.
func take(fd int, buf []byte) error {
	_, err := readAll(fd, buf)
	return err
}

func readAll(fd int, buf []byte) (n int, err error) {
	for n < len(buf) {
		m, err := syscall.Read(fd, buf[n:])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, io.ErrUnexpectedEOF
		default:
			n += m
		}
	}
	return n, nil
}
