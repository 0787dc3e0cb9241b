package rollout

import (
	"fmt"
	"time"

	"gapless"
)

// release adds a random release to the world.
func (w *world) release(t temper) *gapless.Release {
	longest := 3 * time.Second
	if w.eager {
		longest *= 3 // else few are proven
	}
	within := func(d time.Duration) gapless.Duration { return gapless.Duration(w.between(0, d)) }
	name := fmt.Sprintf("v%d", len(w.releases)+1)
	spec := gapless.App{
		Name: simApp, Listen: []string{":8080"}, Path: "/",
		Drain: gapless.Duration(simDrain), Grace: gapless.Duration(time.Second),
		Hold: gapless.Duration(5 * time.Second), Soak: within(3 * time.Second),
		Judge:    gapless.JudgeSpec{Within: within(longest), OnUndecided: w.undecided(), NoBake: true},
		Strategy: []string{gapless.StrategyRolling, gapless.StrategyBlueGreen, gapless.StrategyCanary, gapless.StrategyDark}[w.rng.IntN(4)],
		Mirror: gapless.Mirror{For: within(3 * time.Second), OnDifference: w.undecided(),
			Then: []string{"", gapless.StrategyRolling, gapless.StrategyBlueGreen, gapless.StrategyCanary}[w.rng.IntN(4)]},
		Flip: w.rng.IntN(4) == 0,
	}
	if w.rng.IntN(2) == 0 || spec.Strategy == gapless.StrategyBlueGreen || spec.Mirror.Then == gapless.StrategyBlueGreen {
		spec.Keep = within(8 * time.Second)
	}
	if w.rng.IntN(3) == 0 {
		spec.Judge.Bake, spec.Judge.NoBake = within(8*time.Second), false
	}
	if w.rng.IntN(2) == 0 {
		spec.Preview = &gapless.Preview{Header: "x-preview"}
	}
	if w.rng.IntN(20) > 0 {
		n := 1 + w.rng.IntN(4)
		if w.eager && w.big {
			n = 6 // so that a ramp needs more than its first ones
		}
		spec.Processes = append(spec.Processes, gapless.Process{Name: gapless.WebProcess, Instances: n})
	}
	if w.rng.IntN(3) == 0 {
		spec.Processes = append(spec.Processes, gapless.Process{Name: "worker", Instances: 1 + w.rng.IntN(2)})
	}
	if w.rng.IntN(3) == 0 {
		spec.Processes = append(spec.Processes, gapless.Process{Name: "clock", Instances: 1, Singleton: true})
	}
	if w.rng.IntN(4) == 0 || len(spec.Processes) == 0 {
		spec.Processes = append(spec.Processes, gapless.Process{Name: "nightly", Instances: 1, Cron: "0 3 * * *", Singleton: w.rng.IntN(2) == 0})
	}
	if w.rng.IntN(3) == 0 {
		spec.Steps = w.ownSteps()
	}
	if w.rng.IntN(4) == 0 {
		spec.Judge.Metrics = []gapless.Metric{{Name: "outside", Max: &outsideMax, Interval: gapless.Duration(500 * time.Millisecond), Failures: 2}}
	}
	rel := &gapless.Release{App: simApp, Name: name, Spec: spec}
	w.releases[name], w.temper[name] = rel, t
	return rel
}

func counts(rel *gapless.Release) map[string]int {
	out := map[string]int{}
	for _, p := range rel.Spec.Processes {
		out[p.Name] = p.Instances
	}
	return out
}

func (w *world) randomTemper() temper {
	if w.runner.state.Stable == "" && w.rng.IntN(3) > 0 {
		return good // the story begins when something serves
	}
	switch n := w.rng.IntN(20); {
	case n < 10:
		return good
	case n < 14:
		return stormy
	case n < 15:
		return mute
	case n < 16:
		return flaky
	case n < 19:
		return sloppy
	}
	return hungry
}

func (w *world) undecided() string {
	return []string{"", gapless.OnUndecidedContinue, gapless.OnUndecidedPause, gapless.OnUndecidedRollback}[w.rng.IntN(4)]
}

// ownSteps is a plan as a person may write it, sensible or not.
func (w *world) ownSteps() []gapless.Step {
	var out []gapless.Step
	for range 1 + w.rng.IntN(7) {
		d := gapless.Duration(w.between(time.Second, 3*time.Second))
		switch w.rng.IntN(17) {
		case 0:
			out = append(out, gapless.Step{Kind: gapless.StepStart, N: 1 + w.rng.IntN(3)})
		case 1:
			out = append(out, gapless.Step{Kind: gapless.StepScale, N: w.rng.IntN(6) - 1})
		case 2:
			out = append(out, gapless.Step{Kind: gapless.StepScale, Process: []string{"worker", "clock"}[w.rng.IntN(2)], N: 1})
		case 3:
			out = append(out, gapless.Step{Kind: gapless.StepWarm})
		case 4, 5, 6:
			out = append(out, gapless.Step{Kind: gapless.StepWeight, Weight: []float64{0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9, 1}[w.rng.IntN(8)]})
		case 7, 8:
			out = append(out, gapless.Step{Kind: gapless.StepJudge, For: d, OnUndecided: w.undecided()})
		case 14:
			out = append(out, gapless.Step{Kind: gapless.StepMirror, Weight: []float64{0, 0.1, 1}[w.rng.IntN(3)], For: d, OnUndecided: w.undecided()})
		case 15:
			out = append(out, gapless.Step{Kind: gapless.StepRamp, For: d, OnUndecided: w.undecided()})
		case 16:
			out = append(out, gapless.Step{Kind: gapless.StepBake, For: d})
		case 9:
			out = append(out, gapless.Step{Kind: gapless.StepPause, For: d})
		case 10:
			out = append(out, gapless.Step{Kind: gapless.StepPause})
		case 11, 12:
			how := []string{"", OnResumeFail, OnResumeAsk, OnResumeRerun}[w.rng.IntN(4)]
			run := "make it so " + how
			if w.rng.IntN(5) == 0 {
				run += " fails"
			}
			out = append(out, gapless.Step{Kind: gapless.StepHook, Run: run, OnResume: how})
		default:
			out = append(out, gapless.Step{Kind: []gapless.StepKind{gapless.StepPreview, gapless.StepPromote, gapless.StepKeep, gapless.StepDrain, gapless.StepSwap}[w.rng.IntN(5)], N: 1, For: d})
		}
	}
	return out
}

// abort takes a rollout back; what the disk then knows must come true.
func (w *world) abort() {
	if w.order("abort", func(s State) (State, error) { return Abort(s, "aborted by a person", w.clock()), nil }) == nil && w.saved.Busy() && w.saved.Back {
		w.aborted = w.saved.Rollout.ID
	}
}

// steer is a command to a rollout that is under way.
func (w *world) steer(n int) {
	switch s := w.runner.state; n {
	case 0:
		_ = w.order("pause", Pause)
	case 1, 2:
		_ = w.order("resume", Resume)
	case 3:
		if s.Busy() {
			rel := w.releases[s.Rollout.To]
			if w.order("promote", func(s State) (State, error) { return Promote(s, rel) }) == nil {
				w.forced = s.Rollout.ID
			}
		}
	}
}

// rollback goes to some earlier release, to the kept one if there is one.
func (w *world) rollback(id string) {
	s := w.runner.state
	to := w.releases[fmt.Sprintf("v%d", 1+w.rng.IntN(len(w.releases)))]
	kept := s.of(Kept, gapless.WebProcess)
	if len(kept) > 0 && w.rng.IntN(4) > 0 {
		to = w.releases[kept[0].Release]
	}
	if w.gone[to.Name] {
		return // the daemon says that there is no such release
	}
	if w.order("rollback to "+to.Name, func(s State) (State, error) { return BeginRollback(s, id, to, counts(to), w.clock()) }) != nil {
		return
	}
	w.warm = nil
	for _, m := range kept {
		if m.Release == to.Name {
			w.warm = append(w.warm, m.ID)
		}
	}
	if len(w.warm) < counts(to)[gapless.WebProcess] {
		w.warm = nil
	} else if len(w.warm) > 0 {
		w.tally["back to a kept set"]++
		if p := w.find(w.warm[0]); p != nil && w.rng.IntN(4) == 0 {
			p.then, p.due = gapless.Crashed, w.now
		}
	}
}

// sureTemper is one that makes a rollout end in one way only.
func (w *world) sureTemper() temper { return []temper{good, stormy, mute}[w.rng.IntN(3)] }

// rot lets the stable release lose what it needs, in the middle of a rollout.
func (w *world) rot() {
	s := w.runner.state
	w.log("%s rots", s.Stable)
	w.rotten, w.temper[s.Stable] = s.Stable, []temper{stormy, mute}[w.rng.IntN(2)]
	for _, p := range w.procs {
		if p.in.Release == s.Stable && p.in.State == gapless.Ready && w.rng.IntN(4) > 0 {
			p.then, p.due = gapless.Crashed, w.now
		}
	}
}

// command is something that a person says.
func (w *world) command() {
	s := w.runner.State()
	stable := w.releases[s.Stable]
	id := fmt.Sprintf("r%d", w.rounds)
	w.warm = nil
	if w.rng.IntN(3) == 0 {
		w.collect()
	}
	if s.Busy() && stable != nil && w.rotten == "" && w.rng.IntN(60) == 0 {
		w.rot()
	}
	switch n := w.rng.IntN(36); {
	case s.Busy() && n >= 20 && n < 32:
		w.steer(w.rng.IntN(4))
	case n < 10 || stable == nil:
		rel := w.release(w.randomTemper())
		if w.rng.IntN(10) == 0 && stable != nil {
			rel = stable
		}
		kind := "deploy"
		if s.Down || s.Stable == "" {
			kind = "up"
		}
		_ = w.order(fmt.Sprintf("%s %s (%s) %v", kind, rel.Name, w.temper[rel.Name], counts(rel)), func(s State) (State, error) {
			return Begin(s, id, kind, rel, counts(rel), w.judgeOf(s.Stable, rel), w.clock())
		})
	case n < 13:
		w.abort()
	case n < 15:
		_ = w.order("restart", func(s State) (State, error) { return BeginRestart(s, id, stable, w.clock()) })
	case n < 18:
		process, want := []string{gapless.WebProcess, "worker", "clock"}[w.rng.IntN(3)], w.rng.IntN(5)
		_ = w.order(fmt.Sprintf("scale %s %d", process, want), func(s State) (State, error) {
			return BeginScale(s, id, stable, process, want, w.clock())
		})
	case n >= 32 && stable != nil:
		w.rollback(id)
	case n < 19:
		_ = w.order("down", func(s State) (State, error) { s.Down = true; return s, nil })
	}
}
