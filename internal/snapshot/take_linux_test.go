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
