//go:build linux

package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gapless"
)

func TestExitsAreExact(t *testing.T) {
	r := start(t)
	events, err := r.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		script string
		want   gapless.Exit
	}{
		"ok":    {"exit 0", gapless.Exit{}},
		"seven": {"exit 7", gapless.Exit{Code: 7}},
		"high":  {"exit 255", gapless.Exit{Code: 255}},
		"segv":  {"kill -SEGV $$", gapless.Exit{Code: -1, Signal: "SIGSEGV"}},
		"kill":  {"kill -KILL $$", gapless.Exit{Code: -1, Signal: "SIGKILL"}},
		"term":  {"kill -TERM $$", gapless.Exit{Code: -1, Signal: "SIGTERM"}},
	}
	for id, c := range cases {
		r.sh(id, c.script)
	}
	starts, exits := 0, 0
	for exits < len(cases) {
		select {
		case p := <-events:
			if p.Running {
				starts++
				continue
			}
			exits++
			if p.Exit == nil {
				t.Fatalf("%s: no exit", p.ID)
			}
			if got, want := *p.Exit, cases[p.ID].want; got.Code != want.Code || got.Signal != want.Signal || got.OOM {
				t.Errorf("%s: %+v, want %+v", p.ID, got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no event")
		}
	}
	if starts != len(cases) {
		t.Errorf("%d starts were told, want %d", starts, len(cases))
	}
}

func TestStartHappensOnce(t *testing.T) {
	r := start(t)
	file := filepath.Join(r.dir, "started")
	var wg sync.WaitGroup
	pids := make([]int, 50)
	for i := range pids {
		wg.Go(func() {
			c := r.Client
			if i%2 == 0 { // from several connections too
				var err error
				if c, err = Dial(t.Context(), SocketPath(r.dir)); err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
			}
			p, err := c.Start(t.Context(), Spec{ID: "one", Meta: "m", Argv: []string{"/bin/sh", "-c", "echo x >>" + file + "; exec /bin/sleep 60"}})
			if err != nil {
				t.Error(err)
			}
			if !p.Running || p.Meta != "m" || p.Started.IsZero() || p.Kind != KindInstance {
				t.Errorf("got %+v", p)
			}
			pids[i] = p.PID
		})
	}
	wg.Wait()
	for _, pid := range pids {
		if pid != pids[0] || pid == 0 {
			t.Fatalf("several processes: %v", pids)
		}
	}
	var text []byte
	eventually(t, "the process says so", func() bool {
		text, _ = os.ReadFile(file)
		return len(text) > 0
	})
	if string(text) != "x\n" {
		t.Errorf("started %q", text)
	}
	// An exited one is returned too, until it is forgotten.
	if err := r.Forget(t.Context(), "one"); gapless.CodeOf(err) != gapless.Conflict {
		t.Errorf("forget of a running one: %v", err)
	}
	if err := r.Signal(t.Context(), "one", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.exit("one")
	if p := r.sh("one", "exit 3"); p.Running || p.PID != pids[0] {
		t.Errorf("start of an exited one: %+v", p)
	}
	if err := r.Forget(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if p := r.sh("one", "exit 3"); p.PID == pids[0] {
		t.Errorf("start after forget: %+v", p)
	}
	if p := r.exit("one"); p.Exit.Code != 3 {
		t.Errorf("exit %v", p.Exit)
	}
}

func TestStartErrorsSayWhatIsWrong(t *testing.T) {
	r := start(t)
	noInterpreter := filepath.Join(r.dir, "script")
	if err := os.WriteFile(noInterpreter, []byte("#!/no/such/thing\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	notText := filepath.Join(r.dir, "junk")
	if err := os.WriteFile(notText, []byte("junk"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{ID: "a"}, "no command"},
		{Spec{ID: "", Argv: []string{"/bin/true"}}, "not usable"},
		{Spec{ID: "daemon", Argv: []string{"/bin/true"}}, "belongs to a child"},
		{Spec{ID: "a", Argv: []string{"/no/such"}}, "/no/such: no such file"},
		{Spec{ID: "a", Argv: []string{"nosuch"}, Env: []string{"PATH=/bin"}}, "not in the PATH"},
		{Spec{ID: "a", Argv: []string{"/bin/true"}, Dir: "/no/dir"}, "directory /no/dir"},
		{Spec{ID: "a", Argv: []string{noInterpreter}}, "no such file"},
		{Spec{ID: "a", Argv: []string{notText}}, "exec format error"},
		{Spec{ID: "a", Argv: []string{"/bin/true"}, Cgroups: []string{r.dir}}, "not a control group"},
		{Spec{ID: "a", Argv: []string{"/bin/true"}, Log: &Log{Path: "x", Label: "l"}}, "not absolute"},
		{Spec{ID: "a", Argv: []string{"/bin/true"}, Log: &Log{Path: "/x", Label: "a b"}}, "label"},
	} {
		_, err := r.Start(t.Context(), c.spec)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want …%s…", c.spec.Argv, err, c.want)
		}
	}
	for name, cause := range map[string]error{"/no/such": fs.ErrNotExist, r.log: fs.ErrPermission, notText: syscall.ENOEXEC} {
		_, err := r.Start(t.Context(), Spec{ID: "a", Argv: []string{name}})
		if !errors.Is(err, cause) || gapless.CodeOf(err) != gapless.NotStarted {
			t.Errorf("%s: %v is not %v", name, err, cause)
		}
	}
	if list, err := r.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("something is left: %v %v", list, err)
	}
	if p := r.sh("a", "exit 0"); p.PID == 0 {
		t.Errorf("the ID is not usable after a failed start: %+v", p)
	}
}

func TestProcessesGetACleanStart(t *testing.T) {
	r := start(t)
	out := filepath.Join(r.dir, "out")
	r.run("clean", &Log{Path: filepath.Join(r.dir, "clean.log"), Label: "c"}, "/bin/sh", "-c",
		"exec >"+out+" 2>&1; ls -l /proc/self/fd; grep Sig /proc/self/status; env")
	if p := r.exit("clean"); p.Exit.Code != 0 {
		t.Fatalf("exit %v", p.Exit)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if n := strings.Count(text, "->"); n != 4 { // 0, 1, 2, and the directory that ls reads
		t.Errorf("%d descriptors:\n%s", n, text)
	}
	for _, want := range []string{"0 -> /dev/null", InstanceEnv + "=clean", "SigBlk:\t0000000000000000"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
	// 32 and 33 belong to the C library; some shells hand them down ignored.
	_, ignored, _ := strings.Cut(text, "SigIgn:\t")
	if mask, err := strconv.ParseUint(ignored[:min(len(ignored), 16)], 16, 64); err != nil || mask&^(3<<31) != 0 {
		t.Errorf("signals are ignored: %v\n%s", err, text)
	}
	if strings.Contains(text, "KEEPER_TEST_SECRET") {
		t.Error("keeper's environment reached an instance")
	}
}

func TestOrphansAreReaped(t *testing.T) {
	r := start(t)
	// The grandchild outlives its parent, becomes keeper's, and ends.
	r.sh("orphan", "(setsid sh -c 'sleep 0.2; exit 5' &) ; exit 0")
	r.exit("orphan")
	eventually(t, "no zombie and no process is left", func() bool {
		entries, _ := filepath.Glob("/proc/[0-9]*")
		for _, e := range entries {
			pid, _ := strconv.Atoi(filepath.Base(e))
			if m, ok := readMember(pid); ok && m.ppid == r.cmd.Process.Pid {
				return false
			}
		}
		return true
	})
}

func TestKillReachesTheWholeTree(t *testing.T) {
	r := start(t)
	// In the group; in a session of its own; orphaned in a session of its own;
	// and in a session of its own without its name in the environment.
	nameless := filepath.Join(r.dir, "nameless")
	r.sh("tree", "sleep 1000 & setsid sleep 1000 & (setsid sh -c 'sleep 1000 & wait' &) ; env -i setsid sleep 1000 & echo $! >"+nameless+"; wait")
	r.sh("other", "exec sleep 1000")
	var pid int
	eventually(t, "all run", func() bool {
		b, _ := os.ReadFile(nameless)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		m, _ := readMember(pid)
		return len(r.marks("tree")) == 5 && m.pgrp == pid // setsid is done
	})
	if err := r.Signal(t.Context(), "tree", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are gone", func() bool { return len(r.marks("tree")) == 0 && !alive(pid) })
	if p := r.exit("tree"); p.Exit.Signal != "SIGKILL" {
		t.Errorf("exit %v", p.Exit)
	}
	if !r.proc("other").Running {
		t.Error("another instance was hit")
	}
}

func TestTermReachesTheGroupOnly(t *testing.T) {
	r := start(t)
	r.sh("g", "setsid sleep 1000 & sleep 1000 & wait")
	eventually(t, "all run", func() bool { return len(r.marks("g")) == 3 })
	if err := r.Signal(t.Context(), "g", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if p := r.exit("g"); p.Exit.Signal != "SIGTERM" {
		t.Errorf("exit %v", p.Exit)
	}
	eventually(t, "the group is gone", func() bool { return len(r.marks("g")) == 1 })
	if err := r.Signal(t.Context(), "g", syscall.SIGTERM); err != nil {
		t.Errorf("signal to an exited one: %v", err)
	}
	// Forget kills the rest.
	if err := r.Forget(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest is gone", func() bool { return len(r.marks("g")) == 0 })
	if err := r.Signal(t.Context(), "g", syscall.SIGTERM); gapless.CodeOf(err) != gapless.NotFound {
		t.Errorf("signal to a forgotten one: %v", err)
	}
}

func TestKillAfterTheLeaderDied(t *testing.T) {
	r := start(t)
	r.sh("l", "sleep 1000 & sleep 1000 & exit 1")
	r.exit("l")
	if n := len(r.marks("l")); n != 2 {
		t.Fatalf("%d processes are left, want 2", n)
	}
	if err := r.Signal(t.Context(), "l", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the group is gone", func() bool { return len(r.marks("l")) == 0 })
}

func TestChildrenComeBack(t *testing.T) {
	exe := self(t)
	r := start(t, Child{Name: DaemonChild, Argv: []string{exe, "role:wait"}}, Child{Name: EdgeChild, Argv: []string{exe, "role:wait"}})
	eventually(t, "both run", func() bool { return r.proc("daemon").Running && r.proc("edge-1").Running })
	if p := r.proc("edge-1"); p.Kind != KindEdge || p.Generation != 1 {
		t.Errorf("edge %+v", p)
	}

	old := r.proc("daemon").PID
	killed := time.Now()
	syscall.Kill(old, syscall.SIGKILL)
	eventually(t, "a new daemon", func() bool { p := r.proc("daemon"); return p.Running && p.PID != old })
	t.Logf("daemon back after %v", time.Since(killed).Round(time.Millisecond))

	killed = time.Now()
	syscall.Kill(r.proc("edge-1").PID, syscall.SIGKILL)
	eventually(t, "a new edge", func() bool { return r.proc("edge-2").Running })
	t.Logf("edge back after %v", time.Since(killed).Round(time.Millisecond))
	if r.proc("edge-1").ID != "" {
		t.Error("the dead generation is listed")
	}

	// Only the newest comes back.
	if n, err := r.NewEdge(t.Context()); n != 3 || err != nil {
		t.Fatalf("new edge: %d %v", n, err)
	}
	if !r.proc("edge-2").Running || !r.proc("edge-3").Running {
		t.Fatal("two generations should run")
	}
	syscall.Kill(r.proc("edge-2").PID, syscall.SIGKILL)
	eventually(t, "edge-2 is gone", func() bool { return r.proc("edge-2").ID == "" })
	syscall.Kill(r.proc("edge-3").PID, syscall.SIGKILL)
	eventually(t, "edge-4", func() bool { return r.proc("edge-4").Running })
	if r.proc("edge-5").ID != "" {
		t.Error("the old generation was restarted too")
	}

	// A retired one does not.
	if err := r.Retire(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if err := r.Retire(t.Context(), 9); gapless.CodeOf(err) != gapless.NotFound {
		t.Errorf("retire of no generation: %v", err)
	}
	if err := r.Signal(t.Context(), "edge-4", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "edge-4 is gone", func() bool { return r.proc("edge-4").ID == "" })
	time.Sleep(200 * time.Millisecond) // longer than the first steps of the back-off
	if r.proc("edge-5").ID != "" {
		t.Error("a retired generation was restarted")
	}
	if n, err := r.NewEdge(t.Context()); n != 5 || err != nil {
		t.Errorf("new edge after retirement: %d %v", n, err)
	}
}

func TestChildThatDiesAtOnceIsBackedOff(t *testing.T) {
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	start(t, Child{Name: EdgeChild, Argv: []string{"/bin/sh", "-c", "echo $" + GenerationEnv + " >>" + count + "; exit 1"}})
	time.Sleep(time.Second)
	b, err := os.ReadFile(count)
	if err != nil {
		t.Fatal(err)
	}
	// 0, 0, 50, 150, 350, 750 ms
	lines := strings.Fields(string(b))
	if len(lines) < 3 || len(lines) > 8 {
		t.Errorf("started %d times in a second", len(lines))
	}
	for i, l := range lines {
		if l != strconv.Itoa(i+1) {
			t.Errorf("generations %v", lines)
		}
	}
}

func TestListenerOutlivesItsUsers(t *testing.T) {
	r := start(t)
	addr := freeAddr(t)
	for range 2 {
		if err := r.Listen(t.Context(), addr); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := r.Listeners(t.Context()); err != nil || len(got) != 1 || got[0] != addr {
		t.Errorf("listeners %v %v", got, err)
	}
	r.run("a", nil, self(t), "role:accept", SocketPath(r.dir), addr)
	if pid := askPID(t, addr); pid != r.proc("a").PID {
		t.Errorf("answered by %d", pid)
	}
	r.Signal(t.Context(), "a", syscall.SIGKILL)
	r.exit("a")
	// Nobody accepts, but nobody is refused either.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("refused while nobody serves: %v", err)
	}
	defer conn.Close()
	b := r.run("b", nil, self(t), "role:accept", SocketPath(r.dir), addr)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != strconv.Itoa(b.PID) {
		t.Errorf("the waiting connection got %q %v, want %d", line, err, b.PID)
	}
	if err := r.Unlisten(t.Context(), addr); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Listener(t.Context(), addr); gapless.CodeOf(err) != gapless.NotFound {
		t.Errorf("listener after unlisten: %v", err)
	}
	r.Signal(t.Context(), "b", syscall.SIGKILL)
	r.exit("b")
	eventually(t, "the port is closed", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

func askPID(t *testing.T, addr string) int {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

func TestListenIsDualStack(t *testing.T) {
	r := start(t)
	_, port, _ := net.SplitHostPort(freeAddr(t))
	if err := r.Listen(t.Context(), ":"+port); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			if host == "::1" {
				t.Skipf("no IPv6 here: %v", err)
			}
			t.Fatal(err)
		}
		conn.Close()
	}
	ln, err := r.Listener(t.Context(), ":"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, _ := ln.(*net.TCPListener).SyscallConn()
	raw.Control(func(fd uintptr) {
		if v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL); v != unix.IPPROTO_TCP || err != nil {
			t.Errorf("protocol %d %v, want plain TCP", v, err)
		}
		if v, err := unix.FcntlInt(fd, unix.F_GETFD, 0); v&unix.FD_CLOEXEC == 0 || err != nil {
			t.Errorf("flags %d %v: not close-on-exec", v, err)
		}
	})
}

func TestListenErrorsHaveHints(t *testing.T) {
	r := start(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = r.Listen(t.Context(), ln.Addr().String())
	if gapless.CodeOf(err) != gapless.Conflict || !strings.Contains(gapless.HintOf(err), fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("%v, hint %q; want our pid", err, gapless.HintOf(err))
	}
	err = r.Listen(t.Context(), "8080")
	if gapless.CodeOf(err) != gapless.Invalid || gapless.HintOf(err) == "" {
		t.Errorf("%v, hint %q", err, gapless.HintOf(err))
	}
	err = explainListen(":80", "80", &os.SyscallError{Syscall: "bind", Err: unix.EACCES})
	if gapless.CodeOf(err) != gapless.NotAllowed || !strings.Contains(gapless.HintOf(err), "setcap") || !strings.Contains(gapless.HintOf(err), "ip_unprivileged_port_start=80") {
		t.Errorf("%v, hint %q", err, gapless.HintOf(err))
	}
}

func TestBlobs(t *testing.T) {
	r := start(t)
	ctx := t.Context()
	if _, err := r.Get(ctx, "k"); gapless.CodeOf(err) != gapless.NotFound {
		t.Errorf("get of nothing: %v", err)
	}
	big := []byte(strings.Repeat("\x00\xff{\n", maxValue/4))
	if err := r.Put(ctx, "k", big); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Get(ctx, "k"); err != nil || string(got) != string(big) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if err := r.Put(ctx, "k", append(big, 'x')); gapless.CodeOf(err) != gapless.Invalid {
		t.Errorf("too big: %v", err)
	}
	if err := r.Put(ctx, "k", make([]byte, 7<<20)); gapless.CodeOf(err) != gapless.Invalid {
		t.Errorf("much too big: %v", err)
	}
	for i := range maxKeys - 1 {
		if err := r.Put(ctx, strconv.Itoa(i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Put(ctx, "more", []byte("v")); gapless.CodeOf(err) != gapless.Conflict {
		t.Errorf("too many: %v", err)
	}
	if err := r.Put(ctx, "0", nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Put(ctx, "more", []byte("v")); err != nil {
		t.Errorf("after one was deleted: %v", err)
	}
}

func TestOneKeeperPerDirectory(t *testing.T) {
	r := start(t)
	cfg, _ := json.Marshal(Config{RunDir: r.dir})
	out, err := exec.Command(self(t), "role:keeper", string(cfg)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "conflict another keeper runs") || !strings.Contains(string(out), strconv.Itoa(r.cmd.Process.Pid)) {
		t.Errorf("second keeper: %v %s", err, out)
	}
	info, err := r.Hello(t.Context())
	if err != nil || info != (Info{Protocol, r.cmd.Process.Pid, "test", self(t)}) {
		t.Errorf("hello: %+v %v", info, err)
	}
	fi, err := os.Stat(SocketPath(r.dir))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket %v %v", fi.Mode(), err)
	}
}

func TestShutdownLeavesNothing(t *testing.T) {
	exe := self(t)
	r := start(t, Child{Name: DaemonChild, Argv: []string{exe, "role:wait"}}, Child{Name: EdgeChild, Argv: []string{exe, "role:wait"}})
	order, set := filepath.Join(r.dir, "order"), filepath.Join(r.dir, "set")
	r.sh("polite", "trap 'echo polite >>"+order+"; exit 0' TERM; >"+set+"1; while :; do sleep 0.02; done")
	r.sh("stubborn", "trap '' TERM; >"+set+"2; while :; do sleep 0.02; done")
	nameless := filepath.Join(r.dir, "nameless") // nor in the group, nor below
	r.sh("wild", "(setsid env -i sh -c 'echo $$ >"+nameless+"; exec sleep 1000' &); exec sleep 1000")
	if err := r.Listen(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "children run", func() bool { return r.proc("daemon").Running && r.proc("edge-1").Running })
	list, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "edge-1.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var wild int
	eventually(t, "traps are set", func() bool {
		b, _ := os.ReadFile(nameless)
		wild, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		files, _ := filepath.Glob(set + "?")
		return wild > 0 && len(files) == 2
	})
	list = append(list, Proc{ID: "the escaped one", PID: wild})
	if !alive(wild) {
		t.Fatal("it should run")
	}
	begin := time.Now()
	if err := r.Shutdown(t.Context(), 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("shutdown took %v", took)
	}
	for _, p := range list {
		if alive(p.PID) {
			t.Errorf("%s is still there", p.ID)
		}
	}
	names, _ := filepath.Glob(filepath.Join(r.dir, "*.sock"))
	if len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("keeper ended: %v", err)
	}
	if b, _ := os.ReadFile(order); string(b) != "polite\n" {
		t.Errorf("the polite one said %q", b)
	}
	if _, err := r.Hello(t.Context()); gapless.CodeOf(err) != gapless.Unavailable {
		t.Errorf("hello after the end: %v", err)
	}
}

func TestSignalsToKeeper(t *testing.T) {
	r := start(t)
	p := r.sh("i", "trap 'exit 0' TERM; while :; do sleep 0.02; done")
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGPIPE} {
		syscall.Kill(r.cmd.Process.Pid, s)
	}
	if _, err := r.Hello(t.Context()); err != nil {
		t.Fatalf("after SIGHUP and SIGPIPE: %v", err)
	}
	syscall.Kill(r.cmd.Process.Pid, syscall.SIGTERM)
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("keeper ended: %v", err)
	}
	if alive(p.PID) {
		t.Error("the instance is still there")
	}
}

func TestReadyIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	pc, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	r := start(t)
	b := make([]byte, 100)
	pc.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, _, err := pc.ReadFrom(b)
	if want := fmt.Sprintf("READY=1\nMAINPID=%d", r.cmd.Process.Pid); err != nil || string(b[:n]) != want {
		t.Errorf("got %q %v", b[:n], err)
	}
}

func TestSlowWatcherHoldsNobody(t *testing.T) {
	r := start(t)
	// A watcher that does not read.
	conn, err := dial(t.Context(), SocketPath(r.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := send(conn, 1, opWatch, noArgs{}); err != nil {
		t.Fatal(err)
	}
	events, err := r.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const n = 400 // events of 2 KiB: more than the queue and the socket hold
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := range n {
			if _, err := r.Start(t.Context(), Spec{ID: fmt.Sprint("p", i), Argv: []string{"/bin/true"}, Meta: strings.Repeat("m", 2<<10)}); err != nil {
				t.Error(err)
			}
		}
	})
	exits := 0
	for exits < n {
		select {
		case p := <-events:
			if !p.Running {
				exits++
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%d exits of %d", exits, n)
		}
	}
	// The slow one is told that it missed something.
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if b, err := io.ReadAll(conn); err != nil || len(b) == 0 {
		t.Errorf("the slow watcher read %d bytes, then %v", len(b), err)
	}
}

func TestProtocolIsStrict(t *testing.T) {
	r := start(t)
	conn, err := dial(t.Context(), SocketPath(r.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	rd := bufio.NewReader(conn)
	for _, c := range []struct{ line, code, text string }{
		{`{"v":1,"id":1,"op":"dance"}`, "unsupported", `no op \"dance\"`},
		{`{"v":99,"id":2,"op":"list"}`, "unsupported", fmt.Sprintf("protocol %d, not 99", Protocol)},
		{`{"v":1,"id":3,"op":"forget","args":{"id":"x","force":true}}`, "invalid", "force"},
		{`{"v":1,"id":4,"op":"forget","args":{"id":"x"}}`, "not_found", "no process x"},
		{`{"v":1,"id":5,"op":"hello"}`, "", fmt.Sprintf(`"protocol":%d`, Protocol)},
		{`not json`, "invalid", "not understood"},
	} {
		fmt.Fprintln(conn, c.line)
		got, err := rd.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", c.line, err)
		}
		if !strings.Contains(got, c.text) || c.code != "" && !strings.Contains(got, `"code":"`+c.code+`"`) {
			t.Errorf("%s\n-> %s", c.line, got)
		}
	}
	if _, err := rd.ReadByte(); err != io.EOF {
		t.Errorf("after nonsense the connection stays: %v", err)
	}
	// A line without end.
	conn2, err := dial(t.Context(), SocketPath(r.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer conn2.Close()
	conn2.SetDeadline(time.Now().Add(20 * time.Second))
	chunk := []byte(strings.Repeat("x", 1<<20))
	sent := 0
	for sent < maxLine+(4<<20) {
		n, err := conn2.Write(chunk)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= maxLine+(4<<20) {
		t.Errorf("%d bytes without a newline were taken", sent)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	r := start(t)
	set := filepath.Join(r.dir, "set")
	r.sh("stubborn", "trap '' TERM; >"+set+"; while :; do sleep 0.02; done")
	eventually(t, "the trap is set", func() bool { _, err := os.Stat(set); return err == nil })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx, time.Second); err != context.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	if _, err := r.Hello(t.Context()); err != nil {
		t.Errorf("the connection is of no use after that: %v", err)
	}
	if _, err := r.Start(t.Context(), Spec{ID: "late", Argv: []string{"/bin/true"}}); gapless.CodeOf(err) != gapless.Unavailable {
		t.Errorf("start while shutting down: %v", err)
	}
}
