package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Subject is a process manager under test: one value runs one app, once.
type Subject interface {
	Name() string                      // with its version, as in the table
	Start(context.Context, *App) error // returns when the app answers
	Deploy(context.Context) error      // ships what is in App.Dir now, as its users do it without downtime
	Restart(context.Context) error     // new processes of the same version
	KillDaemon(context.Context) error  // kill -9 of its controlling process
	Stop() error                       // ends everything that Start started
}

// App is what a subject runs: a private copy of a test app's directory.
type App struct {
	Dir       string
	Script    string // relative to Dir
	Port      int    // that users talk to
	Instances int
}

// URL is where users talk to the app.
func (a *App) URL() string { return "http://127.0.0.1:" + strconv.Itoa(a.Port) }

// Set writes a file: a setting (VERSION, BREAK, BOOT_MS; see test/apps/kit) that the
// next process of the app reads when it starts.
func (a *App) Set(name, value string) error {
	return os.WriteFile(filepath.Join(a.Dir, name), []byte(value), 0o644)
}

// newApp copies test app name to dir, with the variants that belong to this
// bench beside its server.js, and finds a free port.
func newApp(source, name, dir string) (*App, error) {
	from := filepath.Join(source, "test", "apps", name)
	if _, err := os.Stat(filepath.Join(from, "package-lock.json")); err == nil {
		if _, err := os.Stat(filepath.Join(from, ".installed")); err != nil {
			return nil, fmt.Errorf("%s is not installed: run test/apps/install.sh", from)
		}
	}
	if out, err := exec.Command("cp", "-R", from, dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	variant, err := os.ReadFile(filepath.Join(source, "test", "bench", "pm2", "apps", "sigint.js"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "sigint.js"), variant, 0o644); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return &App{Dir: dir, Port: l.Addr().(*net.TCPAddr).Port}, nil
}

// serving waits until GET /healthz answers 200.
func serving(ctx context.Context, a *App) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for !answers(a) {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("wait for the app on %s: %w", a.URL(), err)
		}
	}
	return nil
}

// answers reports whether the app is healthy, by one request.
func answers(a *App) bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(a.URL() + "/healthz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// run runs a command of a subject and returns its output, also in the error.
func run(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.WaitDelay = time.Second // daemons that it leaves behind hold its output open
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// environ is the caller's environment without what would leak into a subject.
func environ(extra ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "GAPLESS_") || strings.HasPrefix(kv, "PM2_") || strings.HasPrefix(kv, "PORT=")
	})
	return append(env, extra...)
}

// owned finds the processes that have exactly this variable in their
// environment: the ones that a subject started, daemons and apps alike.
func owned(variable string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && slices.Contains(strings.Split(string(b), "\x00"), variable) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killOwned ends what is left of a subject, by pid.
func killOwned(variable string) {
	for range 20 {
		pids := owned(variable)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
