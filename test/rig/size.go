package rig

import (
	"fmt"
	"os"
	"strconv"
	"strings"
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
