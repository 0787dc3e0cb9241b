package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/load"
	"gapless/test/rig"
)

// place is one point of one kind of action at which the daemon ends itself
// with SIGKILL, in a rollout of one kind.
type place struct {
	kind, point string
	canary      bool
}

// places is the table: every kind of action, before its intent is saved, before
// and after its effect, and before that is observed. There is no result in the
// journal, it is observed again. A save has no intent of its own.
func places() (chosen []place) {
	kinds := []string{"start", "stop", "forget", "route", "note", "hook"}
	points := []string{"before-intent", "before-effect", "after-effect", "before-observe"}
	chosen = append(chosen, place{"save", "before-effect", true}, place{"save", "after-effect", false})
	for i, kind := range kinds {
		for j, point := range points {
			// Without all of them each kind meets two points and each point
			// three kinds, in both kinds of rollouts.
			if all() || (i+j)%2 == 0 {
				chosen = append(chosen, place{kind, point, kind == "hook" || (i+j/2)%2 == 0})
			}
			if all() && kind != "hook" {
				chosen = append(chosen, place{kind, point, (i+j/2)%2 != 0})
			}
		}
	}
	return chosen
}

// TestFailpoints kills the daemon at each place of the table, in a rolling
// deployment that goes out or in a canary that a person takes back. Users
// notice nothing, it ends as it should, and nothing is left over.
func TestFailpoints(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "failpoints")
	file := filepath.Join(r.Home, "failpoint")
	serve(t, r, 1, probe)
	run := r.Load(load.Mix{KeepAlive: 30, Fresh: 20, Slow: 2}, "v1")
	settle()
	const canary = probe + "steps:\n  - start: 1\n  - warm\n  - weight: 20%\n  - hook: { run: 'true', on_resume: rerun }\n  - pause\n  - promote\n"
	rolling := strings.Replace(probe, "\n", "\nsoak: 100ms\n", 1)
	stable := "v1"
	for i, p := range places() {
		began := time.Now()
		r.Write("VERSION", strconv.Itoa(i+2))
		if p.canary {
			configure(r, 1, canary)
		} else {
			r.Write("gapless.yaml", fmt.Sprintf("app: http\nlisten: %q\ninstances: 1\ndrain: 5s\ngrace: 2s\nbuild: false\n%s", r.Address, rolling))
		}
		if err := os.WriteFile(file, fmt.Appendf(nil, "%s %s 1", p.kind, p.point), 0o600); err != nil {
			t.Fatal(err)
		}
		r.Allow(stable, "v"+strconv.Itoa(i+2))
		before := r.Proc("daemon").PID
		res := r.Run("deploy", "--json")
		ro := app(t, r).Rollout
		if p.canary {
			if res.Code != gapless.Waiting.Exit() {
				t.Errorf("%+v: deploy: exit %d\n%s", p, res.Code, res.Stderr)
			}
			res = r.Run("abort")
			for end := time.Now().Add(10 * time.Second); res.Code == 1 && strings.Contains(res.Stderr, "not answer") && time.Now().Before(end); {
				res = r.Run("abort") // it died of the very command
			}
			ro = app(t, r).Rollout
			if res.Code != 3 || ro == nil || ro.Outcome != gapless.TakenBack {
				t.Errorf("%+v: abort: exit %d\n%s\n%+v", p, res.Code, res.Stderr, ro)
			}
		} else {
			if res.Code != 0 || ro == nil || ro.Outcome != gapless.Promoted {
				t.Errorf("%+v: deploy: exit %d\n%s\n%+v", p, res.Code, res.Stderr, ro)
			}
			stable = ro.To
		}
		whole(t, r, stable, 1)
		r.Allow(stable)
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%+v: the daemon never came by", p)
		} else if pid := r.Proc("daemon").PID; pid == before {
			t.Errorf("%+v: the daemon never died", p)
		}
		if t.Failed() {
			break
		}
		t.Logf("%+v: %s", p, time.Since(began).Round(time.Millisecond))
	}
	settle()
	lossless(t, r, run, 0)
}
