//go:build linux

package supervise

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gapless"
)

// procHost is a Host that starts real processes, as children of the test.
type procHost struct {
	t      *testing.T
	mu     sync.Mutex
	procs  map[string]*Proc
	specs  map[string]Spec
	starts []string // IDs in order
	exited func(Proc)
	wg     sync.WaitGroup
}

func newProcHost(t *testing.T) *procHost {
	h := &procHost{t: t, procs: map[string]*Proc{}, specs: map[string]Spec{}, exited: func(Proc) {}}
	t.Cleanup(func() {
		list, _ := h.List(context.Background())
		for _, p := range list {
			_ = h.Signal(context.Background(), p.ID, syscall.SIGKILL)
		}
		h.wg.Wait()
		for _, s := range h.specs {
			_ = removeCgroups(s.Cgroups)
		}
	})
	return h
}

func (h *procHost) Start(_ context.Context, s Spec) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.procs[s.ID]; p != nil {
		return p.PID, nil
	}
	if err := os.MkdirAll(filepath.Dir(s.Log.Path), 0o755); err != nil {
		return 0, err
	}
	log, err := os.OpenFile(s.Log.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	argv := s.Argv
	if len(s.Cgroups) > 0 { // enter them before the program runs
		script := ""
		for _, dir := range s.Cgroups {
			script += "echo $$ > " + dir + "/cgroup.procs && "
		}
		argv = append([]string{"/bin/sh", "-c", script + `exec "$@"`, "sh"}, argv...)
	}
	c := &exec.Cmd{Path: argv[0], Args: argv, Env: s.Env, Dir: s.Dir, Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	if s.User != nil {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: s.User.UID, Gid: s.User.GID, Groups: s.User.Groups}
	}
	if s.Listen != "" {
		l, err := net.Listen("unix", s.Listen)
		if err != nil {
			return 0, err
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		defer l.Close()
		f, err := l.(*net.UnixListener).File()
		if err != nil {
			return 0, err
		}
		defer f.Close()
		c.ExtraFiles = []*os.File{f}
	}
	if err := c.Start(); err != nil {
		return 0, err
	}
	p := &Proc{ID: s.ID, PID: c.Process.Pid, Started: time.Now(), Running: true, Meta: s.Meta}
	h.procs[s.ID], h.specs[s.ID] = p, s
	h.starts = append(h.starts, s.ID)
	h.wg.Go(func() {
		_ = c.Wait()
		exit := &gapless.Exit{Code: c.ProcessState.ExitCode(), At: time.Now()}
		if ws := c.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
			exit.Signal = map[syscall.Signal]string{syscall.SIGKILL: "SIGKILL", syscall.SIGTERM: "SIGTERM", syscall.SIGABRT: "SIGABRT"}[ws.Signal()]
		}
		h.mu.Lock()
		p.Running, p.Exit = false, exit
		seen, tell := *p, h.exited
		h.mu.Unlock()
		tell(seen)
	})
	return p.PID, nil
}

func (h *procHost) Signal(_ context.Context, id string, sig syscall.Signal) error {
	h.mu.Lock()
	p := h.procs[id]
	h.mu.Unlock()
	if p == nil {
		return gapless.Errorf(gapless.NotFound, "no process %s", id)
	}
	if sig == syscall.SIGKILL {
		if table, err := readProcTable(); err == nil {
			for _, pid := range table.tree(p.PID) {
				_ = syscall.Kill(pid, sig)
			}
		}
	}
	return syscall.Kill(-p.PID, sig)
}

func (h *procHost) List(context.Context) ([]Proc, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []Proc
	for _, p := range h.procs {
		list = append(list, *p)
	}
	return list, nil
}

func (h *procHost) Forget(_ context.Context, id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.procs[id]; p != nil && p.Running {
		return errors.New("still runs")
	}
	delete(h.procs, id)
	return nil
}

func (h *procHost) listen(f func(Proc)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.exited = f
}

func (h *procHost) started() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.starts)
}

func (h *procHost) spec(id string) Spec {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.specs[id]
}

// bench is a Supervisor on real processes.
type bench struct {
	*Supervisor
	t    *testing.T
	host *procHost
	home string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, host: newProcHost(t), home: t.TempDir()}
	b.open()
	t.Cleanup(func() { b.Close() })
	return b
}

// open starts a new Supervisor on the same host, as a new daemon does.
func (b *bench) open() {
	b.Supervisor = New(Config{Host: b.host, Home: b.home, Log: slog.New(slog.NewTextHandler(testWriter{b.t}, nil))})
	b.host.listen(b.Exited)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// release makes a release whose web process is node running script, unless
// the change says otherwise.
func (b *bench) release(script string, change ...func(*gapless.Release)) *gapless.Release {
	b.t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		b.t.Skip("needs node")
	}
	tree := b.t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "app.js"), []byte(script), 0o644); err != nil {
		b.t.Fatal(err)
	}
	rel := &gapless.Release{
		App: "shop", Name: "v1", Tree: tree,
		Commands: map[string][]string{gapless.WebProcess: {"node", "app.js"}},
		Runtime:  gapless.Runtime{Name: "node", Path: node},
		Spec: gapless.App{Name: "shop",
			Processes:    []gapless.Process{{Name: gapless.WebProcess, Instances: 1}},
			StartTimeout: gapless.Duration(20 * time.Second), Grace: gapless.Duration(5 * time.Second),
		},
	}
	for _, f := range change {
		f(rel)
	}
	return rel
}

// worker makes the release's only process one that serves no HTTP.
func worker(argv ...string) func(*gapless.Release) {
	return func(r *gapless.Release) {
		r.Commands = map[string][]string{"worker": argv}
		r.Spec.Processes = []gapless.Process{{Name: "worker"}}
	}
}

func (b *bench) start(rel *gapless.Release) gapless.Instance {
	b.t.Helper()
	in := instanceOf(rel)
	if err := b.Start(b.t.Context(), in, rel, nil); err != nil {
		b.t.Fatalf("start: %v (hint: %s)", err, gapless.HintOf(err))
	}
	return in
}

func instanceOf(rel *gapless.Release) gapless.Instance {
	proc := rel.Spec.Processes[0].Name
	return gapless.Instance{ID: "shop." + rel.Name + "." + proc + ".1.a", App: "shop", Release: rel.Name, Process: proc, Slot: 1}
}

func (b *bench) get(id string) (gapless.Instance, bool) {
	for _, in := range b.Observe() {
		if in.ID == id {
			return in, true
		}
	}
	return gapless.Instance{}, false
}

// until waits until the instance looks as ok wants it.
func (b *bench) until(id, what string, ok func(gapless.Instance) bool) gapless.Instance {
	b.t.Helper()
	var in gapless.Instance
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		var there bool
		if in, there = b.get(id); there && ok(in) {
			return in
		}
	}
	log, _ := os.ReadFile(filepath.Join(b.home, "apps", "shop", "logs", "app.log"))
	b.t.Fatalf("%s never was %s; it is %+v\nlog:\n%s", id, what, in, log)
	return in
}

func (b *bench) untilState(id string, s gapless.InstanceState) gapless.Instance {
	b.t.Helper()
	return b.until(id, string(s), func(in gapless.Instance) bool { return in.State == s })
}

func (b *bench) stop(id string) gapless.Instance {
	b.t.Helper()
	if err := b.Stop(b.t.Context(), id); err != nil {
		b.t.Fatal(err)
	}
	return b.untilState(id, gapless.Stopped)
}

func wantText(t *testing.T, what, got string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("%s is %q, want it to contain %q", what, got, p)
		}
	}
}

// port is the port that a run was given.
func (b *bench) port(hostID string) int {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.processes[hostID]
	if p == nil {
		b.t.Fatalf("no run %s", hostID)
	}
	return p.port
}
