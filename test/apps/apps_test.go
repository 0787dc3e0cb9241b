// Package apps proves that the test apps are what other tests take them for:
// whole and correct under load, and broken in the ways they are told to be.
package apps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless/internal/load"
)

var names = []string{"http", "express", "fastify", "koa", "ws", "next"}

// process is one started app.
type process struct {
	cmd    *exec.Cmd
	url    string
	exited chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// start runs an app on a free port; it is killed when the test ends.
func start(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat(filepath.Join(dir, "package-lock.json")); err == nil {
		if _, err := os.Stat(filepath.Join(dir, ".installed")); err != nil {
			t.Skipf("%s is not installed: run test/apps/install.sh", dir)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	p := &process{url: "http://" + address, exited: make(chan struct{})}
	p.cmd = exec.Command("node", "server.js")
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), append(env, "PORT="+port, "GAPLESS_RELEASE=v7", "GAPLESS_INSTANCE=i1", "NEXT_TELEMETRY_DISABLED=1")...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
	})
	return p
}

// wait polls until done; the test fails after 30 s.
func (p *process) wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s: %s\n%s", what, p.output())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// get returns the status of a GET, 0 without an answer within a second.
func (p *process) get(path string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (p *process) healthy() bool { return p.get("/healthz") == http.StatusOK }

func TestAppsAreCorrect(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			p := start(t, name)
			p.wait(t, "healthy", p.healthy)
			r, err := load.Start(t.Context(), load.Config{URL: p.url, Mix: load.Mix{
				KeepAlive: 30, KeepAliveClients: 2, Fresh: 20,
				Slow: 10, SlowTime: 300 * time.Millisecond,
				Upload: 10, UploadTime: 300 * time.Millisecond,
				WebSockets: 2, SSE: 1,
			}, Releases: func() map[string]bool { return map[string]bool{"v7": true} }})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(1500 * time.Millisecond)
			rep := r.Stop()
			if rep.OK != rep.Requests {
				t.Errorf("want no loss:\n%v", rep)
				for _, s := range r.Samples() {
					if s.Err != "" {
						t.Logf("%s: %s: %s", s.Kind, s.Err, s.Detail)
						break
					}
				}
			}
			for _, k := range []load.Kind{load.KeepAlive, load.Fresh, load.Slow, load.Upload, load.WebSocket, load.SSE} {
				if rep.Kinds[k].OK == 0 {
					t.Errorf("no %s got through", k)
				}
			}
			if got := p.get("/cart"); got != http.StatusOK {
				t.Errorf("/cart answers %d", got)
			}
			// No signal handling: SIGTERM ends the process at once, by the signal.
			p.cmd.Process.Signal(os.Interrupt)
			p.wait(t, "ended by SIGINT", p.gone)
			if s := p.cmd.ProcessState.String(); !strings.Contains(s, "interrupt") {
				t.Errorf("after SIGINT: %s, want death by the signal itself", s)
			}
		})
	}
}

func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func TestFaults(t *testing.T) {
	exits := func(code int, says string) func(*testing.T, *process) {
		return func(t *testing.T, p *process) {
			p.wait(t, "exit", p.gone)
			if got := p.cmd.ProcessState.ExitCode(); got != code || !strings.Contains(p.output(), says) {
				t.Errorf("exit code %d, want %d and %q in:\n%s", got, code, says, p.output())
			}
		}
	}
	serves := func(path string, status int) func(*testing.T, *process) {
		return func(t *testing.T, p *process) {
			p.wait(t, "healthy", p.healthy)
			if got := p.get(path); got != status {
				t.Errorf("%s answers %d, want %d", path, got, status)
			}
		}
	}
	both := func(f, g func(*testing.T, *process)) func(*testing.T, *process) {
		return func(t *testing.T, p *process) { f(t, p); g(t, p) }
	}
	tests := []struct {
		env   []string
		check func(*testing.T, *process)
	}{
		{[]string{"BREAK=throw"}, exits(1, "DATABASE_URL is not set")},
		{[]string{"BREAK=syntax"}, exits(1, "SyntaxError")},
		{[]string{"BREAK=exit-after-5s"}, both(serves("/", 200), exits(7, ""))},
		{[]string{"BREAK=crash-on-request"}, both(serves("/", 0), exits(1, "no handler for /"))},
		{[]string{"BREAK=500"}, serves("/", 500)},
		{[]string{"BREAK=500", "BREAK_PATH=/cart"}, both(serves("/", 200), serves("/cart", 500))},
		{[]string{"BREAK=500", "BREAK_SHARE=0"}, serves("/", 200)},
		{[]string{"BREAK=leak", "LEAK_MB=60"}, both(serves("/", 200), func(t *testing.T, p *process) {
			p.wait(t, "grow by 60 MB", func() bool { return p.rss() > 95<<20 })
		})},
		{[]string{"BREAK=never-listen"}, func(t *testing.T, p *process) {
			time.Sleep(500 * time.Millisecond)
			if p.gone() || p.get("/") != 0 {
				t.Errorf("want a process that runs and does not answer:\n%s", p.output())
			}
		}},
		{[]string{"BREAK=wrong-port"}, func(t *testing.T, p *process) {
			p.wait(t, "listen", func() bool { return strings.Contains(p.output(), "listens on") })
			if p.get("/") != 0 {
				t.Errorf("it answers on the right port:\n%s", p.output())
			}
		}},
		{[]string{"BREAK=hang"}, func(t *testing.T, p *process) {
			p.wait(t, "listen", func() bool { return strings.Contains(p.output(), "listens on") })
			if got := p.get("/"); got != 0 || p.gone() {
				t.Errorf("status %d, want no answer:\n%s", got, p.output())
			}
		}},
		{[]string{"BOOT_MS=400"}, func(t *testing.T, p *process) {
			begin := time.Now()
			p.wait(t, "healthy", p.healthy)
			if d := time.Since(begin); d < 380*time.Millisecond {
				t.Errorf("ready after %s", d)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.env, ","), func(t *testing.T) {
			t.Parallel()
			tt.check(t, start(t, "http", tt.env...))
		})
	}
}

// rss is the resident memory of the process in bytes, 0 if unknown.
func (p *process) rss() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	var size, resident int64
	fmt.Sscan(string(b), &size, &resident)
	return resident * int64(os.Getpagesize())
}

// A broken version can also be made by a file, without touching the environment.
func TestSettingsAsFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("http")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "BREAK"), []byte("throw\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir)
	p.wait(t, "exit", p.gone)
	if !strings.Contains(p.output(), "DATABASE_URL") {
		t.Error(p.output())
	}
}

func TestLockfilesNameNoRegistry(t *testing.T) {
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(name, "package-lock.json"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil || bytes.Contains(b, []byte(`"resolved"`)) {
			t.Errorf("%s/package-lock.json has resolved addresses (%v): npm install --omit-lockfile-registry-resolved", name, err)
		}
	}
}
