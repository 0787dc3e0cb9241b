package rig

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Size is what a process has of the machine at a moment.
type Size struct {
	Memory      int // KiB, pages that it shares counted by share (Pss)
	Threads     int
	Descriptors int
}

func (s Size) String() string {
	return fmt.Sprintf("%.1f MB, %d threads, %d descriptors", float64(s.Memory)/1024, s.Threads, s.Descriptors)
}

// SizeOf measures a process that runs.
func SizeOf(pid int) (s Size, err error) {
	dir := "/proc/" + strconv.Itoa(pid)
	open, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return s, err
	}
	s.Descriptors = len(open)
	if s.Memory, err = procField(dir+"/smaps_rollup", "Pss:"); err != nil {
		return s, err
	}
	s.Threads, err = procField(dir+"/status", "Threads:")
	return s, err
}

// procField is the number behind a name in a file of /proc.
func procField(path, name string) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return strconv.Atoi(f[1])
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

// RaiseDescriptors raises the limit of descriptors of this process, and of
// those that it starts, to want where that is allowed, and returns what it is.
func RaiseDescriptors(t testing.TB, want uint64) uint64 {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Cur >= want {
		return l.Cur
	}
	more := syscall.Rlimit{Cur: want, Max: max(want, l.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) != nil { // only root may go beyond
		more = syscall.Rlimit{Cur: min(want, l.Max), Max: l.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more); err != nil {
			t.Fatal(err)
		}
	}
	return more.Cur
}
