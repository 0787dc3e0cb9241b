// Package rig runs the real binary in an installation of its own for tests
// and benchmarks: build once, own GAPLESS_HOME, own port, load beside it, and
// everything ended afterwards. It imports nothing that the product is made of
// but the API's client.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/load"
)

// Root is the top directory of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

var (
	buildMu sync.Mutex
	built   = map[string]string{}
)

// Binary builds gapless with the given build tags, once per test binary.
func Binary(tags string) (string, error) {
	buildMu.Lock()
	defer buildMu.Unlock()
	if path := built[tags]; path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "gapless-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "gapless")
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "./cmd/gapless")
	cmd.Dir = Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build gapless: %w\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // instances may run as another user
		return "", err
	}
	built[tags] = path
	return path, nil
}

// Rig is one installation with one app directory.
type Rig struct {
	T       testing.TB
	Exe     string
	Home    string
	Dir     string // the app's directory
	Address string // where the edge listens
	Env     []string
	User    *syscall.Credential // runs commands as somebody else; nil: as the test

	releases atomic.Pointer[map[string]bool] // that may answer now
}

// New makes an installation that is ended with the test. Tags choose a build.
func New(t testing.TB, tags string) *Rig {
	t.Helper()
	exe, err := Binary(tags)
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("", "gl-") // short: unix sockets live in it
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &Rig{T: t, Exe: exe, Home: filepath.Join(home, "h"), Dir: filepath.Join(home, "app"), Address: FreeAddress(t)}
	t.Cleanup(func() {
		res := r.Run("down", "--all")
		if res.Code != 0 {
			t.Errorf("down --all: exit %d\n%s", res.Code, res.Stderr)
		}
		if left := r.leftovers(3 * time.Second); len(left) > 0 {
			t.Errorf("left behind by down --all:\n%s", strings.Join(left, "\n"))
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(r.Home, "gapless.log"))
			t.Logf("gapless.log:\n%s", tail(string(log), 120))
		}
		if err := os.RemoveAll(home); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return r
}

func tail(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

var (
	portMu sync.Mutex
	ports  = map[int]bool{}
)

// FreeAddress is a loopback address below the range of outgoing connections
// that no other rig of this process was given.
func FreeAddress(t testing.TB) string {
	portMu.Lock()
	defer portMu.Unlock()
	for port := 10000 + os.Getpid()%40*200; port < 20000; port++ {
		if ports[port] {
			continue
		}
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		ports[port] = true
		_ = ln.Close()
		return fmt.Sprintf("127.0.0.1:%d", port)
	}
	t.Fatal("no free port")
	return ""
}

// App makes Dir a copy of test/apps/<name>, with hard links: nothing writes to
// the originals, and node_modules can be big.
func (r *Rig) App(name string) {
	r.T.Helper()
	if err := os.RemoveAll(r.Dir); err != nil {
		r.T.Fatal(err)
	}
	if out, err := exec.Command("cp", "-al", filepath.Join(Root(), "test", "apps", name), r.Dir).CombinedOutput(); err != nil {
		r.T.Fatalf("copy app %s: %v\n%s", name, err, out)
	}
	for _, file := range []string{"kit.js", "broken.js"} { // shared by all apps; install.sh copies them, too
		data, err := os.ReadFile(filepath.Join(Root(), "test", "apps", "kit", file))
		if err != nil {
			r.T.Fatal(err)
		}
		r.Write(filepath.Join("kit", file), string(data))
	}
}

// Write replaces a file of the app.
func (r *Rig) Write(name, content string) {
	r.T.Helper()
	path := filepath.Join(r.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.T.Fatal(err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // a hard link
		r.T.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		r.T.Fatal(err)
	}
}

// Result is how a command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
	Took           time.Duration
}

// Run runs a gapless command in the app's directory.
func (r *Rig) Run(args ...string) Result { return r.RunIn(r.Dir, args...) }

// RunIn runs a gapless command in a directory.
func (r *Rig) RunIn(dir string, args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Exe, args...)
	if _, err := os.Stat(dir); err == nil {
		cmd.Dir = dir
	}
	cmd.Env = append(append(os.Environ(), "GAPLESS_HOME="+r.Home), r.Env...)
	if r.User != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.User}
	}
	var out, story bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &story
	began := time.Now()
	err := cmd.Run()
	res := Result{Stdout: out.String(), Stderr: story.String(), Took: time.Since(began)}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		res.Code = exit.ExitCode()
	case err != nil:
		res.Code, res.Stderr = -1, err.Error()
	}
	return res
}

// Must runs a command that has to end with code.
func (r *Rig) Must(code int, args ...string) Result {
	r.T.Helper()
	res := r.Run(args...)
	if res.Code != code {
		r.T.Fatalf("gapless %s: exit %d, want %d\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), res.Code, code, res.Stdout, res.Stderr)
	}
	return res
}

// Rollout runs a command that starts a rollout and returns what it reports.
func (r *Rig) Rollout(code int, args ...string) gapless.Rollout {
	r.T.Helper()
	res := r.Must(code, append(args, "--json")...)
	var ro gapless.Rollout
	if err := json.Unmarshal([]byte(res.Stdout), &ro); err != nil {
		r.T.Fatalf("gapless %s --json: %v\n%s", strings.Join(args, " "), err, res.Stdout)
	}
	return ro
}

// Client is the API's client of this installation.
func (r *Rig) Client() *api.Client { return api.NewClient(filepath.Join(r.Home, "run", "api.sock")) }

// Status asks for everything that runs.
func (r *Rig) Status() api.Status {
	r.T.Helper()
	st, err := r.Client().Status(context.Background())
	if err != nil {
		r.T.Fatal(err)
	}
	return st
}

// Load starts strict load on the edge; Stop ends it. An answer of any release
// but these is a loss, until Allow names others.
func (r *Rig) Load(mix load.Mix, releases ...string) *load.Run {
	r.T.Helper()
	return r.LoadAs(load.Config{Mix: mix}, releases...)
}

// LoadAs is Load with more to say: a Host, a callback.
func (r *Rig) LoadAs(cfg load.Config, releases ...string) *load.Run {
	r.T.Helper()
	if len(releases) == 0 {
		r.T.Fatal("load without a release that may answer it")
	}
	r.Allow(releases...)
	if cfg.URL == "" {
		cfg.URL = "http://" + r.Address
	}
	cfg.Releases = func() map[string]bool { return *r.releases.Load() }
	run, err := load.Start(context.Background(), cfg)
	if err != nil {
		r.T.Fatal(err)
	}
	return run
}

// Allow names the releases that may answer from now on. What was begun before
// may still be answered as it was allowed then.
func (r *Rig) Allow(releases ...string) {
	allowed := map[string]bool{}
	for _, name := range releases {
		allowed[name] = true
	}
	r.releases.Store(&allowed)
}

// Drains are the times in which the instances of a rollout were drained, from
// the rollout's own events.
func (r *Rig) Drains(rollout string) []load.Drain {
	r.T.Helper()
	began := map[string]time.Time{}
	var out []load.Drain
	for e, err := range r.Client().Events(context.Background(), rollout, 0) {
		if err != nil {
			r.T.Fatal(err)
		}
		switch e.Kind {
		case "instance.draining":
			began[e.InstanceID] = e.Time
		case "instance.drained":
			out = append(out, load.Drain{Instance: e.InstanceID, From: began[e.InstanceID], To: e.Time})
		}
	}
	return out
}

// Watch notes which instances are seen draining until the function that it
// returns is called. Unlike Drains it also sees what goes on after a rollout.
// Each is seen a little late and given up a little early, so whatever
// overlaps what was seen overlaps the drain.
func (r *Rig) Watch() func() []load.Drain {
	stop, done := make(chan struct{}), make(chan []load.Drain)
	go func() {
		seen := map[string]load.Drain{}
		for ended := false; !ended; {
			st, err := r.Client().Status(context.Background())
			now := time.Now()
			for _, a := range st.Apps {
				for _, in := range a.Instances {
					if err != nil || in.State != gapless.Draining {
						continue
					}
					d, known := seen[in.ID]
					if !known {
						d = load.Drain{Instance: in.ID, From: now}
					}
					d.To = now
					seen[in.ID] = d
				}
			}
			select {
			case <-stop:
				ended = true
			case <-time.After(20 * time.Millisecond):
			}
		}
		done <- slices.SortedFunc(maps.Values(seen), func(a, b load.Drain) int { return a.From.Compare(b.From) })
	}()
	return func() []load.Drain { close(stop); return <-done }
}

// Bounded fails the test where a loss may have been hidden: as a wait, a
// request was held longer than limit; or as a retry, more than so many were.
func (r *Rig) Bounded(t testing.TB, limit time.Duration, retries int) {
	t.Helper()
	var retried uint64
	for _, a := range r.Status().Apps {
		for _, of := range a.Releases {
			t.Logf("%s %s: %d requests, %d retried, %d held (longest %s), %d failed", a.Name, of.Release, of.Requests, of.Retried, of.Held, of.HeldMax, of.Failed)
			retried += of.Retried
			if of.HeldMax.Std() > limit {
				t.Errorf("%s held a request for %s, more than %s", of.Release, of.HeldMax, limit)
			}
		}
	}
	if retried > uint64(retries) {
		t.Errorf("%d requests were retried, more than %d", retried, retries)
	}
}

// Eventually waits until f is true.
func Eventually(t testing.TB, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !f(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, limit)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
