package supervise

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// procStat is what one process table entry says.
type procStat struct {
	pid, parent, group, session int
	zombie                      bool
	resident                    int64 // bytes
	cpu                         int64 // clock ticks, with those of children that it waited for
}

// ticks is how many clock ticks of proc_pid_stat(5) are a second: USER_HZ, 100
// on every Linux.
const ticks = 100

// procTable is one reading of /proc: every process of the machine.
type procTable map[int]procStat

// readProcTable reads /proc once.
func readProcTable() (procTable, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("read the process table: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("read the process table: %w", err)
	}
	page := int64(os.Getpagesize())
	t := make(procTable, len(names))
	buf := make([]byte, 1024)
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		if p, ok := readProcStat(name, buf, page); ok {
			t[p.pid] = p
		}
	}
	return t, nil
}

func readProcStat(pid string, buf []byte, page int64) (procStat, bool) {
	f, err := os.Open("/proc/" + pid + "/stat")
	if err != nil {
		return procStat{}, false // it ended between the listing and now
	}
	defer f.Close()
	n, err := f.Read(buf)
	if err != nil {
		return procStat{}, false
	}
	// The name in parentheses may hold spaces and parentheses itself.
	end := bytes.LastIndexByte(buf[:n], ')')
	if end < 0 {
		return procStat{}, false
	}
	f3 := bytes.Fields(buf[end+1 : n]) // f3[0] is field 3 of proc_pid_stat(5)
	if len(f3) < 22 {
		return procStat{}, false
	}
	num := func(i int) int64 { v, _ := strconv.ParseInt(string(f3[i-3]), 10, 64); return v }
	id, err := strconv.Atoi(pid)
	if err != nil {
		return procStat{}, false
	}
	return procStat{
		pid: id, parent: int(num(4)), group: int(num(5)), session: int(num(6)),
		zombie: f3[0][0] == 'Z' || f3[0][0] == 'X', resident: num(24) * page,
		cpu: num(14) + num(15) + num(16) + num(17),
	}, true
}

// owners maps every process to the one of roots that it belongs to: by
// descent, by process group or by session.
func (t procTable) owners(roots map[int]bool) map[int]int {
	of := make(map[int]int, len(t))
	var find func(pid, depth int) int
	find = func(pid, depth int) int {
		if roots[pid] {
			return pid
		}
		if r, ok := of[pid]; ok {
			return r
		}
		p, ok := t[pid]
		r := 0
		switch {
		case !ok || pid <= 1 || depth > 1000:
		case roots[p.group]:
			r = p.group
		case roots[p.session]:
			r = p.session
		default:
			r = find(p.parent, depth+1)
		}
		of[pid] = r
		return r
	}
	for pid := range t {
		of[pid] = find(pid, 0)
	}
	return of
}

// tree returns the processes that belong to pid, itself included.
func (t procTable) tree(pid int) []int {
	var list []int
	for p, root := range t.owners(map[int]bool{pid: true}) {
		if root == pid {
			list = append(list, p)
		}
	}
	return list
}

// groupAlive reports whether a process group has a member that still runs.
func groupAlive(group int) bool {
	t, err := readProcTable()
	if err != nil {
		return false
	}
	for _, p := range t {
		if p.group == group && !p.zombie {
			return true
		}
	}
	return false
}

// programName is the short name of a process, for people.
func programName(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return "unknown"
	}
	return string(bytes.TrimSpace(b))
}

// carriesName reports whether pid is a process of that instance, by the
// environment that it was started with.
func carriesName(pid int, instance string) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	return bytes.Contains(append([]byte{0}, env...), []byte("\x00GAPLESS_INSTANCE="+instance+"\x00"))
}
