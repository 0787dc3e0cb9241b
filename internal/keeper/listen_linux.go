package keeper

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gapless"
)

// backlog is how many connections may wait to be accepted (the kernel's
// net.core.somaxconn caps it).
const backlog = 4096

// unlistenLimit bounds how long holders may take to let go of a socket.
const unlistenLimit = time.Second

// listeners are the sockets that keeper holds open. Plain descriptors: keeper
// never accepts, so they must not wake its poller.
type listeners struct {
	mu     sync.Mutex
	fds    map[string]int
	ledger *ledger
}

func (k *keeper) listen(addr string) error {
	err := k.held.open(addr)
	if err == nil {
		k.log.Info("listening", "addr", addr)
	}
	return err
}

func (l *listeners) open(addr string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.fds[addr]; ok {
		return nil
	}
	ln, err := Listen(addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	fd, err := dupListener(ln)
	if err != nil {
		return fmt.Errorf("hold the socket of %s: %w", addr, err)
	}
	if err := l.ledger.set(factListener+"/"+addr, struct{}{}, fd); err != nil {
		unix.Close(fd)
		return fmt.Errorf("hold the socket of %s: %w", addr, err)
	}
	l.fds[addr] = fd
	return nil
}

// Listen opens a socket of this machine as keeper does. Errors say what to do.
func Listen(addr string) (*net.TCPListener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, gapless.Errorf(gapless.Invalid, "listen address %q is not understood: %w", addr, err).
			WithHint("write :8080 or 127.0.0.1:8080")
	}
	// Without a host: IPv6 and IPv4. A literal address means just its family.
	network := "tcp"
	if ip, err := netip.ParseAddr(host); err == nil {
		network = "tcp6"
		if ip.Is4() {
			network = "tcp4"
		}
	}
	// Go sets SO_REUSEADDR and close-on-exec. Multipath TCP stays off: it
	// would make every accepted socket a slower one.
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), network, addr)
	if err != nil {
		return nil, explainListen(addr, port, err)
	}
	return ln.(*net.TCPListener), nil
}

func dupListener(ln *net.TCPListener) (fd int, err error) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(s uintptr) {
		if err = unix.Listen(int(s), backlog); err == nil {
			fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3)
		}
	})
	return fd, errors.Join(cerr, err)
}

func (l *listeners) close(addr string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	fd, ok := l.fds[addr]
	if !ok {
		return gapless.Errorf(gapless.NotFound, "keeper does not listen on %s", addr)
	}
	delete(l.fds, addr)
	// The port is free only when nobody holds a duplicate.
	l.ledger.await(l.ledger.drop(factListener+"/"+addr), unlistenLimit)
	return unix.Close(fd)
}

func (l *listeners) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for addr, fd := range l.fds {
		unix.Close(fd)
		delete(l.fds, addr)
		l.ledger.drop(factListener + "/" + addr)
	}
}

// dup returns a duplicate that stays valid if addr is closed meanwhile.
func (l *listeners) dup(addr string) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fd, ok := l.fds[addr]
	if !ok {
		return 0, gapless.Errorf(gapless.NotFound, "keeper does not listen on %s", addr)
	}
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
}

func (l *listeners) list() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fds) == 0 {
		return []string{}
	}
	return slices.Sorted(maps.Keys(l.fds))
}

// explainListen says what a person can do about a failed listen.
func explainListen(addr, port string, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		e := gapless.Errorf(gapless.Conflict, "cannot listen on %s: the port is in use", addr)
		if who := portHolder(port); who != "" {
			return e.WithHint("%s holds port %s; stop it, or listen on another port", who, port)
		}
		return e.WithHint("see who holds it: ss -ltnp 'sport = :%s'; or listen on another port", port)
	case errors.Is(err, unix.EACCES):
		self := os.Getenv(BinaryEnv)
		if exe, err := os.Executable(); self == "" && err == nil {
			self = exe
		}
		return gapless.Errorf(gapless.NotAllowed, "cannot listen on %s: ports below %s are for root", addr, firstFreePort()).
			WithHint("once, as root: setcap 'cap_net_bind_service=+ep' %s (and start gapless again), or: sysctl net.ipv4.ip_unprivileged_port_start=%s", self, port)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return gapless.Errorf(gapless.Invalid, "cannot listen on %s: this machine does not have that address", addr).
			WithHint("listen on :%s to accept on every address", port)
	}
	return gapless.Errorf(gapless.Unavailable, "cannot listen on %s: %w", addr, err)
}

func firstFreePort() string {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return "1024"
	}
	return strings.TrimSpace(string(b))
}

// portHolder names a process that listens on the port, as far as /proc may be
// read: "node (pid 123)".
func portHolder(port string) string {
	n, err := strconv.Atoi(port)
	if err != nil {
		return ""
	}
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listeningInodes(table, n, inodes)
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, link := range links {
		to, err := os.Readlink(link)
		inode, ok := strings.CutPrefix(to, "socket:[")
		if err != nil || !ok || !inodes[strings.TrimSuffix(inode, "]")] {
			continue
		}
		pid := strings.Split(link, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			continue
		}
		return fmt.Sprintf("%s (pid %s)", bytes.TrimSpace(name), pid)
	}
	return ""
}

// listeningInodes adds the socket inodes that listen on the port.
func listeningInodes(table string, port int, into map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer f.Close()
	suffix := fmt.Sprintf(":%04X", port)
	for s := bufio.NewScanner(f); s.Scan(); {
		// sl local_address rem_address st … uid timeout inode
		fields := strings.Fields(s.Text())
		if len(fields) > 9 && fields[3] == "0A" && strings.HasSuffix(fields[1], suffix) {
			into[fields[9]] = true
		}
	}
}
