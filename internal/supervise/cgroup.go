package supervise

import (
	"bufio"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// limits puts processes into cgroups, one per process, below a directory that
// belongs to this home alone. It works with version 1 (a hierarchy per
// controller) and version 2, whichever the system lets us use; that is found
// out by trying, once. Directories exist only while a process needs them.
type limits struct {
	name string // of our directory in every hierarchy

	once           sync.Once
	memory, cpu    *hierarchy // nil: not possible
	noMemory, noCP error      // why not
}

// hierarchy is one place where limited cgroups can be made.
type hierarchy struct {
	dir        string // our directory; made on demand
	controller string // "memory" or "cpu"
	version    int    // 1 or 2
}

// hardLimit is where the kernel kills: above the limit at which an instance
// is replaced without loss, so that this normally comes first.
func hardLimit(memory int64) int64 { return memory + memory/2 }

func newLimits(home string) *limits {
	h := fnv.New32a()
	h.Write([]byte(home))
	return &limits{name: fmt.Sprintf("gapless-%08x", h.Sum32())}
}

func (l *limits) detect() {
	l.once.Do(func() {
		mounts, err := readCgroupMounts("/proc/self/mountinfo", "/proc/self/cgroup")
		if err != nil {
			l.noMemory, l.noCP = err, err
			return
		}
		l.memory, l.noMemory = findHierarchy(mounts, l.name, "memory")
		l.cpu, l.noCP = findHierarchy(mounts, l.name, "cpu")
	})
}

// String says in one line what can be limited here, for people.
func (l *limits) String() string {
	l.detect()
	memory, cpu := "memory limit: watched only", "cpu limit: not possible here"
	if l.memory != nil {
		memory = fmt.Sprintf("memory limit: watched, and hard in the kernel (cgroup v%d)", l.memory.version)
	}
	if l.cpu != nil {
		cpu = fmt.Sprintf("cpu limit: cgroup v%d", l.cpu.version)
	}
	return memory + "; " + cpu
}

// make creates the cgroups of one process, and returns their directories.
// Without any limit, or where none is possible, there are none.
func (l *limits) make(id string, memory int64, cpu float64) ([]string, error) {
	if memory <= 0 && cpu <= 0 {
		return nil, nil
	}
	l.detect()
	var dirs []string
	var errs error
	add := func(h *hierarchy, files map[string]string) {
		if h == nil {
			return
		}
		dir, err := h.make(id, files)
		if err != nil {
			errs = errors.Join(errs, err)
			return
		}
		if !slices.Contains(dirs, dir) { // version 2: one directory for both
			dirs = append(dirs, dir)
		}
	}
	if memory > 0 && l.memory != nil {
		bytes := strconv.FormatInt(hardLimit(memory), 10)
		if l.memory.version == 1 {
			add(l.memory, map[string]string{"memory.limit_in_bytes": bytes})
		} else {
			add(l.memory, map[string]string{"memory.max": bytes})
		}
	}
	if cpu > 0 && l.cpu != nil {
		const period = 100_000 // microseconds
		quota := strconv.Itoa(max(int(cpu*period), 1000))
		if l.cpu.version == 1 {
			add(l.cpu, map[string]string{"cpu.cfs_period_us": strconv.Itoa(period), "cpu.cfs_quota_us": quota})
		} else {
			add(l.cpu, map[string]string{"cpu.max": quota + " " + strconv.Itoa(period)})
		}
	}
	return dirs, errs
}

func (h *hierarchy) make(id string, files map[string]string) (string, error) {
	dir := filepath.Join(h.dir, strings.ReplaceAll(id, "/", "_"))
	for try := 1; ; try++ {
		if err := h.prepare(); err != nil {
			return "", err
		}
		err := os.Mkdir(dir, 0o755)
		if err == nil || errors.Is(err, fs.ErrExist) {
			break
		}
		// The end of the last other process may just have removed our directory.
		if try == 3 || !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("make a cgroup: %w", err)
		}
	}
	for file, value := range files {
		if err := writeControl(dir, file, value); err != nil {
			_ = os.Remove(dir)
			return "", fmt.Errorf("limit a cgroup: %w", err)
		}
	}
	return dir, nil
}

// prepare makes our directory. In version 2 its parent and it must first hand
// the controller down.
func (h *hierarchy) prepare() error {
	if h.version == 2 {
		if err := handDown(filepath.Dir(h.dir), h.controller); err != nil {
			return err
		}
	}
	if err := os.Mkdir(h.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	if h.version == 2 {
		return handDown(h.dir, h.controller)
	}
	return nil
}

func handDown(dir, controller string) error {
	if hasWord(filepath.Join(dir, "cgroup.subtree_control"), controller) {
		return nil
	}
	if err := writeControl(dir, "cgroup.subtree_control", "+"+controller); err != nil {
		return fmt.Errorf("hand the %s controller down: %w", controller, err)
	}
	return nil
}

// writeControl never creates the file: one that is missing is a controller
// that does not work here.
func writeControl(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func hasWord(file, word string) bool {
	b, err := os.ReadFile(file)
	return err == nil && slices.Contains(strings.Fields(string(b)), word)
}

// oomKills counts the processes that the kernel killed in these cgroups for
// being over their memory limit.
func oomKills(dirs []string) int {
	n := 0
	for _, dir := range dirs {
		for _, file := range []string{"memory.oom_control", "memory.events"} {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(b)) {
				if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
					k, _ := strconv.Atoi(f[1])
					n += k
				}
			}
		}
	}
	return n
}

// removeCgroups kills what is left in the cgroups of a process that ended and
// removes them, and our own directory with the last one.
func removeCgroups(dirs []string) error {
	var errs error
	for _, dir := range dirs {
		var err error
		for range 100 {
			if err = os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
				err = nil
				break
			}
			for _, pid := range members(dir) {
				if p, err := os.FindProcess(pid); err == nil {
					_ = p.Kill() // gone already: then the next Remove succeeds
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("remove a cgroup: %w", err))
			continue
		}
		_ = os.Remove(filepath.Dir(dir)) // fails while others are in it
	}
	return errs
}

func members(dir string) []int {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// cgroupMount is one mounted hierarchy and where in it this process lives.
type cgroupMount struct {
	version     int
	dir         string // mount point
	own         string // our own cgroup: a directory at or below dir
	controllers []string
}

// readCgroupMounts reads the hierarchies that are mounted.
func readCgroupMounts(mountinfo, cgroup string) ([]cgroupMount, error) {
	own := map[string]string{} // controller ("" for version 2) → path
	b, err := os.ReadFile(cgroup)
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			for c := range strings.SplitSeq(f[1], ",") {
				own[c] = f[2]
			}
		}
	}
	f, err := os.Open(mountinfo)
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	defer f.Close()
	var mounts []cgroupMount
	for sc := bufio.NewScanner(f); sc.Scan(); {
		left, right, _ := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) < 5 || len(r) < 3 || !strings.HasPrefix(r[0], "cgroup") {
			continue
		}
		m := cgroupMount{version: 1, dir: l[4], controllers: strings.Split(r[2], ",")}
		key := m.controllers[len(m.controllers)-1]
		if r[0] == "cgroup2" {
			m.version, key, m.controllers = 2, "", nil
		}
		m.own = m.dir
		// A mount may show only a part of the hierarchy, its root in l[3].
		if rel, err := filepath.Rel(l[3], own[key]); err == nil && own[key] != "" && !strings.HasPrefix(rel, "..") {
			if dir := filepath.Join(m.dir, rel); isDir(dir) {
				m.own = dir
			}
		}
		if m.version == 2 {
			if b, err := os.ReadFile(filepath.Join(m.own, "cgroup.controllers")); err == nil {
				m.controllers = strings.Fields(string(b))
			}
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
