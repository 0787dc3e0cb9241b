package keeper

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// cgroups are the control groups that a process is born into, so that no
// instant of it, and no child of it, is outside.
type cgroups struct {
	v1  []string // directories
	v2  *os.File // directory; nil: none
	oom []oomCounter
}

// oomCounter is a file that counts processes killed for lack of memory.
type oomCounter struct {
	path  string
	start uint64
}

func openCgroups(dirs []string) (c cgroups, err error) {
	for _, dir := range dirs {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			c.close()
			return c, fmt.Errorf("control group %s: %w", dir, err)
		}
		switch {
		case fs.Type == unix.CGROUP_SUPER_MAGIC:
			c.v1 = append(c.v1, dir)
		case fs.Type == unix.CGROUP2_SUPER_MAGIC && c.v2 == nil:
			if c.v2, err = os.Open(dir); err != nil {
				return c, fmt.Errorf("control group: %w", err)
			}
		default:
			c.close()
			return c, fmt.Errorf("%s is not a control group, or the second one of version 2", dir)
		}
		for _, name := range []string{"memory.events", "memory.oom_control"} {
			path := filepath.Join(dir, name)
			if n, err := readCounter(path, "oom_kill"); err == nil {
				c.oom = append(c.oom, oomCounter{path, n})
			}
		}
	}
	return c, nil
}

func (c *cgroups) close() {
	if c.v2 != nil {
		c.v2.Close()
		c.v2 = nil
	}
}

// oomKilled reports whether the kernel killed something in these groups for
// lack of memory since they were opened.
func (c *cgroups) oomKilled() bool {
	for _, o := range c.oom {
		if n, err := readCounter(o.path, "oom_kill"); err == nil && n > o.start {
			return true
		}
	}
	return false
}

// fork starts the process inside the groups. Version 2: the kernel does it
// (clone3). Version 1: a child is born where the forking thread is, so a
// thread joins the groups, forks, and dies.
func (c *cgroups) fork(argv0 string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	if c.v2 != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(c.v2.Fd())
	}
	if len(c.v1) == 0 {
		pid, err = syscall.ForkExec(argv0, argv, attr)
	} else {
		done := make(chan struct{})
		go func() {
			defer close(done)
			onSpareThread(func() { pid, err = c.forkHere(argv0, argv, attr) })
		}()
		<-done
	}
	if c.v2 == nil || !errors.Is(err, unix.ENOSYS) {
		return pid, err
	}
	// No clone3 here (some container sandboxes): join right after the start.
	dir := c.v2.Name()
	c.close()
	attr.Sys.UseCgroupFD = false
	if pid, err = c.fork(argv0, argv, attr); err != nil {
		return pid, err
	}
	if err := writeCgroup(filepath.Join(dir, "cgroup.procs"), pid); err != nil {
		_ = syscall.Kill(-pid, syscall.SIGKILL) // the reaper collects it
		return 0, err
	}
	return pid, nil
}

func (c *cgroups) forkHere(argv0 string, argv []string, attr *syscall.ProcAttr) (int, error) {
	for _, dir := range c.v1 {
		if err := writeCgroup(filepath.Join(dir, "tasks"), unix.Gettid()); err != nil {
			return 0, err
		}
	}
	return syscall.ForkExec(argv0, argv, attr)
}

// onSpareThread runs f on a thread that ends with the calling goroutine, and
// is not the main one (which cannot end, and whose group the memory of the
// whole process belongs to). Call it last in a goroutine.
func onSpareThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f() // still locked: the runtime ends the thread
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		onSpareThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

func writeCgroup(file string, id int) error {
	if err := os.WriteFile(file, []byte(strconv.Itoa(id)), 0); err != nil {
		return fmt.Errorf("join control group: %w", err)
	}
	return nil
}

// readCounter reads "<key> <number>" from a file of such lines.
func readCounter(path, key string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), key+" "); ok {
			return strconv.ParseUint(v, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, key)
}
