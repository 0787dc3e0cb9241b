package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// findHierarchy finds a place where a cgroup with this controller can be made
// and limited, by making and limiting one.
func findHierarchy(mounts []cgroupMount, name, controller string) (*hierarchy, error) {
	errs := fmt.Errorf("no cgroup hierarchy has the %s controller", controller)
	for _, m := range mounts {
		if !slices.Contains(m.controllers, controller) {
			continue
		}
		for _, parent := range places(m) {
			h := &hierarchy{dir: filepath.Join(parent, name), controller: controller, version: m.version}
			err := h.try()
			if err == nil {
				return h, nil
			}
			errs = errors.Join(errs, err)
		}
	}
	return nil, errs
}

// places lists where our directory may go, the best first. In version 1 that
// is our own cgroup, so that limits set from outside hold for instances too.
// In version 2 a cgroup that hands controllers down must hold no processes:
// our own one qualifies if it was delegated to us (we then move to a leaf of
// it), else any ancestor may do.
func places(m cgroupMount) []string {
	if m.version == 1 {
		return slices.Compact([]string{m.own, m.dir})
	}
	var list []string
	if m.own != m.dir && delegated(m.own) && moveToLeaf(m.own) == nil {
		list = append(list, m.own)
	}
	for dir := m.own; ; dir = filepath.Dir(dir) {
		// A process can be moved only by who may write to the common ancestor.
		if (dir != m.own || dir == m.dir) && writable(filepath.Join(dir, "cgroup.procs")) {
			list = append(list, dir)
		}
		if dir == m.dir || len(dir) <= len(m.dir) {
			return list
		}
	}
}

// moveToLeaf empties a delegated cgroup: everything in it is our own service.
func moveToLeaf(own string) error {
	if strings.HasSuffix(own, "/gapless-main") {
		return nil
	}
	leaf := filepath.Join(own, "gapless-main")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	for _, pid := range members(own) {
		if err := writeControl(leaf, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("move to a cgroup: %w", err)
		}
	}
	return nil
}

// try makes a cgroup with a limit that limits nothing, and removes it.
func (h *hierarchy) try() error {
	files := map[string]string{"memory.limit_in_bytes": "-1"}
	switch {
	case h.version == 1 && h.controller == "cpu":
		files = map[string]string{"cpu.cfs_quota_us": "-1"}
	case h.version == 2 && h.controller == "cpu":
		files = map[string]string{"cpu.max": "max"}
	case h.version == 2:
		files = map[string]string{"memory.max": "max"}
	}
	dir, err := h.make("try-"+strconv.Itoa(os.Getpid()), files)
	if err != nil {
		_ = os.Remove(h.dir) // made by prepare, maybe in use by others
		return err
	}
	return removeCgroups([]string{dir})
}
