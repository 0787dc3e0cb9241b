package daemon

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestHomeCanBePassedThrough: instances may run as another user, who must
// reach the release trees whatever the umask of the person, and nothing else.
func TestHomeCanBePassedThrough(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	for range 5 {
		h := Home(filepath.Join(t.TempDir(), "home"))
		if err := h.Make(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time changes nothing
			if err := h.makeApp("shop"); err != nil {
				t.Fatal(err)
			}
		}
		for name, want := range map[string]os.FileMode{"": 0o711, "run": 0o700, "apps": 0o711, "apps/shop": 0o711,
			"apps/shop/releases": 0o700, "apps/shop/shared": 0o711, "apps/shop/logs": 0o700, "apps/shop/env": 0o700} {
			info, err := os.Stat(filepath.Join(string(h), name))
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%q has mode %o, want %o", name, got, want)
			}
		}
	}
}
