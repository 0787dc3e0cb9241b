package rollout

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"gapless"
)

// blueGreen is a release of n web instances with that strategy.
func (s *stage) blueGreen(t temper, n int) *gapless.Release {
	rel := s.made(t, gapless.Process{Name: "web", Instances: n})
	rel.Spec.Strategy, rel.Spec.Keep = gapless.StrategyBlueGreen, gapless.Duration(time.Minute)
	rel.Spec.Judge = gapless.JudgeSpec{Within: gapless.Duration(3 * time.Second), OnUndecided: gapless.OnUndecidedContinue}
	return rel
}

// own is a release with a plan of its own.
func (s *stage) own(t temper, n int, steps ...gapless.Step) *gapless.Release {
	rel := s.made(t, gapless.Process{Name: "web", Instances: n})
	rel.Spec.Steps = steps
	return rel
}

func (s *stage) serves(release string, share float64) {
	s.t.Helper()
	s.until(release+" serves", func(State) bool { return s.share(release) == share })
}

// flipped deploys v1 and then v2 blue-green, so that v1 is kept.
func (s *stage) flipped(n int) {
	s.t.Helper()
	s.deploy(s.blueGreen(good, n))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.blueGreen(good, n))
	s.until("end", func(st State) bool { return !st.Busy() })
	if st := s.runner.state; st.Stable != "v2" || len(st.of(Kept, "web")) != n {
		s.t.Fatalf("%s serves, %d instances are kept", st.Stable, len(st.of(Kept, "web")))
	}
}

func (s *stage) back(to string) {
	s.t.Helper()
	s.must("rollback", func(st State) (State, error) {
		return BeginRollback(st, "back", s.releases[to], counts(s.releases[to]), s.now)
	})
}

func TestBlueGreen(t *testing.T) {
	s := onStage(t)
	s.deploy(s.blueGreen(good, 3))
	s.rest("v1", gapless.Promoted, "")
	rel := s.blueGreen(good, 3)
	rel.Spec.Preview = &gapless.Preview{Host: "next.example.org"}
	s.deploy(rel)
	s.until("preview", func(State) bool { return s.applied.Preview != nil })
	if n := s.alive("web"); n != 6 || s.share("v2") != 0 || s.applied.Preview.Release != "v2" {
		t.Errorf("%d instances, v2 has %v, %+v", n, s.share("v2"), s.applied.Preview)
	}
	s.until("judged", s.step(gapless.StepJudge))
	if s.share("v2") != blueGreenShare {
		t.Errorf("judged at %v", s.share("v2"))
	}
	s.until("end", func(st State) bool { return !st.Busy() })
	if s.share("v2") != 1 || len(s.runner.state.of(Kept, "web")) != 3 {
		t.Errorf("v2 has %v, %d are kept", s.share("v2"), len(s.runner.state.of(Kept, "web")))
	}
	began := s.now
	s.rest("v2", gapless.Promoted, "")
	if d := s.now.Sub(began); d < time.Minute || s.alive("web") != 3 {
		t.Errorf("the old set was kept for %s, %d instances run", d, s.alive("web"))
	}
}

// TestInstantWayBack: a rollback to the kept set is one change of the route,
// at the first look, and starts nothing.
func TestInstantWayBack(t *testing.T) {
	s := onStage(t)
	s.flipped(3)
	n, began := len(s.procs), s.now
	s.back("v1")
	s.round()
	if s.share("v1") != 1 || len(s.procs) != n || !s.now.Equal(began) {
		t.Errorf("v1 has %v, %d instances, %s", s.share("v1"), len(s.procs), s.now.Sub(began))
	}
	s.rest("v1", gapless.Promoted, "")
}

// TestWayBackOfRestartedInstance: an instance that crashed once, long before,
// is no evidence against the release that it is of.
func TestWayBackOfRestartedInstance(t *testing.T) {
	s := onStage(t)
	s.deploy(s.blueGreen(good, 2))
	s.rest("v1", gapless.Promoted, "")
	s.crash(Stable, "web")
	s.pass(50 * time.Millisecond)
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.blueGreen(good, 2))
	s.until("end", func(st State) bool { return !st.Busy() })
	s.back("v1")
	s.rest("v1", gapless.Promoted, "")
}

// TestWayBackWhileKeptOnesDie: what is kept and dies is replaced; it does not
// keep the bad release in place.
func TestWayBackWhileKeptOnesDie(t *testing.T) {
	for name, dead := range map[string]int{"one": 1, "all": 3} {
		t.Run(name, func(t *testing.T) {
			s := onStage(t)
			s.flipped(3)
			for _, m := range s.runner.state.of(Kept, "web")[:dead] {
				p := s.find(m.ID)
				p.then, p.due = gapless.Crashed, s.now
			}
			s.back("v1")
			s.pass(50 * time.Millisecond)
			s.rest("v1", gapless.Promoted, "")
		})
	}
}

func TestKeptInstanceCrashes(t *testing.T) {
	s := onStage(t)
	s.flipped(2)
	p := s.crash(Kept, "web")
	s.until("gone", func(State) bool { return s.find(p.in.ID) == nil })
	if n := len(s.runner.state.of(Kept, "web")); n != 1 {
		t.Errorf("%d are kept", n)
	}
	s.back("v1")
	s.rest("v1", gapless.Promoted, "")
}

func TestDeployWhileKept(t *testing.T) {
	s := onStage(t)
	s.flipped(2)
	rel := s.blueGreen(good, 2)
	rel.Spec.Judge.Within = gapless.Duration(time.Minute)
	s.deploy(rel)
	s.until("the first set is gone", func(st State) bool { return len(st.of(Kept, "web")) == 0 && len(st.of(Leaving, "web")) == 0 })
	s.must("abort", func(st State) (State, error) { return Abort(st, "no", s.now), nil })
	s.rest("v2", gapless.TakenBack, "no")
}

func TestScaleKeepsTheWayBack(t *testing.T) {
	s := onStage(t)
	s.flipped(2)
	s.scale("web", 3)
	s.until("end", func(st State) bool { return !st.Busy() })
	if n := len(s.runner.state.of(Kept, "web")); n != 2 {
		t.Errorf("%d are kept", n)
	}
	s.back("v1")
	s.serves("v1", 1)
	s.rest("v1", gapless.Promoted, "")
}

// TestProofAfterPromote: evidence that comes when the old release is on its
// way out takes nothing back.
func TestProofAfterPromote(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	rel := s.blueGreen(good, 2)
	s.deploy(rel)
	s.until("an old one leaves", s.step(gapless.StepWeight))
	s.until("promote", func(st State) bool {
		for i := range st.Rollout.Plan {
			if kind := st.Rollout.Plan[i].Kind; kind == gapless.StepKeep || kind == gapless.StepBake {
				s.runner.state.Rollout.Plan[i].For = 0
			}
		}
		return s.step(gapless.StepPromote)(st)
	})
	for range 500 {
		s.edges[0].add("v2", 0.1, "5xx")
	}
	s.rest("v2", gapless.Promoted, "")
}

func TestProofTakesBack(t *testing.T) {
	for _, paused := range []bool{false, true} {
		s := onStage(t)
		s.deploy(s.made(good))
		s.rest("v1", gapless.Promoted, "")
		rel := s.own(sloppy, 2, gapless.Step{Kind: gapless.StepWeight, Weight: 0.25}, gapless.Step{Kind: gapless.StepJudge, For: gapless.Duration(time.Hour)})
		s.deploy(rel)
		s.until("judged", s.step(gapless.StepJudge))
		if paused {
			s.must("pause", Pause)
		}
		s.rest("v1", gapless.TakenBack, "failed candidate requests (stable: ")
	}
}

// TestShareNeedsInstances: one of four ready instances carries a quarter,
// whatever the plan says.
func TestShareNeedsInstances(t *testing.T) {
	s := onStage(t)
	four := gapless.Process{Name: "web", Instances: 4}
	s.deploy(s.made(good, four))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.own(good, 4, gapless.Step{Kind: gapless.StepStart, N: 1}, gapless.Step{Kind: gapless.StepWeight, Weight: 0.9}, gapless.Step{Kind: gapless.StepPause}))
	s.until("paused", func(st State) bool { return st.Paused })
	if s.share("v2") != 0.25 {
		t.Errorf("v2 has %v", s.share("v2"))
	}
	s.must("resume", Resume)
	s.rest("v2", gapless.Promoted, "")
}

// TestNobodyWatched: while the daemon is away no judged step passes.
func TestNobodyWatched(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	rel := s.own(good, 2, gapless.Step{Kind: gapless.StepWeight, Weight: 0.1},
		gapless.Step{Kind: gapless.StepJudge, For: gapless.Duration(20 * time.Second), OnUndecided: gapless.OnUndecidedContinue}, gapless.Step{Kind: gapless.StepPause})
	s.deploy(rel)
	s.until("judged", s.step(gapless.StepJudge))
	s.pass(25 * time.Second) // shorter than the lease
	s.boot()
	came := s.now
	s.until("paused", func(st State) bool { return st.Paused })
	if d := s.now.Sub(came); d < 19*time.Second {
		t.Errorf("it went on %s after it came back", d)
	}
}

// TestLeaseRunsOut: a daemon that comes back late ends the rollout.
func TestLeaseRunsOut(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.own(good, 2, gapless.Step{Kind: gapless.StepWeight, Weight: 0.1}, gapless.Step{Kind: gapless.StepPause}))
	s.until("paused", func(st State) bool { return st.Paused })
	s.pass(LeaseTime + time.Second)
	if !s.edges[0].fell {
		t.Fatal("the edge did not fall back")
	}
	s.boot()
	s.rest("v1", gapless.TakenBack, "nobody judged")
}

func TestPauseAndResume(t *testing.T) {
	hold := gapless.Step{Kind: gapless.StepPause}
	for _, at := range []gapless.StepKind{gapless.StepWarm, gapless.StepWeight, gapless.StepJudge, gapless.StepPause, gapless.StepHook} {
		t.Run(string(at), func(t *testing.T) {
			s := onStage(t)
			s.deploy(s.made(good))
			s.rest("v1", gapless.Promoted, "")
			s.deploy(s.own(good, 2, gapless.Step{Kind: gapless.StepStart, N: 1}, gapless.Step{Kind: gapless.StepWarm}, gapless.Step{Kind: gapless.StepHook, Run: "true"},
				gapless.Step{Kind: gapless.StepWeight, Weight: 0.1}, gapless.Step{Kind: gapless.StepJudge, For: gapless.Duration(time.Second), OnUndecided: gapless.OnUndecidedContinue}, hold))
			s.until(string(at), func(st State) bool { return st.Busy() && st.Rollout.Plan[st.Rollout.Cursor].Kind == at })
			s.must("pause", Pause)
			was := s.runner.State()
			began := s.now
			s.until("a while", func(st State) bool {
				if st.Rollout.Cursor != was.Rollout.Cursor || !st.Paused {
					t.Fatalf("it went on to %d", st.Rollout.Cursor)
				}
				return s.now.Sub(began) > 20*time.Second
			})
			s.must("again", Pause)
			if s.runner.state.Rollout.Waiting != was.Rollout.Waiting {
				t.Errorf("why it waits is forgotten: %q", s.runner.state.Rollout.Waiting)
			}
			s.must("resume", Resume)
			if at != gapless.StepPause {
				s.until("the plan's own pause", func(st State) bool { return st.Paused })
				s.must("resume", Resume)
			}
			s.rest("v2", gapless.Promoted, "")
		})
	}
}

// TestPromoteAnywhere: from every step of every strategy a person can say "now".
func TestPromoteAnywhere(t *testing.T) {
	for _, strategy := range []string{gapless.StrategyRolling, gapless.StrategyBlueGreen, gapless.StrategyCanary} {
		for at := 0; ; at++ {
			s := onStage(t)
			processes := []gapless.Process{{Name: "web", Instances: 3}, {Name: "worker", Instances: 1}, {Name: "clock", Instances: 1, Singleton: true}}
			s.deploy(s.made(good, processes...))
			s.rest("v1", gapless.Promoted, "")
			rel := s.made(good, processes...)
			rel.Spec.Strategy, rel.Spec.Keep = strategy, gapless.Duration(time.Second)
			rel.Spec.Judge = gapless.JudgeSpec{Within: gapless.Duration(time.Second), OnUndecided: gapless.OnUndecidedContinue, Bake: gapless.Duration(time.Second)}
			s.deploy(rel)
			if at >= len(s.runner.state.Rollout.Plan) {
				break
			}
			s.until("step", func(st State) bool {
				return st.Busy() && st.Rollout.Cursor == at && (st.Entered || at == 0) || !st.Busy()
			})
			if s.runner.state.Busy() {
				s.must("promote", func(st State) (State, error) { return Promote(st, rel) })
			}
			s.rest("v2", gapless.Promoted, "")
			if n := s.alive("web"); n != 3 {
				t.Errorf("%s, step %d: %d instances", strategy, at, n)
			}
		}
	}
}

func TestPromoteOfScaleAndRestart(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	for _, begin := range []func(){func() { s.scale("web", 4) }, s.restart} {
		begin()
		s.must("pause", Pause)
		s.must("promote", func(st State) (State, error) { return Promote(st, s.releases["v1"]) })
		s.until("end", func(st State) bool {
			if n := s.alive("web"); n > 6 {
				t.Fatalf("%d instances", n)
			}
			return !st.Busy()
		})
		s.rest("v1", gapless.Promoted, "")
	}
}

// TestHooks is what becomes of hooks.
func TestHooks(t *testing.T) {
	for _, c := range []struct {
		name, run, onResume string
		dies                bool
		outcome             gapless.Outcome
		stable, reason      string
	}{
		{"passes", "true", "", false, gapless.Promoted, "v2", ""},
		{"fails", "this fails", "", false, gapless.TakenBack, "v1", "hook failed: this fails"},
		{"the daemon dies", "true", "", true, gapless.TakenBack, "v1", "the daemon died"},
		{"it dies, and the hook may run twice", "true " + OnResumeRerun, OnResumeRerun, true, gapless.Promoted, "v2", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := onStage(t)
			s.deploy(s.made(good))
			s.rest("v1", gapless.Promoted, "")
			s.deploy(s.own(good, 2, gapless.Step{Kind: gapless.StepWarm}, gapless.Step{Kind: gapless.StepWeight, Weight: 0.1},
				gapless.Step{Kind: gapless.StepHook, Run: c.run, OnResume: c.onResume}))
			s.until("hook", func(State) bool { return len(s.ran) > 0 })
			if c.dies {
				s.boot()
			}
			s.rest(c.stable, c.outcome, c.reason)
		})
	}
}

func TestHookAsks(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.own(good, 2, gapless.Step{Kind: gapless.StepWarm}, gapless.Step{Kind: gapless.StepHook, Run: "migrate", OnResume: OnResumeAsk}))
	s.until("hook", func(State) bool { return len(s.ran) > 0 })
	s.boot()
	s.until("asked", func(st State) bool { return st.Paused && strings.Contains(st.Rollout.Waiting, "migrate") })
	s.must("resume", Resume)
	s.rest("v2", gapless.Promoted, "")
}

// TestHookThatCannotStart says so, and is not taken for one that may have run.
func TestHookThatCannotStart(t *testing.T) {
	for _, how := range []string{OnResumeRerun, OnResumeFail, OnResumeAsk} {
		s := onStage(t)
		s.deploy(s.made(good))
		s.rest("v1", gapless.Promoted, "")
		s.runner.Hooks = nil
		s.deploy(s.own(good, 2, gapless.Step{Kind: gapless.StepWarm}, gapless.Step{Kind: gapless.StepHook, Run: "true", OnResume: how}))
		s.rest("v1", gapless.NothingStarted, "cannot be started")
	}
}

// TestHookAfterPromote can no longer take anything back.
func TestHookAfterPromote(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.own(good, 2, gapless.Step{Kind: gapless.StepWeight, Weight: 0.5}, gapless.Step{Kind: gapless.StepPromote}, gapless.Step{Kind: gapless.StepHook, Run: "tell: fails"}))
	s.until("hook", func(State) bool { return len(s.ran) > 0 })
	s.must("abort", func(st State) (State, error) { return Abort(st, "too late", s.now), nil })
	s.rest("v2", gapless.Promoted, "")
	if !s.told("hook") {
		t.Error("nobody was told that the hook failed")
	}
}

// TestOwnStepsAreCompleted: what a plan of a person lacks is added.
func TestOwnStepsAreCompleted(t *testing.T) {
	for name, steps := range map[string][]gapless.Step{
		"a weight only":       {{Kind: gapless.StepWeight, Weight: 0.1}},
		"promote only":        {{Kind: gapless.StepPromote}},
		"promote twice":       {{Kind: gapless.StepPromote}, {Kind: gapless.StepWeight, Weight: 0.1}, {Kind: gapless.StepPromote}},
		"preview of nothing":  {{Kind: gapless.StepPreview}},
		"too many":            {{Kind: gapless.StepStart, N: 5}},
		"singletons, workers": {{Kind: gapless.StepScale, Process: "clock", N: 1}, {Kind: gapless.StepStart, Process: "worker", N: 1}},
		"drain first":         {{Kind: gapless.StepDrain, Process: "web", N: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			s := onStage(t)
			processes := []gapless.Process{{Name: "web", Instances: 2}, {Name: "worker", Instances: 2}, {Name: "clock", Instances: 1, Singleton: true}}
			s.deploy(s.made(good, processes...))
			s.rest("v1", gapless.Promoted, "")
			rel := s.made(good, processes...)
			rel.Spec.Steps = steps
			s.deploy(rel)
			s.rest("v2", gapless.Promoted, "")
			for _, p := range processes {
				if n := s.alive(p.Name); n != p.Instances {
					t.Errorf("%d × %s", n, p.Name)
				}
			}
		})
	}
}

func TestSteeringIsRefused(t *testing.T) {
	idle := State{App: simApp, Stable: "v1"}
	running := State{App: simApp, Stable: "v1", Rollout: &gapless.Rollout{To: "v2", Outcome: gapless.Running, Plan: []gapless.Step{{Kind: gapless.StepWarm}, {Kind: gapless.StepPromote}}}}
	back, done := running.Clone(), running.Clone()
	back.Back = true
	done.Rollout.Cursor, done.Entered = 1, true
	rel := &gapless.Release{Name: "v2"}
	promote := func(s State) (State, error) { return Promote(s, rel) }
	for name, f := range map[string]func() (State, error){
		"pause of nothing":         func() (State, error) { return Pause(idle) },
		"resume of nothing":        func() (State, error) { return Resume(idle) },
		"promote of nothing":       func() (State, error) { return promote(idle) },
		"resume of what goes on":   func() (State, error) { return Resume(running) },
		"pause on the way back":    func() (State, error) { return Pause(back) },
		"resume on the way back":   func() (State, error) { return Resume(back) },
		"promote on the way back":  func() (State, error) { return promote(back) },
		"pause of what is through": func() (State, error) { return Pause(done) },
	} {
		if _, err := f(); gapless.CodeOf(err) != gapless.Conflict || gapless.HintOf(err) == "" {
			t.Errorf("%s: %v (hint %q)", name, err, gapless.HintOf(err))
		}
	}
	var e *gapless.Error
	if _, err := Pause(idle); !errors.As(err, &e) {
		t.Error("no gapless.Error")
	}
}

// TestPromoteLooksAgain: what was ready when all traffic went to it may be
// gone when the old instances are to go.
func TestPromoteLooksAgain(t *testing.T) {
	s := onStage(t)
	processes := []gapless.Process{{Name: "web", Instances: 2}, {Name: "clock", Instances: 1, Singleton: true}}
	s.deploy(s.made(good, processes...))
	s.rest("v1", gapless.Promoted, "")
	rel := s.made(good, processes...)
	rel.Spec.Strategy, rel.Spec.Flip, rel.Spec.Judge.Within, rel.Spec.Keep = gapless.StrategyBlueGreen, true, 1, 1
	s.deploy(rel)
	s.until("swap", s.step(gapless.StepSwap))
	for i, p := range s.procs {
		if p.in.Release == "v2" && p.in.Process == "web" {
			s.procs = append(s.procs[:i:i], s.procs[i+1:]...)
			break
		}
	}
	s.faults.lost = 1 // it does not come back
	s.pass(time.Second)
	s.until("a while", func(st State) bool {
		if st.Stable == "v2" {
			t.Fatal("promoted with one of two")
		}
		return s.now.Sub(epoch) > 5*time.Minute
	})
	s.faults.lost = 0
	s.rest("v2", gapless.Promoted, "")
}

// TestDeadlinesWaitForTheEngine: ten minutes without a daemon, in the middle
// of the way back, are no reason to give stable up or to cut requests off.
func TestDeadlinesWaitForTheEngine(t *testing.T) {
	s := onStage(t)
	one := gapless.Process{Name: "web", Instances: 1}
	s.deploy(s.made(good, one))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(sloppy, one))
	s.until("soak", s.step(gapless.StepJudge))
	p := s.crash(Stable, "web")
	s.until("crash", func(State) bool { return p.in.State == gapless.Crashed })
	s.must("abort", func(st State) (State, error) { return Abort(st, "no", s.now), nil })
	p.due = s.now.Add(11 * time.Minute)
	s.pass(10 * time.Minute)
	s.boot()
	s.rest("v1", gapless.TakenBack, "no")
}

// TestClockIsSet: what was written down in the future begins now.
func TestClockIsSet(t *testing.T) {
	late := epoch.Add(time.Hour)
	s := State{Since: late, Folded: late, Members: []Member{
		{ID: "a", Role: Stable, Since: late, SickAt: late},
		{ID: "b", Role: Leaving, Since: late, Out: epoch.Add(-time.Hour)},
		{ID: "c", Role: Kept, Since: late, Until: late.Add(time.Minute)},
		{ID: "d", Role: Candidate, Since: epoch.Add(-time.Minute)},
	}}
	s.woke(epoch)
	want := []Member{
		{ID: "a", Role: Stable, Since: epoch, SickAt: epoch}, {ID: "b", Role: Leaving, Since: epoch},
		{ID: "c", Role: Kept, Since: epoch, Until: epoch.Add(time.Minute)}, {ID: "d", Role: Candidate, Since: epoch.Add(-time.Minute)},
	}
	if !reflect.DeepEqual(s.Members, want) || s.Since != epoch || !s.Folded.IsZero() {
		t.Errorf("%+v", s)
	}
}

// TestFlipOfAnAppThatIsNeverPerfect: stable gives 2 % bad answers, always. A
// flip to a release that does the same stays; one that gives ten times as many
// is taken back. Without stable's record the first would be, too.
func TestFlipOfAnAppThatIsNeverPerfect(t *testing.T) {
	flip := func(t *testing.T, seed uint64, temper temper, record bool) gapless.Outcome {
		s := onStage(t)
		s.rng, s.noise, s.sloppiness = rand.New(rand.NewPCG(seed, 9)), 0.02, 0.2
		s.deploy(s.made(good))
		s.rest("v1", gapless.Promoted, "")
		for range 200 { // it serves for a while
			s.pass(100 * time.Millisecond)
		}
		rel := s.made(temper)
		rel.Spec.Strategy, rel.Spec.Flip, rel.Spec.Judge.Within = gapless.StrategyBlueGreen, true, gapless.Duration(30*time.Second)
		seen := s.record("v1")
		if !record {
			seen = gapless.Arm{}
		}
		s.must("flip", func(st State) (State, error) {
			return Begin(st, "r", "deploy", rel, counts(rel), judgeOf("v1", rel, seen), s.now)
		})
		s.until("the end", func(st State) bool { return !st.Busy() })
		return s.runner.state.Rollout.Outcome
	}
	lost := 0
	for seed := range uint64(20) {
		if o := flip(t, seed, good, true); o != gapless.Promoted {
			t.Errorf("seed %d: as good as stable: %s", seed, o)
		}
		if o := flip(t, seed, sloppy, true); o != gapless.TakenBack {
			t.Errorf("seed %d: ten times worse: %s", seed, o)
		}
		if flip(t, seed, good, false) == gapless.TakenBack {
			lost++
		}
	}
	if lost == 0 {
		t.Error("without a record nothing is lost: the record is not what decides here")
	}
}
