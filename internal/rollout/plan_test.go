package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gapless"
)

func app(soak time.Duration, processes ...gapless.Process) *gapless.App {
	return &gapless.App{Name: simApp, Soak: gapless.Duration(soak), Processes: processes}
}

func words(plan []gapless.Step) string {
	var out []string
	for _, s := range plan {
		out = append(out, Describe(s))
	}
	return strings.Join(out, " · ")
}

func TestPlans(t *testing.T) {
	web := gapless.Process{Name: gapless.WebProcess}
	worker := gapless.Process{Name: "worker"}
	clock := gapless.Process{Name: "clock", Singleton: true}
	nightly := gapless.Process{Name: "nightly", Cron: "0 3 * * *"}
	soak := 10 * time.Second
	const warm, share = "warm: wait until ready", "weight: by ready share"
	for _, c := range []struct {
		name string
		plan []gapless.Step
		want string
	}{
		{"first up", Rolling(app(soak, web), map[string]int{"web": 3}, 0),
			"start 3 · " + warm + " · weight 100 % · promote"},
		{"one by one instance", Rolling(app(soak, web), map[string]int{"web": 1}, 1),
			"start 1 · " + warm + " · weight 25 % · judge for at most 10s, then continue if undecided · " + share + " · drain 1 old · promote"},
		{"four, in batches of one", Rolling(app(soak, web), map[string]int{"web": 4}, 4),
			"start 1 · " + warm + " · weight 20 % · judge for at most 10s, then continue if undecided · " + share + " · drain 1 old" +
				strings.Repeat(" · start 1 · "+warm+" · "+share+" · drain 1 old", 3) + " · promote"},
		{"eight, in batches of two", Rolling(app(soak, web), map[string]int{"web": 8}, 8),
			"start 1 · " + warm + " · weight 11.11 % · judge for at most 10s, then continue if undecided · " + share + " · drain 1 old" +
				strings.Repeat(" · start 2 · "+warm+" · "+share+" · drain 2 old", 3) +
				" · start 1 · " + warm + " · " + share + " · drain 1 old · promote"},
		{"from one to three", Rolling(app(soak, web), map[string]int{"web": 3}, 1),
			"start 1 · " + warm + " · weight 25 % · judge for at most 10s, then continue if undecided · " + share +
				" · start 1 · " + warm + " · " + share +
				" · start 1 · " + warm + " · " + share + " · drain 1 old · promote"},
		{"from four to two", Rolling(app(soak, web), map[string]int{"web": 2}, 4),
			"start 1 · " + warm + " · weight 20 % · judge for at most 10s, then continue if undecided · " + share + " · drain 2 old" +
				" · start 1 · " + warm + " · " + share + " · drain 2 old · promote"},
		{"no soak", Rolling(app(0, web), map[string]int{"web": 1}, 1),
			"start 1 · " + warm + " · weight 25 % · " + share + " · drain 1 old · promote"},
		{"workers after the first web instance, singletons last, cron not at all",
			Rolling(app(soak, web, worker, clock, nightly), map[string]int{"web": 1, "worker": 2, "clock": 1, "nightly": 1}, 1),
			"start 1 · " + warm + " · start 2 worker · " + warm + " · weight 25 % · judge for at most 10s, then continue if undecided · " + share +
				" · drain 1 old · swap clock: stop the old one, start the new one · promote"},
		{"no web", Rolling(app(soak, worker), map[string]int{"worker": 2}, 0),
			"start 2 worker · " + warm + " · promote"},
		{"restart of three", Restart(app(soak, web), map[string]int{"web": 3}),
			"start 2 · " + warm + " · drain 2 old · start 1 · " + warm + " · drain 1 old · promote"},
		{"restart of everything but cron", Restart(app(soak, web, worker, clock, nightly), map[string]int{"web": 1, "worker": 1, "clock": 1, "nightly": 1}),
			"start 1 · " + warm + " · drain 1 old · start 1 worker · " + warm + " · drain 1 old worker" +
				" · swap clock: stop the old one, start the new one · promote"},
		{"canary", canary(app(0, web), map[string]int{"web": 4}),
			"start 2 · " + warm + " · ramp: the share rises as the release is proven, for at most 30m, then pause if undecided" +
				" · scale to 4 · " + warm + " · weight 100 % · once promoted, watch it for 5m: the old set stays warm · promote"},
		{"canary of one instance", canary(app(0, web), map[string]int{"web": 1}),
			"start 1 · " + warm + " · ramp: the share rises as the release is proven, for at most 30m, then pause if undecided" +
				" · scale to 1 · " + warm + " · weight 100 % · once promoted, watch it for 5m: the old set stays warm · promote"},
		{"scale up", Scale("web", 1, 3), "start 2 · " + warm + " · promote"},
		{"scale down", Scale("worker", 3, 1), "drain 2 old worker · promote"},
		{"scale to what it is", Scale("web", 2, 2), "promote"},
	} {
		if got := words(c.plan); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestPlansKeepCapacity walks every rolling plan and restart of small apps.
func TestPlansKeepCapacity(t *testing.T) {
	walk := func(name string, plan []gapless.Step, old, n int) {
		was, is, share := old, 0, false
		for _, s := range plan {
			switch s.Kind {
			case gapless.StepStart:
				is += s.N
			case gapless.StepWeight:
				share = share || s.Weight == 0
			case gapless.StepDrain:
				was -= s.N
			}
			if old > 0 && was+is < min(old, n) {
				t.Errorf("%s: %d + %d run, fewer than %d: %s", name, was, is, min(old, n), words(plan))
			}
			if s.Kind == gapless.StepWeight && !share && old > 0 && (s.Weight > FirstShare || s.Weight*float64(old+1) > 1+1e-9) {
				t.Errorf("%s: first share %v", name, s.Weight)
			}
		}
		if was != 0 || is != n {
			t.Errorf("%s: ends with %d old and %d new: %s", name, was, is, words(plan))
		}
	}
	a := app(time.Second, gapless.Process{Name: gapless.WebProcess})
	for n := 1; n <= 12; n++ {
		counts := map[string]int{gapless.WebProcess: n}
		for old := 0; old <= 12; old++ {
			walk(fmt.Sprintf("rolling %d → %d", old, n), Rolling(a, counts, old), old, n)
		}
		walk(fmt.Sprintf("restart %d", n), Restart(a, counts), n, n)
	}
}
