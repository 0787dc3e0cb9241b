package keeper

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// listenAt makes a unix socket that listens at a path, for a process that is
// about to be started: keeper closes its own copy, so the socket ends with the
// process. One that a dead process left there is replaced.
func listenAt(path string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	at := &unix.SockaddrUnix{Name: path}
	if err = unix.Bind(fd, at); errors.Is(err, unix.EADDRINUSE) && dead(at) {
		unlink(path)
		err = unix.Bind(fd, at)
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// dead reports whether nobody listens at a socket that is there.
func dead(at *unix.SockaddrUnix) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return errors.Is(unix.Connect(fd, at), unix.ECONNREFUSED)
}

// unlink removes the socket of a process that was not started.
func unlink(path string) {
	if path != "" {
		os.Remove(path)
	}
}
