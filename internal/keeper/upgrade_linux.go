package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gapless"
)

// upgrade makes this process run another binary: same pid, same children,
// same descriptors. It returns only if that was not possible.
func (k *keeper) upgrade(path string) error {
	if !filepath.IsAbs(path) {
		return gapless.Errorf(gapless.Invalid, "upgrade: %q is not an absolute path", path)
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return gapless.Errorf(gapless.Invalid, "upgrade to %s: %w", path, err)
	}
	// Nothing is forked, reaped or announced from here on.
	k.fork.Lock()
	defer k.fork.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopping {
		return errStopping
	}
	k.log.Info("becomes another binary", "path", path)
	for _, p := range k.procs {
		for _, pump := range p.pumps {
			pump.halt()
		}
	}
	err := k.become(path)
	k.log.Error("upgrade", "path", path, "error", err)
	for _, p := range k.procs {
		for i, pump := range p.pumps {
			p.pumps[i] = pump.again()
		}
	}
	return err
}

func (k *keeper) become(path string) error {
	k.ledger.mu.Lock()
	defer k.ledger.mu.Unlock()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	socket, err := dupSocket(k.socket)
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	defer unix.Close(socket)
	w := will{Seq: k.ledger.seq, Copies: len(k.ledger.holders), Lock: int(k.lock.Fd()), Socket: socket, Back: self}
	pass := []int{w.Lock, w.Socket}
	for key, f := range k.ledger.facts {
		value := f.value
		if id, ok := strings.CutPrefix(key, factProcess+"/"); ok {
			if p := k.procs[id]; p != nil {
				r := k.record(p)
				for i, pump := range p.pumps {
					r.Partial[i] = pump.partial
				}
				value = marshal(r)
			}
		}
		w.Facts = append(w.Facts, willFact{key, value, f.files})
		pass = append(pass, f.files...)
	}
	state, err := writeWill(w)
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	defer unix.Close(state)
	pass = append(pass, state)
	for i, fd := range pass {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			keepFrom(pass[:i+1])
			return fmt.Errorf("upgrade: %w", err)
		}
	}
	env := append(os.Environ(), stateEnv+"="+strconv.Itoa(state))
	err = unix.Exec(path, append([]string{path}, os.Args[1:]...), env)
	keepFrom(pass)
	return gapless.Errorf(gapless.Invalid, "upgrade to %s: %w", path, err)
}

// keepFrom keeps descriptors from the processes that we start, again.
func keepFrom(fds []int) {
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
}

// writeWill puts the state into memory that goes with us.
func writeWill(w will) (fd int, err error) {
	b, err := json.Marshal(w)
	if err != nil {
		return 0, err
	}
	if fd, err = unix.MemfdCreate("keeper state", unix.MFD_CLOEXEC); err != nil {
		return 0, err
	}
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			unix.Close(fd)
			return 0, err
		}
		b = b[max(n, 0):]
	}
	return fd, nil
}

// dupSocket duplicates the descriptor of keeper's own socket.
func dupSocket(ln *net.UnixListener) (fd int, err error) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3) })
	return fd, errors.Join(cerr, err)
}
