package real

import (
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"gapless/test/rig"
)

// door opens the rig's API to the network for somebody: where it listens, and
// a token of a scope.
func door(t *testing.T, r *rig.Rig, name, scope string) (address, secret string) {
	t.Helper()
	address = rig.FreeAddress(t)
	r.Must(0, "api", "enable", "--listen", address)
	var token struct{ Secret string }
	if err := json.Unmarshal([]byte(r.Must(0, "token", "create", "--name", name, "--scope", scope, "--json").Stdout), &token); err != nil || token.Secret == "" {
		t.Fatalf("no token: %v", err)
	}
	return address, token.Secret
}

// beside runs a program of Debian's until the test ends.
func beside(t *testing.T, program string, args ...string) {
	t.Helper()
	var said strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("%s: %v\n%s", program, err, said.String())
		}
	})
}
