package rollout

import (
	"fmt"
	"maps"
	"time"

	"gapless"
)

// Begin starts a rollout of the given kind towards release to, by its own
// strategy. It refuses while another one runs. The judge, which may be nil,
// compares to with what is stable now, where there is something to compare.
func Begin(s State, id, kind string, to *gapless.Release, counts map[string]int, judge Judge, now time.Time) (State, error) {
	s, err := begin(s, id, kind, to, counts, now)
	if err != nil {
		return s, err
	}
	old := len(s.of(Stable, gapless.WebProcess))
	spec := to.Spec
	if to.Name == s.Stable { // nothing to compare it with: no plan may wait for proof
		spec.Strategy, spec.Steps, spec.Judge.OnUndecided, spec.Judge.Bake = gapless.StrategyRolling, nil, gapless.OnUndecidedContinue, 0
		spec.Judge.Metrics = nil
	}
	s.Rollout.Plan, s.Rollout.Strategy = Compile(&spec, counts, old), spec.Strategy
	if old > 0 && s.Rollout.From != to.Name && hasWeb(to) {
		s.Judge = judge
	}
	return s, nil
}

// begin makes the state of a fresh rollout without a plan.
func begin(s State, id, kind string, to *gapless.Release, counts map[string]int, now time.Time) (State, error) {
	if s.Busy() {
		return s, busy(s)
	}
	s = s.Clone()
	if s.Down { // what still runs is on its way out, and stays there
		s.Stable, s.Counts = "", nil
		for i := range s.Members {
			if m := &s.Members[i]; m.Role != Leaving {
				m.Role, m.Since, m.Out = Leaving, now, time.Time{}
			}
		}
	}
	for i := range s.Members { // more or fresh instances of the same release close no way back
		if m := &s.Members[i]; m.Role == Kept && kind != "scale" && kind != "restart" {
			m.Role, m.Since, m.Out = Leaving, now, time.Time{}
		}
	}
	s.Rollout = &gapless.Rollout{ID: id, App: s.App, Kind: kind, From: s.Stable, To: to.Name, Outcome: gapless.Running, Started: now}
	s.Next, s.Down, s.Back, s.Entered = maps.Clone(counts), false, false, false
	s.Met, s.Alarmed = 0, false
	s.Since, s.Weight, s.Auto, s.Drained, s.Keep, s.Baking = now, 0, false, nil, 0, 0
	if kind != "scale" && kind != "restart" {
		s.Bake = nil
	}
	s.Preview, s.Paused, s.Skip, s.Hook, s.Judge, s.Cursor, s.Known = false, false, false, "", nil, nil, false
	s.Mirrors, s.Shadowed = nil, time.Time{}
	return s, nil
}

// BeginRestart starts the replacement of every instance by one of the same release.
func BeginRestart(s State, id string, rel *gapless.Release, now time.Time) (State, error) {
	if err := serving(s); err != nil {
		return s, err
	}
	s, err := begin(s, id, "restart", rel, s.Counts, now)
	if err == nil {
		s.Rollout.Plan = Restart(&rel.Spec, s.Counts)
	}
	return s, err
}

// BeginScale starts a change of the number of instances of one process.
func BeginScale(s State, id string, rel *gapless.Release, process string, want int, now time.Time) (State, error) {
	if err := serving(s); err != nil {
		return s, err
	}
	p := rel.Spec.Process(process)
	switch {
	case p == nil:
		return s, gapless.Errorf(gapless.NotFound, "%s has no process %q", s.App, process).
			WithHint("its processes are: %s", names(rel))
	case p.Singleton && want > 1:
		return s, gapless.Errorf(gapless.Invalid, "%s is a singleton, it cannot have %d instances", process, want).
			WithHint("take `singleton: true` out of gapless.yaml and deploy")
	case p.Cron != "":
		return s, gapless.Errorf(gapless.Invalid, "%s runs on a schedule and cannot be scaled", process).WithHint("change it in gapless.yaml and deploy")
	}
	counts := maps.Clone(s.Counts)
	counts[process] = want
	have := s.Counts[process]
	s, err := begin(s, id, "scale", rel, counts, now)
	if err == nil {
		s.Rollout.Plan = Scale(process, have, want)
	}
	return s, err
}

func serving(s State) error {
	if s.Busy() {
		return busy(s)
	}
	if s.Stable == "" || s.Down {
		return gapless.Errorf(gapless.Conflict, "%s is down", s.App).WithHint("start it with: gapless up")
	}
	return nil
}

func busy(s State) error {
	return gapless.Errorf(gapless.Conflict, "a %s of %s is under way (%s → %s)", s.Rollout.Kind, s.App, s.Rollout.From, s.Rollout.To).
		WithHint("watch it with: gapless status -f %s", s.App)
}

func names(rel *gapless.Release) string {
	out := ""
	for i, p := range rel.Spec.Processes {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprint(p.Name)
	}
	return out
}
