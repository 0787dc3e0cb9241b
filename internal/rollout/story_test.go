package rollout

import (
	"strings"
	"testing"
	"time"

	"gapless"
)

// stage is a world without faults for one told story.
type stage struct {
	*world
	t *testing.T
	n int
}

func onStage(t *testing.T) *stage {
	w := newWorld(1)
	w.verbose = true
	s := &stage{world: w, t: t}
	t.Cleanup(func() {
		if w.broken != nil {
			t.Errorf("broken: %v", w.broken)
		}
		if t.Failed() {
			t.Log("\n" + strings.Join(w.trace, "\n"))
		}
	})
	return s
}

// made is a release with these processes; a plain one has two web instances.
func (s *stage) made(t temper, processes ...gapless.Process) *gapless.Release {
	rel := s.world.release(t)
	rel.Spec.Processes = processes
	if len(processes) == 0 {
		rel.Spec.Processes = []gapless.Process{{Name: gapless.WebProcess, Instances: 2}}
	}
	rel.Spec.Strategy, rel.Spec.Steps, rel.Spec.Judge = gapless.StrategyRolling, nil, gapless.JudgeSpec{NoBake: true}
	rel.Spec.Keep, rel.Spec.Flip, rel.Spec.Preview = 0, false, nil
	rel.Spec.Mirror = gapless.Mirror{}
	rel.Spec.Soak = gapless.Duration(2 * time.Second)
	return rel
}

func (s *stage) must(what string, f func(State) (State, error)) {
	s.t.Helper()
	s.n++
	if err := s.order(what, f); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func (s *stage) deploy(rel *gapless.Release) {
	s.t.Helper()
	kind := "deploy"
	if s.runner.state.Stable == "" {
		kind = "up"
	}
	s.must(kind, func(st State) (State, error) {
		return Begin(st, kind+rel.Name, kind, rel, counts(rel), judgeOf(st.Stable, rel, s.record(st.Stable)), s.now)
	})
}

func (s *stage) restart() {
	s.t.Helper()
	s.must("restart", func(st State) (State, error) {
		return BeginRestart(st, "restart", s.releases[st.Stable], s.now)
	})
}

func (s *stage) scale(process string, n int) {
	s.t.Helper()
	s.must("scale", func(st State) (State, error) {
		return BeginScale(st, "scale", s.releases[st.Stable], process, n, s.now)
	})
}

// until lets time pass until what is asked for is so.
func (s *stage) until(what string, is func(State) bool) {
	s.t.Helper()
	for range 6000 {
		if is(s.runner.state) {
			return
		}
		s.pass(50 * time.Millisecond)
		was := s.runner.state
		s.round()
		s.ended(was, s.runner.state)
	}
	s.t.Fatalf("%s: never", what)
}

// rest lets everything settle and checks who serves and how the last rollout ended.
func (s *stage) rest(stable string, outcome gapless.Outcome, reason string) {
	s.t.Helper()
	s.until("rest", func(State) bool { return s.settled() })
	s.atRest()
	st := s.runner.state
	if st.Stable != stable || st.Rollout.Outcome != outcome || !strings.Contains(st.Rollout.Reason, reason) {
		s.t.Errorf("%q serves, the rollout is %s (%q); want %q, %s (%q)", st.Stable, st.Rollout.Outcome, st.Rollout.Reason, stable, outcome, reason)
	}
}

func (s *stage) share(release string) float64 {
	if s.applied == nil {
		return 0
	}
	return s.applied.Share(release)
}

func (s *stage) step(kind gapless.StepKind) func(State) bool {
	return func(st State) bool {
		return st.Busy() && st.Entered && st.Rollout.Plan[st.Rollout.Cursor].Kind == kind
	}
}

// crash lets an instance crash at the next look.
func (s *stage) crash(role Role, process string) *proc {
	s.t.Helper()
	members := s.runner.state.of(role, process)
	if len(members) == 0 {
		s.t.Fatalf("no %s %s", role, process)
	}
	p := s.find(members[len(members)-1].ID)
	p.then, p.due = gapless.Crashed, s.now
	return p
}

// told reports whether an event of that kind was heard.
func (s *stage) told(kind string) bool {
	for _, line := range s.trace {
		if strings.Contains(line, "event "+kind+" ") {
			return true
		}
	}
	return false
}

func TestFirstUp(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	if st := s.runner.state; st.Rollout.From != "" || !st.Rollout.Launched || st.Rollout.Finished.IsZero() {
		t.Errorf("rollout %+v", st.Rollout)
	}
}

func TestFirstUpBroken(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(stormy))
	s.rest("", gapless.NothingStarted, "v1/")
	if s.applied != nil {
		t.Errorf("a route is left: %s", describe(s.applied))
	}
	s.deploy(s.made(good))
	s.rest("v2", gapless.Promoted, "")
}

func TestDeployPromoted(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good))
	s.until("watched", s.step(gapless.StepJudge))
	watched := s.now
	if got := s.share("v2"); got != 0.25 {
		t.Errorf("v2 is watched at %v", got)
	}
	s.until("on", func(st State) bool { return !s.step(gapless.StepJudge)(st) })
	if d := s.now.Sub(watched); d < 2*time.Second {
		t.Errorf("watched for %s only", d)
	}
	s.rest("v2", gapless.Promoted, "")
}

func TestCandidateCrashes(t *testing.T) {
	for _, c := range []struct {
		name string
		t    temper
		when func(*stage)
	}{
		{"while it starts", stormy, func(*stage) {}},
		{"is never ready", mute, func(*stage) {}},
		{"in the soak", good, func(s *stage) { s.until("soak", s.step(gapless.StepJudge)); s.crash(Candidate, "web") }},
		{"in a later batch", good, func(s *stage) {
			s.until("second batch", func(st State) bool { return len(st.of(Candidate, "web")) == 2 && s.step(gapless.StepWarm)(st) })
			if n := len(s.runner.state.of(Stable, "web")); n != 1 {
				t.Errorf("%d old instances are left in the second batch", n)
			}
			s.crash(Candidate, "web")
		}},
		{"while the old ones drain", good, func(s *stage) { s.until("drain", s.step(gapless.StepDrain)); s.crash(Candidate, "web") }},
		{"its worker does", good, func(s *stage) { s.until("soak", s.step(gapless.StepJudge)); s.crash(Candidate, "worker") }},
		{"grows too big in the soak", good, func(s *stage) {
			s.until("soak", s.step(gapless.StepJudge))
			s.find(s.runner.state.of(Candidate, "web")[0].ID).in.OverMem = true
		}},
		{"stops answering its probe", good, func(s *stage) {
			s.until("soak", s.step(gapless.StepJudge))
			s.sick[s.runner.state.of(Candidate, "web")[0].ID] = s.now.Add(time.Minute)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := onStage(t)
			processes := []gapless.Process{{Name: "web", Instances: 2}, {Name: "worker", Instances: 1}}
			s.deploy(s.made(good, processes...))
			s.rest("v1", gapless.Promoted, "")
			s.deploy(s.made(c.t, processes...))
			c.when(s)
			s.rest("v1", gapless.TakenBack, "v2/")
			if r := s.runner.state.Rollout; r.Instance == "" || !r.Launched {
				t.Errorf("rollout %+v", r)
			}
		})
	}
}

func TestCandidateCannotBeStarted(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.faults.refuse = 1
	s.deploy(s.made(good))
	s.rest("v1", gapless.NothingStarted, "no such file")
}

func TestAbort(t *testing.T) {
	for _, at := range []gapless.StepKind{gapless.StepWarm, gapless.StepJudge, gapless.StepDrain} {
		t.Run(string(at), func(t *testing.T) {
			s := onStage(t)
			s.deploy(s.made(good))
			s.rest("v1", gapless.Promoted, "")
			s.deploy(s.made(good))
			s.until(string(at), s.step(at))
			s.must("abort", func(st State) (State, error) { return Abort(st, "aborted by a person", s.now), nil })
			s.rest("v1", gapless.TakenBack, "aborted")
		})
	}
}

// TestAbortAfterPromote: what is stable by then stays, and what is left of the
// plan is left out, also where it waits for a person or nothing can be saved.
func TestAbortAfterPromote(t *testing.T) {
	for name, c := range map[string]struct {
		rest []gapless.Step
		full bool
	}{
		"while the old one leaves": {nil, false},
		"in a pause of the plan":   {[]gapless.Step{{Kind: gapless.StepPause}}, false},
		"in a long pause":          {[]gapless.Step{{Kind: gapless.StepPause, For: gapless.Duration(time.Hour)}}, false},
		"in a hook":                {[]gapless.Step{{Kind: gapless.StepHook, Run: "wait"}, {Kind: gapless.StepPause}}, false},
		"on a full disk":           {[]gapless.Step{{Kind: gapless.StepPause}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := onStage(t)
			s.deploy(s.made(good))
			s.rest("v1", gapless.Promoted, "")
			rel := s.made(good)
			rel.Spec.Steps = append([]gapless.Step{{Kind: gapless.StepPromote}}, c.rest...)
			s.deploy(rel)
			if s.until("promote", s.step(gapless.StepPromote)); len(c.rest) > 0 {
				s.until("after promote", s.step(c.rest[0].Kind))
			}
			if c.full {
				s.faults.save = 1
			}
			began := s.now
			s.must("abort", func(st State) (State, error) { return Abort(st, "aborted by a person", s.now), nil })
			s.until("the end", func(st State) bool { return !st.Busy() })
			if s.now.Sub(began) > time.Second {
				t.Errorf("it took %s", s.now.Sub(began))
			}
			s.faults.save = 0
			s.rest("v2", gapless.Promoted, "aborted by a person")
			if s.n++; s.order("the next", func(st State) (State, error) {
				return Begin(st, "r3", "deploy", s.made(good), map[string]int{"web": 2}, nil, s.now)
			}) != nil {
				t.Error("the next deploy is refused")
			}
			s.rest("v3", gapless.Promoted, "")
		})
	}
}

func TestStableCrashesMeanwhile(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good, gapless.Process{Name: "web", Instances: 1}))
	s.rest("v1", gapless.Promoted, "")
	rel := s.made(good, gapless.Process{Name: "web", Instances: 1})
	rel.Spec.Soak = gapless.Duration(20 * time.Second)
	s.deploy(rel)
	s.until("soak", s.step(gapless.StepJudge))
	p := s.crash(Stable, "web")
	s.until("crash", func(State) bool { return p.in.State == gapless.Crashed })
	s.until("the candidate helps out", func(State) bool { return s.share("v2") == 1 })
	s.until("stable is back", func(State) bool { return s.share("v2") == 0.25 })
	s.rest("v2", gapless.Promoted, "")
	if !s.told("instance.crashed") {
		t.Error("nobody was told of the crash")
	}
}

// TestStableNeverComesBack: a candidate is taken back, but stable is gone for
// good. The candidate's ready instances serve on.
func TestStableNeverComesBack(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good))
	s.until("soak", s.step(gapless.StepJudge))
	s.temper["v1"] = stormy
	for _, m := range s.runner.state.of(Stable, "web") {
		p := s.find(m.ID)
		p.then, p.due = gapless.Crashed, s.now
	}
	s.pass(0)
	s.must("abort", func(st State) (State, error) { return Abort(st, "aborted by a person", s.now), nil })
	began := s.now
	s.rest("v2", gapless.NothingStarted, "v1 cannot become ready either, v2 serves on")
	if d := s.runner.state.Rollout.Finished.Sub(began); d < StuckLimit {
		t.Errorf("gave stable up after %s", d)
	}
}

// TestStableComesBackInPart: after a while the half of stable that works is
// enough to take a candidate back.
func TestStableComesBackInPart(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good))
	s.until("soak", s.step(gapless.StepJudge))
	s.temper["v1"] = stormy
	p := s.crash(Stable, "web")
	s.until("crash", func(State) bool { return p.in.State == gapless.Crashed })
	s.must("abort", func(st State) (State, error) { return Abort(st, "aborted by a person", s.now), nil })
	began := s.now
	s.until("end", func(st State) bool { return !st.Busy() })
	st := s.runner.state
	if st.Stable != "v1" || st.Rollout.Outcome != gapless.TakenBack || s.share("v1") != 1 {
		t.Errorf("%s serves %v, %s", st.Stable, s.share("v1"), st.Rollout.Outcome)
	}
	if d := s.now.Sub(began); d < StuckLimit || d > 2*StuckLimit {
		t.Errorf("it took %s", d)
	}
}

// TestWayBackEndsWhenStableIsComplete: the only candidates are gone at once,
// but the old instances that were stopped already have to come up again.
func TestWayBackEndsWhenStableIsComplete(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good))
	s.until("an old one is gone", func(st State) bool { return len(st.of(Stable, "web")) == 1 && len(st.of(Leaving, "web")) == 0 })
	for _, m := range s.runner.state.of(Candidate, "web") {
		p := s.find(m.ID)
		p.then, p.due = gapless.Crashed, s.now
	}
	s.until("end", func(st State) bool { return !st.Busy() })
	ready := 0
	for _, p := range s.procs {
		if p.in.Release == "v1" && p.in.State == gapless.Ready {
			ready++
		}
	}
	if ready != 2 || s.runner.state.Rollout.Outcome != gapless.TakenBack {
		t.Errorf("%s with %d instances of v1 ready", s.runner.state.Rollout.Outcome, ready)
	}
	s.rest("v1", gapless.TakenBack, "v2/")
}

// TestLostSave: the save that named the candidate is lost, the candidate is
// not. It is found, and counts as launched.
func TestLostSave(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good))
	lost := s.saved
	s.until("start", func(State) bool { return s.alive("web") == 3 })
	s.saved = lost
	s.boot()
	s.must("abort", func(st State) (State, error) { return Abort(st, "aborted by a person", s.now), nil })
	s.rest("v1", gapless.TakenBack, "aborted")
}

func TestReboot(t *testing.T) {
	for _, at := range []gapless.StepKind{gapless.StepWarm, gapless.StepWeight, gapless.StepJudge, gapless.StepDrain} {
		t.Run(string(at), func(t *testing.T) {
			s := onStage(t)
			s.deploy(s.made(good))
			s.rest("v1", gapless.Promoted, "")
			s.deploy(s.made(good))
			s.until(string(at), s.step(at))
			s.reboot()
			s.rest("v2", gapless.Promoted, "")
		})
	}
}

func TestRestart(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good, gapless.Process{Name: "web", Instances: 3}, gapless.Process{Name: "worker", Instances: 2},
		gapless.Process{Name: "clock", Instances: 1, Singleton: true}))
	s.rest("v1", gapless.Promoted, "")
	old := map[string]bool{}
	for _, p := range s.procs {
		old[p.in.ID] = true
	}
	s.restart()
	s.rest("v1", gapless.Promoted, "")
	for _, p := range s.procs {
		if old[p.in.ID] {
			t.Errorf("%s was not replaced", p.in.ID)
		}
	}
}

func TestRestartTakenBack(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.temper["v1"] = stormy // what it needs is gone by now
	s.restart()
	s.rest("v1", gapless.TakenBack, "exit code 1")
}

func TestScale(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	for _, n := range []int{4, 1, 0, 2} {
		s.scale("web", n)
		s.rest("v1", gapless.Promoted, "")
		if got := len(s.runner.state.of(Stable, "web")); got != n {
			t.Errorf("%d instances, not %d", got, n)
		}
	}
}

func TestDown(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good, gapless.Process{Name: "web", Instances: 2}, gapless.Process{Name: "worker", Instances: 1}))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good))
	s.until("soak", s.step(gapless.StepJudge))
	s.must("down", func(st State) (State, error) { st.Down = true; return st, nil })
	s.until("gone", func(st State) bool {
		if len(st.of(Leaving, "web")) > 0 && s.alive("worker") > 0 {
			t.Fatal("web leaves before the worker is gone")
		}
		return st.Idle()
	})
	s.rest("", gapless.TakenBack, "taken down")
	s.deploy(s.made(good))
	s.rest("v3", gapless.Promoted, "")
}

func (s *stage) alive(process string) int {
	n := 0
	for _, p := range s.procs {
		if p.in.Process == process && p.alive() {
			n++
		}
	}
	return n
}

func TestProcessesAreReleasedTogether(t *testing.T) {
	s := onStage(t)
	processes := []gapless.Process{
		{Name: "web", Instances: 1}, {Name: "worker", Instances: 2},
		{Name: "clock", Instances: 1, Singleton: true},
		{Name: "nightly", Instances: 1, Cron: "0 3 * * *"},
	}
	s.deploy(s.made(good, processes...))
	s.rest("v1", gapless.Promoted, "")
	s.faults.slowStop = true
	s.deploy(s.made(good, processes...))
	s.until("end", func(st State) bool {
		if n := s.alive("clock"); n > 1 {
			t.Fatalf("%d clocks at once", n)
		}
		return !st.Busy()
	})
	s.rest("v2", gapless.Promoted, "")
	for _, p := range processes {
		if got := s.alive(p.Name); got != p.Instances {
			t.Errorf("%d × %s", got, p.Name)
		}
	}
}

// TestOverMemory: the new one first, then the old one drains.
func TestOverMemory(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good, gapless.Process{Name: "web", Instances: 1, Memory: 100 << 20}))
	s.rest("v1", gapless.Promoted, "")
	old := s.find(s.runner.state.of(Stable, "web")[0].ID)
	old.in.OverMem, old.in.Memory = true, 200<<20
	s.until("a second one runs", func(State) bool { return s.alive("web") == 2 })
	if !picks(s.applied, old.in.ID) {
		t.Error("the old one is out before the new one is ready")
	}
	s.rest("v1", gapless.Promoted, "")
	if s.find(old.in.ID) != nil || !s.told("instance.replaced") {
		t.Error("it was not replaced")
	}
}

func TestSickInstanceIsReplaced(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	id := s.runner.state.of(Stable, "web")[0].ID
	s.sick[id] = s.now.Add(SickLimit / 2)
	from := s.now
	s.until("some time", func(State) bool { return s.now.Sub(from) > SickLimit })
	if s.find(id) == nil || s.told("instance.replaced") {
		t.Fatal("replaced although it got well again")
	}
	s.sick[id] = s.now.Add(time.Hour)
	from = s.now
	s.until("replaced", func(State) bool { return s.find(id) == nil })
	if d := s.now.Sub(from); d < SickLimit {
		t.Errorf("replaced after %s", d)
	}
	s.rest("v1", gapless.Promoted, "")
}

func TestFailedStableInstanceIsReplaced(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	p := s.find(s.runner.state.of(Stable, "web")[1].ID)
	p.then, p.due = gapless.Failed, s.now
	s.until("replaced", func(State) bool { return s.find(p.in.ID) == nil })
	s.rest("v1", gapless.Promoted, "")
}

// TestDrainWaitsForTheEdge: a request that does not end holds the old
// instance until its drain deadline, counted from when the edge had it out.
func TestDrainWaitsForTheEdge(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good, gapless.Process{Name: "web", Instances: 1}))
	s.rest("v1", gapless.Promoted, "")
	id := s.runner.state.of(Stable, "web")[0].ID
	s.deploy(s.made(good, gapless.Process{Name: "web", Instances: 1}))
	s.until("drain", s.step(gapless.StepDrain))
	s.edges[0].flight[id], s.edges[0].long[id] = 1, s.now.Add(time.Hour)
	s.edges[0].dark = s.now.Add(10 * time.Second) // nothing is known of it for longer than a drain
	from := s.now
	s.until("stopped", func(State) bool { return s.find(id) == nil || s.find(id).in.State == gapless.Stopping })
	if d := s.now.Sub(from); d < 10*time.Second+simDrain {
		t.Errorf("stopped after %s", d)
	}
	s.rest("v2", gapless.Promoted, "")
	if !s.told("instance.drain_timeout") {
		t.Error("nobody was told that work was cut off")
	}
}

func TestDeployOntoItself(t *testing.T) {
	s := onStage(t)
	rel := s.made(good)
	s.deploy(rel)
	s.rest("v1", gapless.Promoted, "")
	s.deploy(rel)
	s.rest("v1", gapless.Promoted, "")
}

func TestWebComesAndGoes(t *testing.T) {
	s := onStage(t)
	worker := gapless.Process{Name: "worker", Instances: 1}
	web := gapless.Process{Name: "web", Instances: 2}
	s.deploy(s.made(good, worker))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good, worker, web))
	s.rest("v2", gapless.Promoted, "")
	s.deploy(s.made(good, worker))
	s.rest("v3", gapless.Promoted, "")
	if s.applied != nil {
		t.Errorf("a route is left: %s", describe(s.applied))
	}
	s.deploy(s.made(stormy, worker, web))
	s.rest("v3", gapless.TakenBack, "v4/")
}

func TestCommandsAreRefused(t *testing.T) {
	s := onStage(t)
	one, clock := gapless.Process{Name: "web", Instances: 1}, gapless.Process{Name: "clock", Instances: 1, Singleton: true}
	rel := s.made(good, one, clock, gapless.Process{Name: "nightly", Instances: 1, Cron: "@daily"})
	none := State{App: simApp}
	busyState, err := Begin(none, "r", "up", rel, counts(rel), nil, s.now)
	if err != nil {
		t.Fatal(err)
	}
	up := State{App: simApp, Stable: "v1", Counts: counts(rel)}
	down := up.Clone()
	down.Down = true
	for _, c := range []struct {
		name string
		f    func() (State, error)
		code gapless.Code
	}{
		{"a second deploy", func() (State, error) { return Begin(busyState, "r2", "deploy", rel, counts(rel), nil, s.now) }, gapless.Conflict},
		{"a restart meanwhile", func() (State, error) { return BeginRestart(busyState, "r2", rel, s.now) }, gapless.Conflict},
		{"a restart of nothing", func() (State, error) { return BeginRestart(none, "r2", nil, s.now) }, gapless.Conflict},
		{"a restart while it goes down", func() (State, error) { return BeginRestart(down, "r2", rel, s.now) }, gapless.Conflict},
		{"a scale of nothing", func() (State, error) { return BeginScale(none, "r2", nil, "web", 2, s.now) }, gapless.Conflict},
		{"a scale of what is not there", func() (State, error) { return BeginScale(up, "r2", rel, "wev", 2, s.now) }, gapless.NotFound},
		{"two singletons", func() (State, error) { return BeginScale(up, "r2", rel, "clock", 2, s.now) }, gapless.Invalid},
		{"a scale of a schedule", func() (State, error) { return BeginScale(up, "r2", rel, "nightly", 2, s.now) }, gapless.Invalid},
	} {
		if _, err := c.f(); gapless.CodeOf(err) != c.code || gapless.HintOf(err) == "" {
			t.Errorf("%s: %v (%s, hint %q), want %s", c.name, err, gapless.CodeOf(err), gapless.HintOf(err), c.code)
		}
	}
}
