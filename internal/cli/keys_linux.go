package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// keys reads single key presses. Signals stay as they are: Ctrl-C is one.
type keys struct {
	typed chan byte
	fd    int
	was   unix.Termios
}

// readKeys starts to read; nil where in is no terminal, or belongs to
// another job in the foreground.
func readKeys(in *os.File) *keys {
	fd := int(in.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil
	}
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err != nil || group != unix.Getpgrp() {
		return nil
	}
	k := &keys{typed: make(chan byte), fd: fd, was: *was}
	now := *was
	now.Lflag &^= unix.ICANON | unix.ECHO
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &now); err != nil {
		return nil
	}
	go func() { // ends with the process: a read of a terminal cannot be called off
		var b [1]byte
		for {
			if n, err := in.Read(b[:]); err != nil || n == 0 {
				return
			}
			k.typed <- b[0]
		}
	}()
	return k
}

func (k *keys) close() { _ = unix.IoctlSetTermios(k.fd, unix.TCSETS, &k.was) }
