package fault

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gapless/internal/keeper"
	"gapless/test/rig"
)

// TestUpgrades goes to the next version and back under load of every kind of
// client, also in the middle of a deployment. Nobody may lose anything, and
// the logs of the app are whole.
func TestUpgrades(t *testing.T) {
	r := rig.New(t, "")
	next, err := rig.Binary("nextversion")
	if err != nil {
		t.Fatal(err)
	}
	r.App("http")
	counting(r)
	configure(r, 2, countingApp+"strategy: canary\njudge: { within: 2s, on_undecided: continue, bake: off }\n")
	r.Rollout(0, "up")
	m := mix
	m.H2C = 20
	run := r.Load(m, "v1")
	settle()
	first, instances := r.Proc("keeper").PID, running(app(t, r))
	stable := "v1"
	for i := range times(3, 20) {
		var done <-chan rig.Result
		if i%3 == 2 { // in the middle of a deployment
			r.Write("VERSION", strconv.Itoa(i+2))
			r.Allow(stable, "v"+strconv.Itoa(stableNumber(stable)+1))
			done = r.Go("deploy", "--json")
			moving(t, r)
		}
		before := map[string]int{"daemon": r.Proc("daemon").PID, "edge": r.Proc("edge").PID}
		args := []string{"upgrade", "--undo"}
		if i%2 == 0 {
			args = []string{"upgrade", "--from", next}
		}
		res := r.Must(0, args...)
		t.Logf("%s: %s", strings.Join(args, " "), res.Took.Round(time.Millisecond))
		if pid := r.Proc("keeper").PID; pid != first {
			t.Errorf("keeper was %d, is %d", first, pid)
		}
		for name, pid := range before {
			if r.Proc(name).PID == pid {
				t.Errorf("the %s is the one of before", name)
			}
		}
		want := exeOf(t, r.Proc("daemon").PID)
		for _, name := range []string{"keeper", "edge"} {
			if exe := exeOf(t, r.Proc(name).PID); exe != want {
				t.Errorf("%s runs from %s, the daemon from %s", name, exe, want)
			}
		}
		if got, want := protocol(t, r), keeper.Protocol+(i+1)%2; got != want {
			t.Errorf("keeper speaks protocol %d, not %d", got, want)
		}
		if done != nil {
			under(t, r) // both versions had a part in it
			if res := <-done; res.Code != 0 {
				t.Errorf("deploy: exit %d\n%s\n%s", res.Code, res.Stdout, res.Stderr)
			}
			stable = "v" + strconv.Itoa(stableNumber(stable)+1)
			instances = running(whole(t, r, stable, 2))
			r.Allow(stable)
		}
		if now := running(app(t, r)); now != instances {
			t.Errorf("instances were %s, are %s", instances, now)
		}
		settle()
	}
	lossless(t, r, run, 0)
	if log, err := os.ReadFile(filepath.Join(r.Home, "gapless.log")); err != nil || !strings.Contains(string(log), "keeper has its birthday today") {
		t.Errorf("void: no op of the next version was sent (%v)", err)
	}
	r.Must(0, "down", "http")
	counted(t, r)
}

func protocol(t *testing.T, r *rig.Rig) int {
	t.Helper()
	k, err := keeper.Dial(t.Context(), keeper.SocketPath(r.Home+"/run"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	info, err := k.Hello(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.Protocol
}

func stableNumber(release string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(release, "v"))
	if err != nil {
		return 0
	}
	return n
}

func exeOf(t *testing.T, pid int) string {
	t.Helper()
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// TestUpgradeAfterKeeperDied: a replaced keeper is as good as the first.
func TestUpgradeAfterKeeperDied(t *testing.T) {
	r := rig.New(t, "")
	next, err := rig.Binary("nextversion")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, r, 2, probe)
	run := r.Load(mix, "v1")
	settle()
	instances := running(app(t, r))
	for _, args := range [][]string{{"upgrade", "--from", next}, {"upgrade", "--undo"}} {
		old := r.Proc("keeper").PID
		slay(t, old)
		rig.Eventually(t, 5*time.Second, "another keeper", func() bool { return r.Proc("keeper").PID != old })
		r.Must(0, args...)
		if now := running(whole(t, r, "v1", 2)); now != instances {
			t.Errorf("instances were %s, are %s", instances, now)
		}
	}
	settle()
	lossless(t, r, run, 0)
}

// TestUpgradeToLame goes to a binary whose daemon, then one whose edge, does
// not come up: everything goes back by itself, and nobody loses anything.
func TestUpgradeToLame(t *testing.T) {
	if !all() {
		t.Skip("waits for processes that do not come up: with GAPLESS_TEST_ALL=1")
	}
	lame := filepath.Join(t.TempDir(), "gapless")
	build := exec.Command("go", "build", "-o", lame, "./test/fault/testdata/lame")
	build.Dir = rig.Root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := rig.New(t, "")
	serve(t, r, 2, probe)
	run := r.Load(mix, "v1")
	settle()
	want, instances := exeOf(t, r.Proc("keeper").PID), running(app(t, r))
	for _, name := range []string{"daemon", "edge"} {
		if err := os.WriteFile(r.Home+".lame", []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		res := r.Must(1, "upgrade", "--from", lame)
		t.Logf("%s: %s", res.Took.Round(time.Millisecond), res.Stderr)
		if !strings.Contains(res.Stderr, "was taken back") {
			t.Errorf("stderr: %s", res.Stderr)
		}
		for _, p := range []string{"keeper", "daemon", "edge"} {
			if exe := exeOf(t, r.Proc(p).PID); exe != want {
				t.Errorf("%s runs from %s, not %s", p, exe, want)
			}
		}
		if now := running(whole(t, r, "v1", 2)); now != instances {
			t.Errorf("instances were %s, are %s", instances, now)
		}
	}
	r.Write("VERSION", "2")
	r.Allow("v1", "v2")
	r.Rollout(0, "deploy")
	r.Allow("v2")
	settle()
	lossless(t, r, run, 0)
}

// TestUpgradeToOneThatFails: the binary is tried before anything is
// replaced; one that fails later is taken back.
func TestUpgradeToOneThatFails(t *testing.T) {
	r := rig.New(t, "")
	serve(t, r, 1, probe)
	run := r.Load(mix, "v1")
	settle()
	dir := t.TempDir()
	write := func(name, script string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	res := r.Must(2, "upgrade", "--from", write("nothing", "exit 1\n"))
	if !strings.Contains(res.Stderr, "not a gapless that runs here") {
		t.Errorf("stderr: %s", res.Stderr)
	}
	r.Must(2, "upgrade", "--from", filepath.Join(dir, "nowhere"))

	// It answers, but as a keeper it is not what it was said to be.
	bad := write("bad", `exec `+r.Exe+` "$@"`+"\n")
	pid, instances := r.Proc("keeper").PID, running(app(t, r))
	res = r.Run("upgrade", "--from", bad)
	t.Logf("exit %d after %s: %s", res.Code, res.Took.Round(time.Millisecond), res.Stderr)
	if res.Code == 0 {
		t.Error("an upgrade to something else succeeded")
	}
	whole(t, r, "v1", 1)
	if r.Proc("keeper").PID != pid || running(app(t, r)) != instances {
		t.Errorf("keeper %d is %d, instances %s are %s", pid, r.Proc("keeper").PID, instances, running(app(t, r)))
	}
	settle()
	lossless(t, r, run, 0)
}

// TestCommandLineOfAnotherVersion: a command of the next version speaks to a
// daemon of this one, and the other way round.
func TestCommandLineOfAnotherVersion(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	next, err := rig.Binary("nextversion")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, r, 1, probe)
	this := r.Exe
	version := 1
	commands := func() {
		t.Helper()
		version++
		r.Write("VERSION", strconv.Itoa(version))
		if ro := r.Rollout(0, "deploy"); ro.To != "v"+strconv.Itoa(version) {
			t.Errorf("deployed %s, want v%d", ro.To, version)
		}
		r.Rollout(0, "restart")
		for _, verb := range []string{"status", "releases", "history", "show", "plan"} {
			r.Must(0, verb, "--json")
		}
	}
	r.Exe = next
	commands()
	r.Must(0, "upgrade", "--from", next)
	r.Exe = this
	commands()
	r.Must(0, "upgrade", "--undo")
	whole(t, r, "v"+strconv.Itoa(version), 1)
}
