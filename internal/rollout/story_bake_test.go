package rollout

import (
	"strings"
	"testing"
	"time"

	"gapless"
)

// watched has v2 promoted over v1 and watched for a minute; both have three
// instances.
func watched(t *testing.T) *stage {
	t.Helper()
	s := onStage(t)
	release := func() *gapless.Release {
		rel := s.blueGreen(good, 3)
		rel.Spec.Keep, rel.Spec.Judge.Bake, rel.Spec.Judge.NoBake = gapless.Duration(2*time.Second), gapless.Duration(time.Minute), false
		return rel
	}
	s.deploy(release())
	s.rest("v1", gapless.Promoted, "")
	s.deploy(release())
	s.until("v2 is promoted", func(st State) bool { return !st.Busy() && st.Stable == "v2" })
	if st := s.runner.state; st.Bake == nil || st.Bake.Before != "v1" || len(st.of(Kept, "web")) != 3 {
		t.Fatalf("%+v, kept %d", st.Bake, len(st.of(Kept, "web")))
	}
	s.until("it is counted", func(State) bool {
		return s.applied != nil && len(s.applied.Weights) == 2 && s.share("v2") == 1
	})
	return s
}

// TestBakeTakesBack: what breaks after it was promoted goes back to the set
// that is warm, by one change of the route, and nothing is started.
func TestBakeTakesBack(t *testing.T) {
	for name, deaths := range map[string]bool{"": false, "the daemon dies all the time": true} {
		t.Run(name, func(t *testing.T) {
			s := watched(t)
			s.pass(20 * time.Second)
			s.round()
			n := len(s.procs)
			s.sour("v2")
			s.until("v1 has everything", func(State) bool {
				if deaths {
					s.boot()
				}
				return s.share("v1") == 1
			})
			if len(s.procs) != n {
				t.Errorf("%d instances, there were %d", len(s.procs), n)
			}
			if r := s.runner.state.Rollout; r.Kind != "rollback" || !r.Auto || r.From != "v2" || r.To != "v1" || !strings.Contains(r.Reason, "after it was promoted") || r.Verdict == nil {
				t.Errorf("%+v", r)
			}
			s.rest("v1", gapless.Promoted, "failed after it was promoted")
			if st := s.runner.state; st.Bake != nil || s.alive("web") != 3 {
				t.Errorf("%+v, %d instances", st.Bake, s.alive("web"))
			}
		})
	}
}

// TestWayBackOverMemory: a kept instance that uses too much memory carries what
// returns all the same; it is replaced once that is over, the new one first.
func TestWayBackOverMemory(t *testing.T) {
	s := watched(t)
	fat := s.find(s.runner.state.of(Kept, "web")[0].ID)
	fat.in.OverMem, fat.in.Memory = true, 1<<30
	n := len(s.procs)
	s.sour("v2")
	s.until("v1 has everything", func(State) bool { return s.share("v1") == 1 })
	if !picks(s.applied, fat.in.ID) || len(s.procs) != n {
		t.Errorf("%s, %d instances, there were %d", describe(s.applied), len(s.procs), n)
	}
	s.rest("v1", gapless.Promoted, "failed after it was promoted")
	if s.find(fat.in.ID) != nil {
		t.Error("it was not replaced")
	}
}

// TestBakeEndsWell: the old set stays as long as the new one is watched, not
// only for keep, and then leaves.
func TestBakeEndsWell(t *testing.T) {
	s := watched(t)
	began := s.now
	s.rest("v2", gapless.Promoted, "")
	if d := s.now.Sub(began); d < 55*time.Second || s.alive("web") != 3 || s.runner.state.Bake != nil || len(s.applied.Weights) != 1 {
		t.Errorf("after %s: %d instances, %+v, %s", d, s.alive("web"), s.runner.state.Bake, describe(s.applied))
	}
	if !s.told("bake") {
		t.Error("nobody was told that it was watched")
	}
}

// TestBakeIsEnded by what a person does with the app; to scale it is no such thing.
func TestBakeIsEnded(t *testing.T) {
	t.Run("deploy", func(t *testing.T) {
		s := watched(t)
		s.deploy(s.blueGreen(good, 3))
		if b := s.runner.state.Bake; b != nil {
			t.Errorf("%+v", b)
		}
		s.rest("v3", gapless.Promoted, "")
	})
	t.Run("rollback", func(t *testing.T) {
		s := watched(t)
		s.back("v1")
		s.rest("v1", gapless.Promoted, "")
		if s.runner.state.Rollout.Auto {
			t.Error("a person asked for it")
		}
	})
	t.Run("down", func(t *testing.T) {
		s := watched(t)
		s.must("down", func(st State) (State, error) { st.Down = true; return st, nil })
		s.until("down", func(st State) bool { return st.Idle() })
		if s.runner.state.Bake != nil {
			t.Error("still watched")
		}
	})
	t.Run("scale", func(t *testing.T) {
		s := watched(t)
		s.scale("web", 4)
		s.until("scaled", func(st State) bool { return !st.Busy() })
		s.sour("v2")
		s.rest("v1", gapless.Promoted, "failed after it was promoted")
		if n := s.alive("web"); n != 4 {
			t.Errorf("%d instances", n)
		}
	})
}

// TestBakeInTheMiddleOfAPlan: what is left of a plan after promote is left out.
func TestBakeInTheMiddleOfAPlan(t *testing.T) {
	s := onStage(t)
	s.deploy(s.blueGreen(good, 2))
	s.rest("v1", gapless.Promoted, "")
	rel := s.own(good, 2, gapless.Step{Kind: gapless.StepBake, For: gapless.Duration(time.Minute)}, gapless.Step{Kind: gapless.StepPromote}, gapless.Step{Kind: gapless.StepPause})
	s.deploy(rel)
	s.until("the pause after promote", func(st State) bool { return st.Paused })
	s.sour("v2")
	s.rest("v1", gapless.Promoted, "failed after it was promoted")
}

// TestBakeOfRolling: the old instances stay until the new ones were watched.
func TestBakeOfRolling(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	rel := s.made(good)
	rel.Spec.Judge.Bake, rel.Spec.Judge.NoBake = gapless.Duration(30*time.Second), false
	s.deploy(rel)
	s.until("promoted", func(st State) bool { return !st.Busy() })
	if st := s.runner.state; len(st.of(Kept, "web")) != 2 || st.Bake == nil {
		t.Fatalf("%d are kept, %+v", len(st.of(Kept, "web")), st.Bake)
	}
	s.sour("v2")
	s.rest("v1", gapless.Promoted, "failed after it was promoted")
}

// TestBakeIsStuck: what cannot be taken back is told once, and tried until it can.
func TestBakeIsStuck(t *testing.T) {
	s := watched(t)
	decide := s.decide
	s.decide = before(func(_ *State, o *Observed, _ time.Time) { delete(o.Releases, "v1") })
	s.sour("v2")
	s.until("it is stuck", func(st State) bool { return st.Bake != nil && st.Bake.Stuck != "" })
	s.pass(5 * time.Second)
	told := 0
	for _, line := range s.trace {
		if strings.Contains(line, "which does not work: v1 is not known any more") {
			told++
		}
	}
	if told != 1 || s.runner.state.Busy() || s.share("v2") != 1 {
		t.Errorf("told %d times, %+v", told, s.runner.state.Rollout)
	}
	s.decide = decide
	s.rest("v1", gapless.Promoted, "failed after it was promoted")
}

// TestHardEvidenceAfterPromote needs no statistics.
func TestHardEvidenceAfterPromote(t *testing.T) {
	t.Run("crashes", func(t *testing.T) {
		s := watched(t)
		id := s.runner.state.of(Stable, "web")[0].ID
		s.until("taken back", func(st State) bool {
			if p := s.find(id); p != nil && p.in.State == gapless.Ready {
				p.then, p.due = gapless.Crashed, s.now
			}
			return st.Busy()
		})
		s.rest("v1", gapless.Promoted, "crashed 3 times since it was promoted")
	})
	t.Run("refuses", func(t *testing.T) {
		s := watched(t)
		s.decide = before(func(st *State, o *Observed, _ time.Time) {
			o.Served.Refusing = map[string]bool{}
			for _, m := range st.Members {
				o.Served.Refusing[m.ID] = m.Release == "v2"
			}
		})
		s.rest("v1", gapless.Promoted, "v2 refuses connections at every instance")
	})
	t.Run("nothing to go back to", func(t *testing.T) {
		s := watched(t)
		for _, m := range s.runner.state.of(Kept, "web") {
			p := s.find(m.ID)
			p.then, p.due = gapless.Crashed, s.now
		}
		s.pass(50 * time.Millisecond)
		s.sour("v2")
		s.rest("v2", gapless.Promoted, "")
		if !s.told("bake") {
			t.Error("nobody was told that there is no way back")
		}
	})
}
