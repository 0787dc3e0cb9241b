package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gapless/internal/cli"
)

// TestMain lets the scripts, and gapless itself, run this test binary as the
// gapless command.
func TestMain(m *testing.M) {
	// Scripts mostly wait for processes. What the command line says still holds.
	if err := flag.Set("test.parallel", strconv.Itoa(2+runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"gapless": func() { os.Exit(cli.Main()) }})
}

func TestScripts(t *testing.T) {
	// Whoever runs the tests may ignore SIGHUP, as nohup does. What is ignored
	// stays so in every child, what is handled does not.
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangUp) })
	params := testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			home, err := os.MkdirTemp("", "gl-") // short: unix sockets live in it
			if err != nil {
				return err
			}
			env.Setenv("GAPLESS_HOME", home)
			// Every process of a binary with the race detector sleeps for a second
			// before it ends, unless it is told not to.
			env.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
			for _, name := range []string{"ADDRESS", "OTHER_ADDRESS"} {
				address, err := freeAddress()
				for ; err == nil && address == env.Getenv("ADDRESS"); address, err = freeAddress() {
				}
				if err != nil {
					return err
				}
				env.Setenv(name, address)
			}
			env.Setenv("PATH", os.Getenv("PATH"))
			env.Defer(func() { // a script that failed half-way leaves nothing running
				down := exec.Command("gapless", "down", "--all")
				down.Env = append(os.Environ(), "GAPLESS_HOME="+home, "GORACE="+env.Getenv("GORACE"))
				if out, err := down.CombinedOutput(); err != nil {
					t.Errorf("down --all after the script: %v\n%s", err, out)
				}
				_ = os.RemoveAll(home)
			})
			return nil
		},
	}
	params.Cmds = map[string]func(*testscript.TestScript, bool, []string){"json": isJSON}
	if os.Getenv("UPDATE_SCRIPTS") != "" {
		params.UpdateScripts = true
	}
	testscript.Run(t, params)
}

// isJSON is the script command "json": the last stdout is JSON, one value or
// one per line.
func isJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: json")
	}
	out := ts.ReadFile("stdout")
	n := 0
	for dec := json.NewDecoder(strings.NewReader(out)); ; n++ {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			ts.Fatalf("stdout is not JSON: %v\n%s", err, out)
		}
	}
	if n == 0 {
		ts.Fatalf("stdout is empty")
	}
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
