package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gapless/internal/cli"
)

// TestMain lets the scripts, and gapless itself, run this test binary as the
// gapless command.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gapless": func() { os.Exit(cli.Main()) }})
}

func TestScripts(t *testing.T) {
	params := testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			home, err := os.MkdirTemp("", "gl-") // short: unix sockets live in it
			if err != nil {
				return err
			}
			address, err := freeAddress()
			if err != nil {
				return err
			}
			other := address
			for other == address {
				if other, err = freeAddress(); err != nil {
					return err
				}
			}
			env.Setenv("GAPLESS_HOME", home)
			env.Setenv("ADDRESS", address)
			env.Setenv("OTHER_ADDRESS", other)
			env.Setenv("PATH", os.Getenv("PATH"))
			env.Defer(func() { // a script that failed half-way leaves nothing running
				down := exec.Command("gapless", "down", "--all")
				down.Env = append(os.Environ(), "GAPLESS_HOME="+home)
				if out, err := down.CombinedOutput(); err != nil {
					t.Errorf("down --all after the script: %v\n%s", err, out)
				}
				_ = os.RemoveAll(home)
			})
			return nil
		},
	}
	if os.Getenv("UPDATE_SCRIPTS") != "" {
		params.UpdateScripts = true
	}
	testscript.Run(t, params)
}

func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = ln.Close() }()
	// below the range of outgoing connections, spread by what the kernel gave
	start := 10000 + ln.Addr().(*net.TCPAddr).Port%9000
	for port := start; port < start+500; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if probe, err := net.Listen("tcp", address); err == nil {
			return address, probe.Close()
		}
	}
	return "", fmt.Errorf("no free port from %d", start)
}
