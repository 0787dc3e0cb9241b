//go:build linux

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless"
)

const goodApp = `
const http = require('http');
http.createServer((q, s) => q.url === '/env' ? s.end(JSON.stringify(process.env)) :
  q.url === '/exit' ? process.exit(7) : q.url === '/healthz' ? s.end('ok') : (s.statusCode = 404, s.end()))
  .listen(process.env.PORT, () => console.log('up'));`

func healthz(r *gapless.Release) { r.Spec.Health.Path = "/healthz" }

func TestReadyServesAndStops(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	in := b.start(b.release(goodApp, healthz))
	got := b.untilState(in.ID, gapless.Ready)
	if got.PID == 0 || !strings.HasPrefix(got.Address, "127.0.0.1:") || got.Reason != "" {
		t.Errorf("ready instance is %+v", got)
	}
	res, err := http.Get("http://" + got.Address + "/env")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	_, port, _ := net.SplitHostPort(got.Address)
	wantText(t, "environment", string(body), `"PORT":"`+port+`"`, `"GAPLESS_INSTANCE":"`+in.ID+`"`, `"NODE_ENV":"production"`)
	if n, _ := strconv.Atoi(port); n < firstPort || n > lastPort {
		t.Errorf("port %s is outside %d…%d", port, firstPort, lastPort)
	}
	if err := b.Start(t.Context(), in, b.release(goodApp), nil); err != nil || len(b.host.started()) != 1 {
		t.Errorf("starting again: %v, %v; want one process and no error", err, b.host.started())
	}
	b.Forget(in.ID)
	if _, there := b.get(in.ID); !there {
		t.Error("a running instance was forgotten")
	}
	got = b.stop(in.ID)
	if got.Exit == nil || got.Exit.Signal != "SIGTERM" || got.PID != 0 || got.Address != "" {
		t.Errorf("stopped instance is %+v, exit %v", got, got.Exit)
	}
	if list, _ := b.host.List(t.Context()); len(list) != 0 {
		t.Errorf("the host still remembers %v", list)
	}
	b.Forget(in.ID)
	if len(b.Observe()) != 0 {
		t.Errorf("after forgetting there is %v", b.Observe())
	}
	if err := b.Stop(t.Context(), in.ID); err != nil {
		t.Errorf("stopping an unknown instance: %v", err)
	}
}

func TestReadyOnIPv6LoopbackOnly(t *testing.T) {
	t.Parallel()
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6")
	} else {
		l.Close()
	}
	b := newBench(t)
	in := b.start(b.release(`require('http').createServer((q,s)=>s.end()).listen(process.env.PORT,'::1')`))
	wantText(t, "address", b.untilState(in.ID, gapless.Ready).Address, "[::1]:")
}

func TestWrongPortIsToldAndTakenEarly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other, err := newPorts().take()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	in := b.start(b.release(fmt.Sprintf(`require('http').createServer((q,s)=>s.end()).listen(%d)`, other)))
	got := b.until(in.ID, "told", func(in gapless.Instance) bool { return in.Reason != "" })
	if got.State != gapless.Starting || time.Since(begin) < 3*time.Second {
		t.Errorf("told after %s: %+v", time.Since(begin), got)
	}
	port := strconv.Itoa(b.port(in.ID))
	wantText(t, "reason", got.Reason, fmt.Sprintf("listens on %d, but was given port %s in PORT", other, port))
	wantText(t, "hint", got.Hint, "process.env.PORT", "--port $PORT")
	got = b.untilState(in.ID, gapless.Crashed)
	if d := time.Since(begin); d > 12*time.Second {
		t.Errorf("taken down after %s only", d)
	}
	wantText(t, "reason", got.Reason, fmt.Sprintf("listens on %d", other))
	b.stop(in.ID)
}

func TestAnotherPortFirstIsNoFault(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other, err := newPorts().take()
	if err != nil {
		t.Fatal(err)
	}
	// A metrics port that knows nothing of the app, then the real one after 7 s.
	in := b.start(b.release(fmt.Sprintf(`const h=require('http');h.createServer((q,s)=>{s.statusCode=404;s.end()}).listen(%d);
		setTimeout(()=>h.createServer((q,s)=>s.end()).listen(process.env.PORT),7000)`, other)))
	got := b.untilState(in.ID, gapless.Ready)
	if got.Restarts != 0 || got.Reason != "" {
		t.Errorf("instance is %+v, want no restart and no reason", got)
	}
}

func TestNotReadyInTime(t *testing.T) {
	for _, c := range []struct{ name, script, reason, hint string }{
		{"never listens", `setInterval(()=>{},1000)`, "not ready within 2 s: listens on no port, and was given port", "process.env.PORT"},
		{"other address", `require('http').createServer((q,s)=>s.end()).listen(process.env.PORT,'127.0.0.9')`, "listens on 127.0.0.9:", "listen on 127.0.0.1"},
		{"404", `require('http').createServer((q,s)=>{s.statusCode=404;s.end()}).listen(process.env.PORT)`, "GET /healthz answered 404", "health.path"},
		{"500", `require('http').createServer((q,s)=>{s.statusCode=500;s.end()}).listen(process.env.PORT)`, "GET /healthz answered 500", "log"},
		{"hangs", `require('http').createServer(()=>{}).listen(process.env.PORT)`, "GET /healthz did not answer within 0.3 s", "health.timeout"},
		{"no http", `require('net').createServer(c=>c.on('error',()=>{}).end('hi\\r\\n')).listen(process.env.PORT)`, "GET /healthz got no HTTP answer", "plain HTTP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			in := b.start(b.release(c.script, healthz, func(r *gapless.Release) {
				r.Spec.StartTimeout = gapless.Duration(2 * time.Second)
				r.Spec.Health.Timeout = gapless.Duration(300 * time.Millisecond)
			}))
			got := b.until(in.ID, "crashed", func(in gapless.Instance) bool { return in.State == gapless.Crashed && in.PID == 0 })
			wantText(t, "reason", got.Reason, c.reason)
			wantText(t, "hint", got.Hint, c.hint)
			b.stop(in.ID)
		})
	}
}

func TestPortHeldByAnother(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	// The app gives its port to a program outside of its process tree: this test.
	in := b.start(b.release(`setInterval(()=>{},1000)`))
	port := b.port(in.ID)
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := b.until(in.ID, "crashed", func(in gapless.Instance) bool { return in.State == gapless.Crashed })
	wantText(t, "reason", got.Reason, "another program (", "pid "+strconv.Itoa(os.Getpid())+")", "holds port "+strconv.Itoa(port))
	b.until(in.ID, "restarted", func(in gapless.Instance) bool { return in.Restarts == 1 && in.PID != 0 })
	if b.port(in.ID+"#1") == port {
		t.Errorf("the restart got port %d again", port)
	}
}

func TestThrowsAtStartBacksOff(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	in := b.start(b.release(`throw new Error('no database')`))
	got := b.untilState(in.ID, gapless.Crashed)
	wantText(t, "reason", got.Reason, "exited with code 1 after 0.")
	got = b.until(in.ID, "restarted 3 times", func(in gapless.Instance) bool { return in.Restarts == 3 })
	if got.Exit == nil || got.Exit.Code != 1 {
		t.Errorf("exit is %v", got.Exit)
	}
	want := []string{in.ID, in.ID + "#1", in.ID + "#2"}
	if ids := b.host.started(); !slices.Equal(ids[:3], want) {
		t.Errorf("host processes are %v, want %v", ids, want)
	}
	got = b.stop(in.ID)
	wantText(t, "reason after stop", got.Reason, "exited with code 1")
}

func TestExitAfterReadyIsACrash(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	in := b.start(b.release(goodApp))
	first := b.untilState(in.ID, gapless.Ready)
	if res, err := http.Get("http://" + first.Address + "/exit"); err == nil {
		res.Body.Close()
	}
	got := b.untilState(in.ID, gapless.Crashed)
	wantText(t, "reason", got.Reason, "exited with code 7")
	if got.Address != "" || got.PID != 0 {
		t.Errorf("crashed instance is %+v", got)
	}
	second := b.untilState(in.ID, gapless.Ready)
	if second.Address == first.Address || second.Restarts != 1 || second.PID == first.PID {
		t.Errorf("after the restart it is %+v", second)
	}
	list, _ := b.host.List(t.Context())
	if len(list) != 1 || list[0].ID != in.ID+"#1" {
		t.Errorf("the host remembers %v", list)
	}
}

func TestCrashLeavesNoChildren(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	in := b.start(b.release(`const c=require('child_process').spawn('sleep',['600']);
		require('fs').appendFileSync('pids', c.pid+' ');setTimeout(()=>process.exit(1),100)`))
	b.untilState(in.ID, gapless.Crashed)
	pids, err := os.ReadFile(filepath.Join(b.host.spec(in.ID).Dir, "pids"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.Fields(string(pids))[0])
	waitGone(t, pid)
	b.stop(in.ID)
}

func TestListenerGoneIsACrash(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	in := b.start(b.release(`const s=require('http').createServer((q,r)=>r.end()).listen(process.env.PORT);
		setTimeout(()=>s.close(),500);setInterval(()=>{},1000)`))
	b.untilState(in.ID, gapless.Ready)
	got := b.until(in.ID, "crashed", func(in gapless.Instance) bool { return in.State == gapless.Crashed })
	wantText(t, "reason", got.Reason, "stopped listening on port")
}

func TestStopKillsWhatIgnoresSIGTERM(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	// The parent and a child ignore SIGTERM; a grandchild has left the process group.
	in := b.start(b.release(`
process.on('SIGTERM',()=>{});
const {spawn}=require('child_process');
const a=spawn('sh',['-c','trap "" TERM; while :; do sleep 1; done']);
const c=spawn('sleep',['600'],{detached:true});
require('fs').writeFileSync('pids', a.pid+' '+c.pid);
require('http').createServer((q,r)=>r.end()).listen(process.env.PORT)`,
		func(r *gapless.Release) { r.Spec.Grace = gapless.Duration(500 * time.Millisecond) }))
	ready := b.untilState(in.ID, gapless.Ready)
	pids, err := os.ReadFile(filepath.Join(b.host.spec(in.ID).Dir, "pids"))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := b.Stop(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	b.untilState(in.ID, gapless.Stopping)
	got := b.untilState(in.ID, gapless.Stopped)
	if d := time.Since(begin); d < 500*time.Millisecond || got.Exit.Signal != "SIGKILL" {
		t.Errorf("stopped after %s with %v, want SIGKILL after the grace", d, got.Exit)
	}
	for _, f := range append(strings.Fields(string(pids)), strconv.Itoa(ready.PID)) {
		pid, _ := strconv.Atoi(f)
		waitGone(t, pid)
	}
}

func TestStopWaitsForChildrenOfAShell(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	// The shell dies of SIGTERM at once; the worker needs 300 ms to finish.
	in := b.start(b.release(`
process.on('SIGTERM',()=>setTimeout(()=>{require('fs').writeFileSync('done','1');process.exit(0)},300));
require('fs').writeFileSync('up','1');setInterval(()=>{},1000)`, worker("sh", "-c", "node app.js; true")))
	dir := b.host.spec(in.ID).Dir
	waitFile(t, filepath.Join(dir, "up"))
	b.stop(in.ID)
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil {
		t.Error("the child of the shell was killed before it had finished")
	}
}

func TestWorkerIsReadyWhenAlive(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	begin := time.Now()
	in := b.start(b.release(``, worker("sleep", "600")))
	got := b.untilState(in.ID, gapless.Ready)
	if time.Since(begin) < aliveFor || got.Address != "" {
		t.Errorf("ready after %s: %+v", time.Since(begin), got)
	}
	if got = b.stop(in.ID); got.Label() != "v1/worker.1" {
		t.Errorf("label is %s", got.Label())
	}
}

func TestCannotStart(t *testing.T) {
	for _, c := range []struct {
		name         string
		change       func(*gapless.Release)
		reason, hint string
	}{
		{"no such program", worker("no-such-program", "x"), "cannot start no-such-program: there is no such program in PATH", "PATH="},
		{"no such file", worker("./bin/server"), "cannot start ./bin/server: there is no file", "run:"},
		{"not executable", worker("./app.js"), "the file is not executable", "chmod +x"},
		{"unset variable", worker("sleep", "$Seconds"), "uses $Seconds, which is not set", "env:"},
		{"runtime gone", func(r *gapless.Release) { r.Runtime.Path = "/nowhere/node" }, "is gone: /nowhere/node", "deploy"},
		{"interpreter gone", func(r *gapless.Release) {
			worker("./script")(r)
			if err := os.WriteFile(filepath.Join(r.Tree, "script"), []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
				panic(err)
			}
		}, "a file is missing", "first line"},
		{"no such user", func(r *gapless.Release) { r.Spec.User = "no-such-user" }, "user no-such-user does not exist", "useradd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			rel := b.release(``, c.change)
			in := instanceOf(rel)
			err := b.Start(t.Context(), in, rel, nil)
			if err == nil {
				t.Fatal("no error")
			}
			wantText(t, "error", err.Error(), c.reason)
			wantText(t, "hint", gapless.HintOf(err), c.hint)
			got := b.untilState(in.ID, gapless.Failed)
			if got.Reason != err.Error() || got.PID != 0 {
				t.Errorf("failed instance is %+v", got)
			}
			if len(b.host.started()) != 0 {
				t.Errorf("started %v", b.host.started())
			}
			b.stop(in.ID)
			b.Forget(in.ID)
			if len(b.Observe()) != 0 {
				t.Error("it is still there")
			}
		})
	}
}

func TestRunAsUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b := newBench(t)
	rel := b.release(`require('http').createServer((q,s)=>s.end(process.getuid()+' '+process.env.USER+' '+process.env.HOME)).listen(process.env.PORT)`,
		func(r *gapless.Release) { r.Spec.User = "nobody" })
	for dir := rel.Tree; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	nobody, err := LookupUser("nobody")
	if err != nil {
		t.Skip("no user nobody")
	}
	in := b.start(rel)
	got := b.untilState(in.ID, gapless.Ready)
	res, err := http.Get("http://" + got.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if want := fmt.Sprintf("%d nobody %s", nobody.UID, nobody.Home); string(body) != want {
		t.Errorf("it runs as %q, want %q", body, want)
	}
}

func TestRunAsUserWhoMayNotEnter(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b := newBench(t)
	rel := b.release(goodApp, func(r *gapless.Release) { r.Spec.User = "nobody" })
	if err := os.Chmod(rel.Tree, 0o700); err != nil {
		t.Fatal(err)
	}
	err := b.Start(t.Context(), instanceOf(rel), rel, nil)
	if err == nil {
		t.Fatal("no error")
	}
	wantText(t, "error", err.Error(), "permission denied")
	wantText(t, "hint", gapless.HintOf(err), "user nobody must be able to enter "+rel.Tree)
}

func TestStopOfWhatTheHostForgot(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	in := b.start(b.release(goodApp))
	got := b.untilState(in.ID, gapless.Ready)
	b.host.mu.Lock()
	delete(b.host.procs, in.ID) // as after the host was replaced
	b.host.mu.Unlock()
	b.host.listen(func(Proc) {})
	stopped := b.stop(in.ID)
	waitGone(t, got.PID)
	if stopped.Exit.String() != "ended, exit code unknown" {
		t.Errorf("exit is %v", stopped.Exit)
	}
}

func TestHostThatCannotBeAskedIsAskedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Close()
	flaky := &flakyHost{procHost: b.host, refuse: 3}
	b.Supervisor = New(Config{Host: flaky, Home: b.home})
	b.host.listen(b.Exited)
	in := b.start(b.release(goodApp))
	b.untilState(in.ID, gapless.Ready)
	if flaky.refuse != 0 || len(b.host.started()) != 1 {
		t.Errorf("%d refusals left, started %v", flaky.refuse, b.host.started())
	}
}

func TestStartDoesNotWaitForAHostThatIsAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Close()
	b.Supervisor = New(Config{Host: awayHost{b.host}, Home: b.home})
	in := b.start(b.release(goodApp)) // without an error
	if got, _ := b.get(in.ID); got.State != gapless.Starting || got.PID != 0 {
		t.Errorf("instance is %+v", got)
	}
	if err := b.Stop(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	b.untilState(in.ID, gapless.Stopped)
}

// awayHost cannot be asked to start anything.
type awayHost struct{ *procHost }

func (awayHost) Start(context.Context, Spec) (int, error) {
	return 0, gapless.Errorf(gapless.Unavailable, "the keeper is away")
}

func TestCgroupsThatCannotBeEntered(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Close()
	b.Supervisor = New(Config{Host: strictHost{b.host}, Home: b.home})
	b.host.listen(b.Exited)
	if b.Capabilities(); b.limits.cpu == nil {
		t.Skip("no cpu cgroup here")
	}
	in := b.start(b.release(goodApp, limit(0, 1)))
	b.untilState(in.ID, gapless.Ready)
	if got := b.host.spec(in.ID).Cgroups; len(got) != 0 {
		t.Errorf("started in %v", got)
	}
}

// strictHost may not put processes into cgroups.
type strictHost struct{ *procHost }

func (h strictHost) Start(ctx context.Context, s Spec) (int, error) {
	if len(s.Cgroups) > 0 {
		return 0, gapless.Errorf(gapless.NotStarted, "join control group: %w", syscall.EBUSY)
	}
	return h.procHost.Start(ctx, s)
}

// flakyHost starts processes but loses the answer the first times.
type flakyHost struct {
	*procHost
	refuse int
}

func (h *flakyHost) Start(ctx context.Context, s Spec) (int, error) {
	pid, err := h.procHost.Start(ctx, s)
	if h.refuse > 0 {
		h.refuse--
		return 0, gapless.Errorf(gapless.Unavailable, "the keeper is away")
	}
	return pid, err
}

func TestExitNobodyReportedIsFound(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.host.listen(func(Proc) {})
	in := b.start(b.release(goodApp))
	got := b.untilState(in.ID, gapless.Ready)
	if err := syscall.Kill(got.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	got = b.untilState(in.ID, gapless.Crashed)
	wantText(t, "reason", got.Reason, "was killed by SIGKILL")
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		table, err := readProcTable()
		if err != nil {
			t.Fatal(err)
		}
		if p, there := table[pid]; !there || p.zombie {
			return
		}
	}
	t.Errorf("process %d (%s) is still alive", pid, programName(pid))
}

func waitFile(t *testing.T, file string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil || !errors.Is(err, os.ErrNotExist) {
			return
		}
	}
	t.Fatalf("%s never appeared", file)
}
