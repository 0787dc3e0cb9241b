package fault

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/load"
	"gapless/internal/store"
	"gapless/test/rig"
)

// light is load beside which a small machine can do something else.
var light = load.Mix{KeepAlive: 30, Fresh: 15, Slow: 2, Upload: 2, WebSockets: 2}

// pids of the instances by ID.
func pids(a api.AppStatus) map[string]int {
	out := map[string]int{}
	for _, in := range a.Instances {
		out[in.ID] = in.PID
	}
	return out
}

// overwrite damages a file in its place, as a disk does.
func overwrite(t *testing.T, path string) []byte {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(bytes.Repeat([]byte{0xa5}, int(info.Size()))); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// bulk writes more events than the daemon's cache and the write-ahead log hold.
func bulk(t *testing.T, db, rollout string) {
	t.Helper()
	s, err := store.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e := gapless.Event{App: "http", Rollout: rollout, Kind: "bulk", Message: strings.Repeat("x", 3000)}
	for range 1000 {
		if _, err := s.AddEvent(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

// newDaemon waits for another daemon than the one with that pid.
func newDaemon(t *testing.T, r *rig.Rig, old int) api.Status {
	t.Helper()
	var st api.Status
	rig.Eventually(t, 20*time.Second, "another daemon answers", func() bool {
		var err error
		if st, err = r.Client().Status(context.Background()); err != nil {
			return false
		}
		for _, p := range st.Procs {
			if p.Name == "daemon" {
				return p.PID != old
			}
		}
		return false
	})
	return st
}

// TestDatabaseLost damages or removes the database in every way, under load.
// The same instances serve on, gapless knows them afterwards, says what
// happened, and deploys again; the damaged file is kept.
func TestDatabaseLost(t *testing.T) {
	for _, c := range []struct {
		name string
		old  bool // a backup of before the present release is there
		hurt func(t *testing.T, r *rig.Rig, db string) (kept []byte)
	}{
		{"overwritten while it is read", false, func(t *testing.T, r *rig.Rig, db string) []byte {
			rollout := app(t, r).Rollout.ID
			bulk(t, db, rollout)
			data := overwrite(t, db)
			for _, err := range r.Client().Events(context.Background(), rollout, 0) {
				if err != nil {
					t.Logf("reading: %v", err)
				}
			}
			return data
		}},
		{"cut short", true, func(t *testing.T, r *rig.Rig, db string) []byte {
			if err := os.Truncate(db, 5000); err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(db + "-wal")
			rig.Kill(t, r.Proc("daemon").PID)
			return nil
		}},
		{"gone", false, func(t *testing.T, r *rig.Rig, db string) []byte {
			for _, part := range []string{"", "-wal", "-shm"} {
				_ = os.Remove(db + part)
			}
			rig.Kill(t, r.Proc("daemon").PID)
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rig.New(t, "")
			serve(t, r, 2, probe)
			rig.Eventually(t, 10*time.Second, "the first backup", func() bool {
				list, _ := filepath.Glob(r.Home + "/backups/*.db")
				return len(list) == 1
			})
			r.Write("VERSION", "2")
			r.Rollout(0, "deploy")
			before := pids(whole(t, r, "v2", 2))
			if !c.old {
				if err := os.RemoveAll(r.Home + "/backups"); err != nil {
					t.Fatal(err)
				}
			}
			run := r.Load(light, "v2")
			settle()
			pid := r.Proc("daemon").PID
			kept := c.hurt(t, r, filepath.Join(r.Home, "gapless.db"))
			st := newDaemon(t, r, pid)
			if len(st.Notes) == 0 || st.Notes[0].Hint == "" {
				t.Errorf("status says nothing: %+v", st.Notes)
			}
			out := r.Must(0, "status")
			t.Logf("status:\n%s%s", out.Stderr, out.Stdout)
			if !strings.Contains(out.Stderr, "gapless restore") {
				t.Errorf("no hint")
			}
			aside, err := filepath.Glob(filepath.Join(r.Home, "gapless.db.damaged-*Z"))
			if err != nil || len(aside) != 1 && c.name != "gone" {
				t.Errorf("set aside: %v, %v", aside, err)
			}
			if kept != nil && len(aside) == 1 {
				if data, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(data, kept) {
					t.Errorf("the damaged file was changed: %v", err)
				}
			}
			after := pids(whole(t, r, "v2", 2))
			for id, pid := range before {
				if after[id] != pid {
					t.Errorf("%s had pid %d, has %d", id, pid, after[id])
				}
			}
			r.Write("VERSION", "3")
			r.Allow("v2", "v3")
			r.Rollout(0, "deploy")
			r.Allow("v3")
			whole(t, r, "v3", 2)

			// A daemon after that one remembers it until the file is deleted.
			if len(aside) == 1 {
				pid = r.Proc("daemon").PID
				rig.Kill(t, pid)
				if st := newDaemon(t, r, pid); len(st.Notes) == 0 {
					t.Error("forgotten")
				}
				if err := os.Remove(aside[0]); err != nil {
					t.Fatal(err)
				}
			}
			pid = r.Proc("daemon").PID
			rig.Kill(t, pid)
			if st := newDaemon(t, r, pid); len(st.Notes) != 0 {
				t.Errorf("still said: %+v", st.Notes)
			}
			whole(t, r, "v3", 2)
			settle()
			lossless(t, r, run, 0)
		})
	}
}

// TestEverythingLost leaves no database, no backup and no copy beside it: what
// serves is not known at all, and serves on.
func TestEverythingLost(t *testing.T) {
	r := rig.New(t, "")
	serve(t, r, 2, probe)
	run := r.Load(light, "v1")
	settle()
	if err := os.Truncate(filepath.Join(r.Home, "gapless.db"), 0); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"backups", "apps/*/env/*.release.json", "apps/*/serving.json"} {
		names, err := filepath.Glob(filepath.Join(r.Home, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // the second one finds a whole database that knows nothing
		pid := r.Proc("daemon").PID
		rig.Kill(t, pid)
		st := newDaemon(t, r, pid)
		if len(st.Apps) != 0 || len(st.Notes) != 2 || !strings.Contains(st.Notes[1].Message, "http serves on") {
			t.Errorf("status: %+v", st)
		}
		settle()
	}
	res := r.Must(1, "up")
	if !strings.Contains(res.Stderr, "the database that knew it is lost") || !strings.Contains(res.Stderr, "hint:") {
		t.Errorf("up: %s", res.Stderr)
	}
	lossless(t, r, run, 0)
}

// TestReadOnlyDisk makes the state read-only while the daemon is down, so that
// no new one can start. The app serves on, commands say why, and when the disk
// can be written to again everything is as before.
func TestReadOnlyDisk(t *testing.T) {
	r := rig.New(t, "")
	serve(t, r, 2, probe)
	before := pids(whole(t, r, "v1", 2))
	run := r.Load(light, "v1")
	settle()
	if err := syscall.Mount(r.Home, r.Home, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	mounted := true
	defer func() {
		if mounted {
			_ = syscall.Unmount(r.Home, syscall.MNT_DETACH)
		}
	}()
	if err := syscall.Mount("", r.Home, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("a mount cannot be made read-only here: %v", err)
	}
	rig.Kill(t, r.Proc("daemon").PID)
	settle()
	for _, args := range [][]string{{"status"}, {"deploy"}, {"up"}} {
		res := r.Must(1, args...)
		if !strings.Contains(res.Stderr, "read-only") || !strings.Contains(res.Stderr, "hint:") || !strings.Contains(res.Stderr, "serves on") {
			t.Errorf("gapless %s: %s", args[0], res.Stderr)
		}
	}
	if err := syscall.Unmount(r.Home, syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	mounted = false
	after := pids(whole(t, r, "v1", 2))
	for id, pid := range before {
		if after[id] != pid {
			t.Errorf("%s had pid %d, has %d", id, pid, after[id])
		}
	}
	r.Write("VERSION", "2")
	r.Allow("v1", "v2")
	r.Rollout(0, "deploy")
	r.Allow("v2")
	lossless(t, r, run, 0)
}

// TestReboot ends everything at once, as a power cut does, and starts keeper
// as the next boot does: the app comes up from the store, web before worker.
func TestReboot(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	r.Write("slow.js", "setTimeout(() => require('./server.js'), 700);\n")
	r.Write("worker.js", "console.log('worker begins'); setInterval(() => {}, 1000);\n")
	configure(r, 2, probe+"run: node slow.js\nprocesses:\n  worker: { run: node worker.js }\n  nightly: { run: node worker.js, cron: '0 3 1 1 *' }\n")
	r.Rollout(0, "up")
	r.Write("VERSION", "2")
	r.Rollout(0, "deploy")

	st := r.Look()
	var all []int
	for _, p := range st.Procs {
		all = append(all, p.PID)
	}
	for _, in := range st.Apps[0].Instances {
		if in.PID > 0 {
			all = append(all, in.PID)
		}
	}
	powerCut(t, all)
	if left := r.Strays(); len(left) > 0 {
		t.Fatalf("still there: %v", left)
	}
	// The kernel gives each boot another ID; here the store remembers another one.
	db, err := store.Open(t.Context(), filepath.Join(r.Home, "gapless.db"))
	if err != nil {
		t.Fatal(err)
	}
	var boot string
	if err := db.Note(t.Context(), "boot", &boot); err != nil || boot == "" {
		t.Errorf("the boot is not remembered: %q, %v", boot, err)
	}
	if err := db.SetNote(t.Context(), "boot", "an earlier one"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	out, err := os.OpenFile(filepath.Join(r.Home, "gapless.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(r.Exe, "keeper")
	cmd.Env = append(os.Environ(), "GAPLESS_HOME="+r.Home)
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		r.Run("down", "--all")
		<-ended
	})
	rig.Eventually(t, 20*time.Second, "everything is up again", func() bool {
		st, err := r.Client().Status(context.Background())
		if err != nil || len(st.Apps) != 1 || len(st.Apps[0].Instances) != 4 {
			return false
		}
		for _, in := range st.Apps[0].Instances {
			if in.State != "ready" || in.Release != "v2" {
				return false
			}
		}
		return true
	})
	if status, body, _, err := get(r.Address, "/", 5*time.Second); err != nil || status != 200 || body != "hello v2\n" {
		t.Errorf("%d %q %v", status, body, err)
	}
	var web, worker time.Time // first words after the boot
	for _, line := range rig.Lines(t, filepath.Join(r.Home, "apps/http/logs/app.log")) {
		at, _, _ := strings.Cut(line, " ")
		when, err := time.Parse(time.RFC3339Nano, at)
		if err != nil || when.Before(began) {
			continue
		}
		if strings.Contains(line, "listens on") && web.IsZero() {
			web = when
		}
		if strings.Contains(line, "worker begins") && worker.IsZero() {
			worker = when
		}
	}
	if web.IsZero() || worker.IsZero() || worker.Before(web) {
		t.Errorf("web listened at %s, worker began at %s", web, worker)
	}
	told := false
	for _, line := range rig.Lines(t, filepath.Join(r.Home, "gapless.log")) {
		told = told || strings.Contains(line, "the machine was started again")
	}
	if !told {
		t.Error("the log does not say that the machine was started again")
	}
}

// powerCut freezes all processes and then kills them, so that none sees
// another one die.
func powerCut(t *testing.T, pids []int) {
	t.Helper()
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range pids {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Fatalf("%s %d: %v", sig, pid, err)
			}
		}
	}
	for _, pid := range pids {
		rig.Eventually(t, 5*time.Second, "a process is gone", func() bool {
			stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
			return err != nil || bytes.Contains(stat, []byte(") Z "))
		})
	}
}
