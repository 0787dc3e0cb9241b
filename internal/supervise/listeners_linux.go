package supervise

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// listener is one listening TCP socket of this machine.
type listener struct {
	addr  netip.AddrPort
	inode string
}

// readListeners returns the listening TCP sockets. The kernel lists these
// before the connected ones, so reading stops at the first of those: the cost
// does not grow with the number of connections.
func readListeners() ([]listener, error) {
	var list []listener
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("read the listening sockets: %w", err)
		}
		sc := bufio.NewScanner(f)
		sc.Scan() // header
		for sc.Scan() {
			l, listening, ok := parseListener(sc.Text())
			if ok && !listening {
				break
			}
			if ok {
				list = append(list, l)
			}
		}
		f.Close()
		if err := sc.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
	}
	return list, nil
}

// parseListener reads one line of /proc/net/tcp or tcp6.
func parseListener(line string) (l listener, listening, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return l, false, false
	}
	const stateListen = "0A"
	if f[3] != stateListen {
		return l, false, true
	}
	host, port, found := strings.Cut(f[1], ":")
	raw, err := hex.DecodeString(host)
	n, perr := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || perr != nil || len(raw)%4 != 0 {
		return l, false, false
	}
	// The address is printed as 32-bit words of the machine's byte order.
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	return listener{addr: netip.AddrPortFrom(addr.Unmap(), uint16(n)), inode: f[9]}, true, ok
}

// sockets returns the inodes of the sockets that pid has open. complete is
// false when they may not be read.
func sockets(pid int) (inodes map[string]bool, complete bool) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, !errors.Is(err, fs.ErrPermission)
	}
	inodes = map[string]bool{}
	for _, e := range entries {
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			if errors.Is(err, fs.ErrPermission) {
				return inodes, false
			}
			continue // closed meanwhile
		}
		if s, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(s, "]")] = true
		}
	}
	return inodes, true
}

// survey finds out who listens where, seen from one instance.
type survey struct {
	own      []netip.AddrPort // listeners of the instance's process tree
	complete bool             // every process of the tree could be looked into
	others   map[int][]string // port → inodes that are not the tree's
}

// surveyTree looks at the listeners of pid's process tree.
func surveyTree(pid int) (survey, error) {
	table, err := readProcTable()
	if err != nil {
		return survey{}, err
	}
	s := survey{complete: true, others: map[int][]string{}}
	mine := map[string]bool{}
	for _, p := range table.tree(pid) {
		inodes, complete := sockets(p)
		s.complete = s.complete && complete
		for i := range inodes {
			mine[i] = true
		}
	}
	// The listeners are read last: one that is the tree's was open before.
	all, err := readListeners()
	if err != nil {
		return survey{}, err
	}
	for _, l := range all {
		if mine[l.inode] {
			s.own = append(s.own, l.addr)
		} else {
			port := int(l.addr.Port())
			s.others[port] = append(s.others[port], l.inode)
		}
	}
	return s, nil
}

// holder names the program that has one of the sockets open: "nginx, pid 12",
// or "" when that cannot be seen.
func holder(inodes []string) string {
	table, err := readProcTable()
	if err != nil {
		return ""
	}
	for pid := range table {
		open, _ := sockets(pid)
		for _, i := range inodes {
			if open[i] {
				return fmt.Sprintf("%s, pid %d", programName(pid), pid)
			}
		}
	}
	return ""
}
