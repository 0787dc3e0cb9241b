package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gapless"

	"golang.org/x/sys/unix"
)

func TestTakeFullDisk(t *testing.T) {
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	defer unix.Unmount(small, 0)
	src := express(t)
	add(t, src, map[string]string{"big": strings.Repeat("x", 1<<20)})
	_, err := store(t).Take(context.Background(), src, filepath.Join(small, "v1"), Options{})
	if err == nil || !strings.Contains(err.Error(), "disk is full") || gapless.HintOf(err) == "" || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v (hint %q)", err, gapless.HintOf(err))
	}
	if left, _ := os.ReadDir(small); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A device is left out, and never opened: /dev/zero has no end, a terminal waits.
func TestTakeLeavesDevicesOut(t *testing.T) {
	src := express(t)
	for name, minor := range map[string]uint32{"zero": 5, "node_modules/full": 7} {
		if err := unix.Mknod(filepath.Join(src, name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			t.Skipf("no device can be made here: %v", err)
		}
	}
	dst, res := take(t, src)
	if res.Skipped != 2 {
		t.Errorf("%d left out", res.Skipped)
	}
	for _, name := range []string{"zero", "node_modules/full"} {
		if _, err := os.Lstat(filepath.Join(dst, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
