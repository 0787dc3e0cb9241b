package fault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"gapless"
	"gapless/internal/keeper"
	"gapless/internal/load"
	"gapless/test/rig"
)

// smallDisk mounts a file system of that many MB, or skips the test.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gd-")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("gapless-test", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=755", megabytes)); err != nil {
		_ = os.Remove(dir)
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
		_ = os.Remove(dir)
	})
	return dir
}

// fill writes to a file until nothing fits any more.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDisk fills the disk that holds everything gapless keeps. The app
// serves on, its output is dropped and counted, a deployment fails clearly,
// and when there is room again all works as before.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 24)
	r := rig.New(t, "")
	r.Home = filepath.Join(disk, "h")
	r.App("http")
	r.Write("chatty.js", "require('./server.js'); let n = 0;\nsetInterval(() => console.log(`line ${++n} ` + 'x'.repeat(400)), 5);\n")
	configure(r, 2, probe+"run: node chatty.js\n")
	r.Rollout(0, "up")
	run := r.Load(load.Mix{KeepAlive: 40, Fresh: 20, Slow: 2, Upload: 2, WebSockets: 3}, "v1")
	settle()
	k, err := keeper.Dial(context.Background(), keeper.SocketPath(r.Home+"/run"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	dropped := func() (n uint64) {
		procs, err := k.List(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range procs {
			n += p.DroppedLines
		}
		return n
	}
	if n := dropped(); n != 0 {
		t.Errorf("%d lines were dropped with room on the disk", n)
	}
	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	rig.Eventually(t, 10*time.Second, "lines are dropped and counted", func() bool { return dropped() > 100 })

	r.Write("VERSION", "2")
	res := r.Must(1, "deploy")
	t.Logf("deploy on a full disk:\n%s%s", res.Stderr, res.Stdout)
	if !strings.Contains(res.Stderr, "no space left on device") && !strings.Contains(res.Stderr, "disk is full") {
		t.Errorf("the error does not name the cause:\n%s", res.Stderr)
	}
	if !strings.Contains(res.Stderr, "hint:") {
		t.Errorf("no hint:\n%s", res.Stderr)
	}
	whole(t, r, "v1", 2)
	if left, err := filepath.Glob(filepath.Join(r.Home, "apps/http/releases/*")); err != nil || len(left) != 1 {
		t.Errorf("left of the failed release: %v %v", left, err)
	}

	// Processes that die now come back all the same.
	victim := app(t, r).Instances[0]
	daemon := r.Proc("daemon")
	rig.Kill(t, daemon.PID)
	rig.Eventually(t, 20*time.Second, "a new daemon answers", func() bool {
		st, err := r.Client().Status(context.Background())
		return err == nil && len(st.Apps) == 1
	})
	whole(t, r, "v1", 2)
	settle()
	lossless(t, r, run, 0)

	rig.Kill(t, victim.PID)
	rig.Eventually(t, 10*time.Second, "a killed instance is started again", func() bool {
		for _, in := range app(t, r).Instances {
			if in.ID == victim.ID {
				return in.State == "ready" && in.PID != victim.PID
			}
		}
		return false
	})

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	run = r.Load(mix, "v1", "v2")
	before := r.Proc("daemon").PID
	rig.Eventually(t, 10*time.Second, "logging goes on", func() bool {
		out := r.Run("logs", "--lines", "50")
		return out.Code == 0 && strings.Contains(out.Stdout, "line ")
	})
	r.Rollout(0, "deploy")
	whole(t, r, "v2", 2)
	r.Allow("v2")
	if pid := r.Proc("daemon").PID; pid != before {
		t.Errorf("the daemon was restarted: %d, then %d", before, pid)
	}
	lossless(t, r, run, 0)
	fallBack(t, r, filler)

	told := false
	logs, err := filepath.Glob(filepath.Join(r.Home, "apps/http/logs/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		for _, line := range rig.Lines(t, name) {
			told = told || strings.Contains(line, " gapless: dropped ")
		}
	}
	if !told {
		t.Error("the log does not say how many lines were dropped")
	}
}

// fallBack fills the disk while a candidate that is going to crash is watched.
// The way back needs no journal, and the command hears how it ended.
func fallBack(t *testing.T, r *rig.Rig, filler string) {
	t.Helper()
	r.Write("VERSION", "3")
	r.Write("BREAK", "exit-after-5s")
	configure(r, 2, probe+"run: node chatty.js\nsoak: 20s\n")
	r.Write("gapless.yaml", strings.Replace(strings.Join(rig.Lines(t, filepath.Join(r.Dir, "gapless.yaml")), "\n"), "soak: 1s\n", "", 1))
	run := r.Load(load.Mix{KeepAlive: 30, Fresh: 20}, "v2", "v3")
	done := r.Go("deploy", "--json")
	rig.Eventually(t, 10*time.Second, "the candidate has its share", func() bool { return len(app(t, r).Weights) == 2 })
	fill(t, filler)
	res := <-done
	if res.Code != 3 || !strings.Contains(res.Stdout, `"rolled_back"`) || !strings.Contains(res.Stdout, "code 7") {
		t.Errorf("deploy: exit %d after %s\n%s\n%s", res.Code, res.Took, res.Stdout, res.Stderr)
	}
	whole(t, r, "v2", 2)
	r.Allow("v2")
	settle()
	report := run.Stop()
	t.Logf("while it was taken back on a full disk: %d requests, %d lost", report.Requests, report.Dropped+report.Bad)
	for _, s := range lost(run) {
		if s.Release == "v2" {
			t.Errorf("lost on v2: %s %s", s.Kind, s.Detail)
		}
	}
	// All that was asked can be repeated, so a crash takes none of it along.
	if n := report.Dropped + report.Bad; n > 0 {
		t.Errorf("%d lost with the crash of the candidate", n)
		tell(t, lost(run))
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	rig.Kill(t, r.Proc("daemon").PID)
	if a := whole(t, r, "v2", 2); a.Rollout == nil || a.Rollout.Outcome != gapless.TakenBack {
		t.Errorf("what the next daemon knows of it: %+v", a.Rollout)
	}
}

// TestBackOnFullDisk goes back in each way while nothing can be saved: the
// engine knows of it, users see it, and it is recorded when there is room.
func TestBackOnFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 24)
	r := rig.New(t, "")
	r.Home = filepath.Join(disk, "h")
	filler := filepath.Join(disk, "filler")
	room := func() {
		if err := os.Remove(filler); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	t.Cleanup(room)
	full := func() {
		t.Helper()
		emptyLog(t, r.Home) // there is room in it
		fill(t, filler)
	}
	serve(t, r, 2, probe)
	run := r.Load(load.Mix{KeepAlive: 30, Fresh: 20}, "v1", "v2", "v3", "v4")

	// A canary is aborted.
	r.Write("VERSION", "2")
	configure(r, 2, probe+"strategy: canary\njudge: { within: 5m }\n")
	done := r.Go("deploy", "--json")
	rig.Eventually(t, 20*time.Second, "the canary has its share", func() bool { return len(app(t, r).Weights) == 2 })
	full()
	aborted := r.Run("abort")
	if res := <-done; aborted.Code != 3 || res.Code != 3 {
		t.Errorf("abort: exit %d, deploy: exit %d\n%s%s", aborted.Code, res.Code, aborted.Stderr, res.Stderr)
	}
	whole(t, r, "v1", 2)
	room()

	// Blue-green, and back while the old set is warm.
	flip := probe + "strategy: blue-green\nflip: true\nkeep: 5m\njudge: { within: 1s }\n"
	r.Write("VERSION", "3")
	configure(r, 2, flip)
	good := r.Rollout(0, "deploy")
	full()
	back := r.Run("rollback")
	if back.Code != 0 {
		t.Errorf("rollback to the warm set: exit %d\n%s", back.Code, back.Stderr)
	}
	whole(t, r, "v1", 2)
	if back.Took > 15*time.Second {
		t.Errorf("back to a warm set took %s", back.Took)
	}
	// The daemon dies before it could write that down: the edges know better than the disk.
	rig.Kill(t, r.Proc("daemon").PID)
	whole(t, r, "v1", 2)
	room()
	recorded(t, r, "v1")

	// Back to a release that must be started.
	r.Write("VERSION", "4")
	configure(r, 2, probe)
	next := r.Rollout(0, "deploy")
	whole(t, r, next.To, 2)
	full()
	if back = r.Run("rollback"); back.Code != 0 {
		t.Errorf("rollback to a release that is not warm: exit %d\n%s", back.Code, back.Stderr)
	}
	whole(t, r, "v1", 2)
	if res := r.Run("rollback", good.To); res.Code != 1 || !strings.Contains(res.Stderr, "hint:") {
		t.Errorf("rollback to just any release: exit %d\n%s", res.Code, res.Stderr)
	}
	room()
	recorded(t, r, "v1")
	settle()
	lossless(t, r, run, 0)
}

// emptyLog takes the room away that the database has in its log.
func emptyLog(t *testing.T, home string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(home, "gapless.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rig.Eventually(t, 10*time.Second, "the log is empty", func() bool {
		var busy, log, done int
		if err := db.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &done); err != nil {
			t.Fatal(err)
		}
		return busy == 0
	})
}

// recorded waits until the disk knows what serves, and proves it by a daemon
// that has nothing else.
func recorded(t *testing.T, r *rig.Rig, release string) {
	t.Helper()
	rig.Eventually(t, 10*time.Second, release+" is written down", func() bool {
		data, err := os.ReadFile(filepath.Join(r.Home, "apps/http/serving.json"))
		return err == nil && strings.Contains(string(data), `"stable":"`+release+`"`)
	})
	rig.Kill(t, r.Proc("daemon").PID)
	if a := whole(t, r, release, 2); a.Rollout == nil || a.Rollout.Outcome != gapless.Promoted {
		t.Errorf("what the next daemon knows: %+v", a.Rollout)
	}
}
