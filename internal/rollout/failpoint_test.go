package rollout

import (
	"testing"
	"time"

	"gapless"
)

// cells is the table of places: every kind of action, before and after each
// thing that happens to it. The save has no intent of its own, and nothing of
// it is observed.
func cells() []cell {
	out := []cell{{actSave, beforeEffect}, {actSave, afterEffect}}
	for _, kind := range []ActionKind{ActStart, ActStop, ActForget, ActRoute, ActHook, ActMeasure, ActNote} {
		for _, p := range []point{beforeIntent, beforeEffect, afterEffect, beforeObserve} {
			out = append(out, cell{kind, p})
		}
	}
	return out
}

// ends is one story in which all kinds of actions happen: a first release, a
// good one with a hook that keeps the old set warm, one that crashes and is
// taken back, the way back to the kept set, and the end. It dies once, at the
// nth time that the engine comes by a place.
func (s *stage) ends(fatal cell, nth int) {
	s.passed, s.fatal, s.nth = map[cell]int{}, fatal, nth
	order := func(id string, f func(State) (State, error)) {
		s.t.Helper()
		for range 2 { // a person who got no answer asks again
			if r := s.runner.state.Rollout; r != nil && r.ID == id {
				break
			}
			if err := s.order(id, f); err != nil {
				s.t.Fatalf("%s: %v", id, err)
			}
		}
		s.until("the end of "+id, func(st State) bool { return !st.Busy() && len(st.of(Leaving, "")) == 0 })
	}
	processes := []gapless.Process{{Name: "web", Instances: 2}, {Name: "clock", Instances: 1, Singleton: true}}
	deploy := func(id string, rel *gapless.Release) {
		order(id, func(st State) (State, error) {
			return Begin(st, id, "deploy", rel, counts(rel), judgeOf(st.Stable, rel, gapless.Arm{}), s.now)
		})
	}
	deploy("first", s.made(good, processes...))
	second := s.made(good, processes...)
	second.Spec.Keep = gapless.Duration(time.Minute)
	second.Spec.Steps = []gapless.Step{{Kind: gapless.StepWeight, Weight: 0.25}, {Kind: gapless.StepHook, Run: "look rerun", OnResume: OnResumeRerun},
		{Kind: gapless.StepJudge, For: gapless.Duration(time.Second), OnUndecided: gapless.OnUndecidedContinue}}
	second.Spec.Judge.Metrics = []gapless.Metric{{Name: "outside", Max: ptr(1), Interval: gapless.Duration(time.Second), Failures: 1}}
	deploy("second", second)
	order("back", func(st State) (State, error) {
		return BeginRollback(st, "back", s.releases["v1"], counts(second), s.now)
	})
	s.rest("v1", gapless.Promoted, "")
	deploy("third", s.made(stormy, processes...))
	s.rest("v1", gapless.TakenBack, "")
	if s.order("down", func(st State) (State, error) { st.Down = true; return st, nil }) == nil && !s.runner.state.Down {
		_ = s.order("down", func(st State) (State, error) { st.Down = true; return st, nil })
	}
	s.until("nothing", func(st State) bool { return st.Idle() && s.settled() })
	s.atRest()
}

// TestFailpoints lets the engine die at each place of the table, each time that
// it comes by, in one story. Whatever the place, the story ends alike and no
// invariant is broken.
func TestFailpoints(t *testing.T) {
	deaths := 0
	for _, c := range cells() {
		t.Run(string(c.kind)+" "+string(c.point), func(t *testing.T) {
			hit := 0
			for nth := 1; ; nth++ {
				s := onStage(t)
				s.ends(c, nth)
				if s.died == 0 {
					break // it comes by no more often
				}
				if hit++; s.broken != nil || t.Failed() {
					t.Fatalf("dies at the %d. time: %v", nth, s.broken)
				}
			}
			if hit == 0 {
				t.Error("the story never comes by here")
			}
			deaths += hit
		})
	}
	t.Logf("%d places, %d deaths", len(cells()), deaths)
}
