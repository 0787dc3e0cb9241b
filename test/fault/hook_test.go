package fault

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless"
	"gapless/test/rig"
)

// hooked configures a plan with a hook that notes each of its runs in the
// app's directory and takes as long as a file named go is not there.
func hooked(t *testing.T, r *rig.Rig, onResume string) {
	t.Helper()
	configure(r, 1, probe+`steps:
  - start: 1
  - warm
  - hook: { run: "echo $$ >>`+r.Dir+`/ran; while [ ! -e `+r.Dir+`/go ]; do sleep 0.05; done; echo done >>`+r.Dir+`/ran", on_resume: `+onResume+` }
  - promote
`)
}

func ran(t *testing.T, r *rig.Rig) []string { return rig.Lines(t, filepath.Join(r.Dir, "ran")) }

// deployHooked begins a deployment and waits until its hook runs.
func deployHooked(t *testing.T, r *rig.Rig, version int) <-chan rig.Result {
	t.Helper()
	r.Write("VERSION", strconv.Itoa(version))
	before := len(ran(t, r))
	done := r.Go("deploy", "--json")
	rig.Eventually(t, 20*time.Second, "the hook runs", func() bool { return len(ran(t, r)) > before })
	return done
}

// TestHookOutlivesTheDaemon: a hook that runs when the daemon dies, or is
// replaced, is neither lost nor run again; the next daemon learns how it ended.
func TestHookOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	serve(t, r, 1, probe)
	hooked(t, r, "fail")
	done := deployHooked(t, r, 2)
	rig.Kill(t, r.Proc("daemon").PID)
	r.Must(0, "upgrade", "--from", mustBinary(t, "nextversion"))
	r.Write("go", "")
	res := <-done
	var ro gapless.Rollout
	if err := json.Unmarshal([]byte(res.Stdout), &ro); err != nil || ro.Outcome != gapless.Promoted {
		t.Fatalf("exit %d, %v\n%s\n%s", res.Code, err, res.Stdout, res.Stderr)
	}
	if lines := ran(t, r); len(lines) != 2 || lines[1] != "done" {
		t.Errorf("it ran %q", lines)
	}
	whole(t, r, "v2", 1)
}

// TestHookOfNobody: where keeper and daemon died nobody can tell how a hook
// ended, and the plan's rule decides. Nothing of the first run is left beside
// a second one, and nothing at all after the rollout.
func TestHookOfNobody(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{"fail", "rerun"} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			r := rig.New(t, "")
			serve(t, r, 1, probe)
			hooked(t, r, rule)
			done := deployHooked(t, r, 2)
			first := ran(t, r)[0]
			keeper, daemon := r.Proc("keeper").PID, r.Proc("daemon").PID
			rig.Kill(t, keeper, daemon)
			kill(t, first) // while nobody watches
			want := gapless.TakenBack
			if rule == "rerun" {
				rig.Eventually(t, 20*time.Second, "it runs again", func() bool { return len(ran(t, r)) == 2 })
				r.Write("go", "")
				want = gapless.Promoted
			}
			res := <-done
			var ro gapless.Rollout
			if err := json.Unmarshal([]byte(res.Stdout), &ro); err != nil || ro.Outcome != want {
				t.Fatalf("exit %d, %v\n%s\n%s", res.Code, err, res.Stdout, res.Stderr)
			}
			whole(t, r, map[string]string{"fail": "v1", "rerun": "v2"}[rule], 1)
		})
	}
}

// TestAbortEndsTheHook: what a rollout that is over began does not go on.
func TestAbortEndsTheHook(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	serve(t, r, 1, probe)
	hooked(t, r, "fail")
	done := deployHooked(t, r, 2)
	r.Must(3, "abort")
	if res := <-done; res.Code != 3 {
		t.Errorf("deploy: exit %d\n%s", res.Code, res.Stderr)
	}
	pid, err := strconv.Atoi(ran(t, r)[0])
	if err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 10*time.Second, "the hook is ended", func() bool { return !rig.Alive(pid) })
	whole(t, r, "v1", 1)
}

func mustBinary(t *testing.T, tags string) string {
	t.Helper()
	exe, err := rig.Binary(tags)
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// kill ends a process by the pid that it wrote.
func kill(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
