package fault

import (
	"encoding/json"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/test/rig"
)

// TestDaemonKilledDuringDeploys kills the control plane at random moments of
// rolling deployments. Users must not notice, and the deploy command must tell
// how it really ended, although the daemon that it spoke to is gone.
func TestDaemonKilledDuringDeploys(t *testing.T) {
	r := rig.New(t, "")
	serve(t, r, 2, probe)
	run := r.Load(mix, "v1")
	settle()
	stable, kills, promoted := "v1", 0, 0
	for i := range times(3, 20) {
		r.Write("VERSION", strconv.Itoa(i+2))
		r.Allow(upTo(stable, i+2)...)
		began := time.Now()
		done := r.Go("deploy", "--json")
		// The first one is killed from its first moment on, also while the
		// release is made; the others while they move traffic.
		next := time.Duration(rand.IntN(300)) * time.Millisecond
		if i > 0 {
			next += 700 * time.Millisecond
		}
		var res rig.Result
		for ended, left := false, 3; !ended; {
			select {
			case res = <-done:
				ended = true
			case <-time.After(next):
				if next = 500*time.Millisecond + time.Duration(rand.IntN(2000))*time.Millisecond; left == 0 {
					continue
				}
				left--
				pid := r.Proc("daemon").PID
				t.Logf("deploy %d: kill -9 %d at %s", i+1, pid, time.Since(began).Round(time.Millisecond))
				rig.Kill(t, pid)
				kills++
			}
		}
		var ro gapless.Rollout
		if err := json.Unmarshal([]byte(res.Stdout), &ro); err != nil {
			t.Fatalf("deploy: exit %d\n%s\n%s", res.Code, res.Stdout, res.Stderr)
		}
		t.Logf("deploy %d: exit %d, %s after %s", i+1, res.Code, ro.Outcome, res.Took.Round(time.Millisecond))
		switch {
		case res.Code == 0 && ro.Outcome == gapless.Promoted:
			stable = ro.To
			promoted++
		case res.Code == 1 && ro.Outcome == gapless.NothingStarted && strings.Contains(ro.Reason, "while the release was being made"):
			// killed while the release was made; see below
		default:
			t.Errorf("deploy: exit %d, outcome %q, reason %q\n%s", res.Code, ro.Outcome, ro.Reason, res.Stderr)
		}
		a := whole(t, r, stable, 2)
		r.Allow(stable)
		if a.Rollout == nil || a.Rollout.Outcome == gapless.Running {
			t.Errorf("the rollout did not end: %+v", a.Rollout)
		}
	}
	settle()
	if kills < 3 || promoted == 0 {
		t.Errorf("void: %d kills, %d promoted", kills, promoted)
	}
	lossless(t, r, run, 0)
}

// TestDaemonAndEdgeKilled kills both at once, in the middle of a deployment:
// what is lost is what the edge had open, and the rollout goes on to its end.
func TestDaemonAndEdgeKilled(t *testing.T) {
	r := rig.New(t, "")
	serve(t, r, 2, probe)
	configure(r, 2, probe+"strategy: canary\njudge: { within: 2s, on_undecided: continue, bake: off }\n")
	run := r.Load(mix, "v1")
	settle()
	r.Write("VERSION", "2")
	r.Allow("v1", "v2")
	done := r.Go("deploy", "--json")
	moving(t, r)
	daemon, edge := r.Proc("daemon"), r.Proc("edge")
	open := report(t, r, edge.Generation).Connections
	death := rig.Kill(t, daemon.PID, edge.PID)
	res := <-done
	if res.Code != 0 {
		t.Errorf("deploy: exit %d\n%s\n%s", res.Code, res.Stdout, res.Stderr)
	}
	whole(t, r, "v2", 2)
	r.Allow("v2")
	settle()
	run.Stop()
	t.Logf("load:\n%s", run.Report())
	judge(t, run, []rig.Death{death}, []int{open})
}

// TestDaemonKilledWhileMaking kills it while the release is built: nothing of
// it had started, and the command says so.
func TestDaemonKilledWhileMaking(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	serve(t, r, 1, probe)
	configure(r, 1, probe)
	r.Write("gapless.yaml", strings.Replace(strings.Join(rig.Lines(t, filepath.Join(r.Dir, "gapless.yaml")), "\n"), "build: false", "build: sleep 2", 1))
	done := r.Go("deploy", "--json")
	rig.Eventually(t, 5*time.Second, "the release is made", func() bool {
		a := app(t, r)
		return a.Rollout != nil && a.Rollout.Kind == "deploy"
	})
	time.Sleep(300 * time.Millisecond)
	rig.Kill(t, r.Proc("daemon").PID)
	res := <-done
	if res.Code != 1 || !strings.Contains(res.Stdout, "while the release was being made") || !strings.Contains(res.Stderr, "hint:") {
		t.Errorf("deploy: exit %d\n%s\n%s", res.Code, res.Stdout, res.Stderr)
	}
	whole(t, r, "v1", 1)
	if ro := r.Rollout(0, "deploy"); ro.Outcome != gapless.Promoted {
		t.Errorf("the next deployment: %+v", ro)
	}
}
