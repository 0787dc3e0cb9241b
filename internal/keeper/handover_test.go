//go:build linux

package keeper

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless"
)

// counting prints numbered lines for as long as the file stop does not exist,
// then the last one and "end", and exits with 7.
const counting = `i=0; while [ ! -e %s ]; do i=$((i+1)); echo "line $i of the count"; done; echo "end $i"; exit 7`

// counted checks that a log has every line of counting, in order. Lines that
// are there twice, or a second time because they were cut, are returned.
func counted(t *testing.T, path string) (lines, twice int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last, end := 0, -1
	for _, l := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		_, text, _ := strings.Cut(l, " out ")
		var n int
		if _, err := fmt.Sscanf(text, "line %d of the count", &n); err == nil {
			switch {
			case n == last+1:
				last = n
			case n <= last:
				twice++
			default:
				t.Fatalf("after line %d came %q", last, l)
			}
		} else if _, err := fmt.Sscanf(text, "end %d", &end); err != nil {
			twice++ // cut: if it does not come again, a number is missing
		}
	}
	if end != last && !strings.Contains(string(b), fmt.Sprintf(" out end %d\n", last)) {
		t.Errorf("the last line is %d, the count ended at %d", last, end)
	}
	return last, twice
}

func TestUpgradeKeepsEverything(t *testing.T) {
	exe := self(t)
	r := start(t, Child{Name: DaemonChild, Argv: []string{exe, "role:wait"}}, Child{Name: EdgeChild, Argv: []string{exe, "role:wait"}})
	ctx := t.Context()
	addr := freeAddr(t)
	if err := r.Listen(ctx, addr); err != nil {
		t.Fatal(err)
	}
	if err := r.Put(ctx, "table", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	stop, log := filepath.Join(r.dir, "stop"), filepath.Join(r.dir, "count.log")
	r.run("count", &Log{Path: log, Label: "c"}, "/bin/sh", "-c", fmt.Sprintf(counting, stop))
	r.sh("short", "exit 5")
	r.exit("short")
	r.Patient(10 * time.Second)
	eventually(t, "the children run", func() bool { return r.proc("daemon").Running && r.proc("edge-1").Running })
	before := map[string]Proc{}
	for _, id := range []string{"count", "short", "daemon", "edge-1"} {
		before[id] = r.proc(id)
	}

	// A second name for the same program, so that there is something to see.
	other := filepath.Join(r.dir, "other")
	if out, err := exec.Command("cp", exe, other).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for i := range 6 {
		path := []string{other, exe}[i%2]
		dying := fmt.Sprint("dying", i)
		r.sh(dying, "sleep 0.0"+fmt.Sprint(i+1)+"; exit 9") // may end while keeper is neither
		began := time.Now()
		if err := r.Upgrade(ctx, path); err != nil {
			t.Fatal(err)
		}
		t.Logf("upgrade in %v", time.Since(began).Round(time.Millisecond))
		info, err := r.Hello(ctx)
		if err != nil || info.PID != r.cmd.Process.Pid || info.Binary != path {
			t.Fatalf("hello: %+v %v", info, err)
		}
		for id, p := range before {
			if now := r.proc(id); now.PID != p.PID || now.Running != p.Running || !now.Started.Equal(p.Started) {
				t.Errorf("%s was %+v, is %+v", id, p, now)
			}
		}
		if p := r.exit(dying); p.Exit.Code != 9 {
			t.Errorf("%s: %v", dying, p.Exit)
		}
		if v, err := r.Get(ctx, "table"); err != nil || string(v) != "hello" {
			t.Errorf("blob %q %v", v, err)
		}
	}
	if conn, err := net.Dial("tcp", addr); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	if p := r.proc("short"); p.Exit == nil || p.Exit.Code != 5 {
		t.Errorf("short %+v", p)
	}
	os.WriteFile(stop, nil, 0o600)
	if p := r.exit("count"); p.Exit.Code != 7 {
		t.Errorf("count: %v", p.Exit)
	}
	eventually(t, "the end is logged", func() bool { b, _ := os.ReadFile(log); return strings.Contains(string(b), " end ") })
	lines, twice := counted(t, log)
	t.Logf("%d lines", lines)
	if twice > 0 {
		t.Errorf("%d lines twice", twice)
	}
	// Children are still children: they are restarted.
	old := r.proc("daemon").PID
	syscall.Kill(old, syscall.SIGKILL)
	eventually(t, "a new daemon", func() bool { p := r.proc("daemon"); return p.Running && p.PID != old })
	if err := r.Unlisten(ctx, addr); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal("somebody still holds the socket:", err)
	}
	ln.Close()
}

func TestUpgradeToNonsense(t *testing.T) {
	r := start(t)
	log := filepath.Join(r.dir, "count.log")
	stop := filepath.Join(r.dir, "stop")
	r.run("count", &Log{Path: log, Label: "c"}, "/bin/sh", "-c", fmt.Sprintf(counting, stop))
	text := filepath.Join(r.dir, "text")
	os.WriteFile(text, []byte("no program"), 0o755)
	for path, want := range map[string]gapless.Code{"relative": gapless.Invalid, "/nowhere": gapless.Invalid, text: gapless.Invalid} {
		if err := r.Upgrade(t.Context(), path); gapless.CodeOf(err) != want {
			t.Errorf("upgrade to %s: %v", path, err)
		}
	}
	os.WriteFile(stop, nil, 0o600)
	if p := r.exit("count"); p.Exit.Code != 7 {
		t.Errorf("count: %v", p.Exit)
	}
	if _, twice := counted(t, log); twice > 0 {
		t.Errorf("%d lines twice", twice)
	}
}

// holding makes the test a holder that starts keeper again.
func (r *rig) holding() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	args := r.cmd.Args
	h := &Holder{RunDir: r.dir, Log: slog.New(slog.NewTextHandler(r.t.Output(), nil)), Revive: func() error {
		cmd := exec.Command(args[0], args[1:]...)
		out, err := os.OpenFile(r.log, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr, cmd.Env = out, out, r.cmd.Env
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		r.cmd.Wait()
		r.cmd = cmd
		return nil
	}}
	go func() {
		defer close(done)
		if err := h.Run(ctx); err != nil {
			r.t.Errorf("holder: %v", err)
		}
	}()
	r.t.Cleanup(func() { cancel(); <-done })
	eventually(r.t, "the holder has everything", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.whole
	})
}

func TestKilledKeeperIsReplaced(t *testing.T) {
	exe := self(t)
	r := start(t, Child{Name: DaemonChild, Argv: []string{exe, "role:wait"}}, Child{Name: EdgeChild, Argv: []string{exe, "role:wait"}})
	r.Patient(10 * time.Second)
	ctx := t.Context()
	r.holding()
	addr := freeAddr(t)
	if err := r.Listen(ctx, addr); err != nil {
		t.Fatal(err)
	}
	if err := r.Put(ctx, "table", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	stop, log := filepath.Join(r.dir, "stop"), filepath.Join(r.dir, "count.log")
	r.run("count", &Log{Path: log, Label: "c"}, "/bin/sh", "-c", fmt.Sprintf(counting, stop))
	r.sh("known", "exit 5")
	r.exit("known")
	left := r.sh("left", "(trap '' TERM; exec sleep 300) & echo; exec sleep 300") // a family
	eventually(t, "the children run", func() bool { return r.proc("daemon").Running && r.proc("edge-1").Running })
	before := map[string]Proc{}
	for _, id := range []string{"count", "left", "known", "daemon", "edge-1"} {
		before[id] = r.proc(id)
	}
	for i := range 5 {
		lost := r.sh(fmt.Sprint("lost", i), "exec sleep 300")
		info, err := r.Hello(ctx)
		if err != nil {
			t.Fatal(err)
		}
		syscall.Kill(info.PID, syscall.SIGKILL)
		syscall.Kill(lost.PID, syscall.SIGKILL)
		killed := time.Now()
		if conn, err := net.Dial("tcp", addr); err != nil {
			t.Errorf("the socket is closed: %v", err)
		} else {
			conn.Close()
		}
		now := info
		eventually(t, "another keeper", func() bool {
			now, err = r.Hello(ctx)
			return err == nil && now.PID != info.PID
		})
		t.Logf("another keeper after %v", time.Since(killed).Round(time.Millisecond))
		for id, p := range before {
			if now := r.proc(id); now.PID != p.PID || now.Running != p.Running || !now.Started.Equal(p.Started) {
				t.Errorf("%s was %+v, is %+v", id, p, now)
			}
		}
		if p := r.exit(lost.ID); p.Exit.Code != -1 {
			t.Errorf("exit of one that ended meanwhile: %v", p.Exit)
		}
		if v, err := r.Get(ctx, "table"); err != nil || string(v) != "hello" {
			t.Errorf("blob %q %v", v, err)
		}
		if p := r.sh(fmt.Sprint("child", i), "exit 3"); r.exit(p.ID).Exit.Code != 3 {
			t.Errorf("its own child: %+v", r.proc(p.ID))
		}
	}
	if p := r.proc("known"); p.Exit == nil || p.Exit.Code != 5 {
		t.Errorf("known %+v", p)
	}
	// Signals and the end of a process that is not its child.
	if err := r.Signal(ctx, left.ID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if p := r.exit(left.ID); p.Exit.Code != -1 {
		t.Errorf("left: %v", p.Exit)
	}
	eventually(t, "its family is gone", func() bool { return len(r.marks("left")) == 0 })
	if err := r.Forget(ctx, left.ID); err != nil {
		t.Error(err)
	}
	os.WriteFile(stop, nil, 0o600)
	if p := r.exit("count"); p.Exit.Code != -1 {
		t.Errorf("count: %v", p.Exit)
	}
	eventually(t, "the end is logged", func() bool { b, _ := os.ReadFile(log); return strings.Contains(string(b), " end ") })
	lines, twice := counted(t, log)
	t.Logf("%d lines, %d of them twice", lines, twice)

	// The daemon and the newest edge come back although others forked them.
	old := r.proc("daemon").PID
	syscall.Kill(old, syscall.SIGKILL)
	eventually(t, "a new daemon", func() bool { p := r.proc("daemon"); return p.Running && p.PID != old })
	syscall.Kill(before["edge-1"].PID, syscall.SIGKILL)
	eventually(t, "a new edge", func() bool { return r.proc("edge-2").Running })
	if err := r.Unlisten(ctx, addr); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal("somebody still holds the socket:", err)
	}
	ln.Close()
}

func TestSystemdFollowsTheReplacement(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	pc, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	told := func() string {
		t.Helper()
		b := make([]byte, 100)
		pc.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, _, err := pc.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	r := start(t)
	first := told()
	r.holding()
	r.Patient(10 * time.Second)
	info, err := r.Hello(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(info.PID, syscall.SIGKILL)
	second := told()
	if info, err = r.Hello(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("READY=1\nMAINPID=%d", info.PID); second != want || first == second {
		t.Errorf("told %q, then %q, want %q", first, second, want)
	}
}

// TestHolderWithoutAnything: one that never heard a keeper neither starts one
// nor keeps others from starting one.
func TestHolderWithoutAnything(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	h := &Holder{RunDir: dir, Revive: func() error { t.Error("started a keeper"); return nil }}
	go func() { done <- h.Run(ctx) }()
	eventually(t, "it listens", func() bool { return len(holderSockets(dir)) == 1 })
	if Held(dir) {
		t.Error("there is nothing to hold")
	}
	if e := collect(dir, slog.New(slog.DiscardHandler)); e != nil {
		t.Errorf("it gave %+v", e)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(holderSockets(dir)) != 0 {
		t.Error("its socket is left")
	}
}

// TestFrozenHolderHoldsNobody: one that does not read is dropped, and gets
// everything when it reads again.
func TestFrozenHolderHoldsNobody(t *testing.T) {
	r := start(t)
	conn, err := dial(t.Context(), SocketPath(r.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := send(conn, 1, opHold, noArgs{}); err != nil {
		t.Fatal(err)
	}
	for i := range 8 { // more than a socket takes
		began := time.Now()
		if err := r.Put(t.Context(), fmt.Sprint("blob", i), make([]byte, 300<<10)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 10*holderPatience {
			t.Errorf("a holder that does not read held up keeper for %v", took)
		}
	}
	if b, err := io.ReadAll(conn); err != nil || len(b) == 0 {
		t.Errorf("the frozen holder was not dropped: %d bytes, %v", len(b), err)
	}
	r.holding()
	if !Held(r.dir) {
		t.Error("the next holder has nothing")
	}
}

// TestSecondKeeperTakesNothing: two keepers never run on one directory, also
// when a holder would give them everything.
func TestSecondKeeperTakesNothing(t *testing.T) {
	r := start(t)
	r.holding()
	cfg, _ := json.Marshal(Config{RunDir: r.dir})
	out, err := exec.Command(self(t), "role:keeper", string(cfg)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another keeper runs") {
		t.Errorf("%v %s", err, out)
	}
	if _, err := r.Hello(t.Context()); err != nil {
		t.Error(err)
	}
}
