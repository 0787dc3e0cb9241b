//go:build failpoints

package rollout

import (
	"fmt"
	"os"
	"syscall"
)

// failpoint kills this process with SIGKILL where the file that
// GAPLESS_FAILPOINT names says so: "<kind> <point> <n>", at the n-th time. The
// file counts down and is gone when it has come true, so that the next process
// lives.
func failpoint(kind ActionKind, at point) {
	path := os.Getenv("GAPLESS_FAILPOINT")
	data, err := os.ReadFile(path)
	if path == "" || err != nil {
		return
	}
	var wantKind, wantPoint string
	n := 0
	if _, err := fmt.Sscan(string(data), &wantKind, &wantPoint, &n); err != nil || wantKind != string(kind) || wantPoint != string(at) {
		return
	}
	if n > 1 {
		if err := os.WriteFile(path, fmt.Appendf(nil, "%s %s %d", kind, at, n-1), 0o600); err != nil {
			panic(err)
		}
		return
	}
	if err := os.Remove(path); err != nil {
		panic(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {}
}
