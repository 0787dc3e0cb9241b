package rollout

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gapless"
)

// TestNothingMovesForwardWithoutJournal: a rollout in its soak stands still
// while nothing can be saved, and goes on when it can again.
func TestNothingMovesForwardWithoutJournal(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good))
	s.until("soak", s.step(gapless.StepJudge))
	s.faults.save = 1
	cursor, began := s.runner.state.Rollout.Cursor, s.now
	s.until("minutes", func(st State) bool {
		if st.Rollout.Cursor != cursor || st.Rollout.Outcome != gapless.Running {
			t.Fatalf("the plan went on to step %d (%s)", st.Rollout.Cursor, st.Rollout.Outcome)
		}
		return s.now.Sub(began) > 3*time.Minute
	})
	if !s.told("journal.failed") {
		t.Error("nobody was told")
	}
	s.faults.save = 0
	s.rest("v2", gapless.Promoted, "")
}

// TestPauseIsRefusedWithoutJournal, also of a way back: a daemon that dies
// would forget it and go on.
func TestPauseIsRefusedWithoutJournal(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good))
	s.rest("v2", gapless.Promoted, "")
	s.must("rollback", func(st State) (State, error) {
		return BeginRollback(st, "back", s.releases["v1"], counts(s.releases["v1"]), s.now)
	})
	s.faults.save = 1
	if err := s.order("pause", Pause); gapless.CodeOf(err) != gapless.Unavailable || s.runner.state.Paused {
		t.Errorf("%v, paused %v", err, s.runner.state.Paused)
	}
	s.faults.save = 0
	s.rest("v1", gapless.Promoted, "")
}

// TestOutdates: of two listings of one instance the later one is believed,
// whatever the clock was set to in between.
func TestOutdates(t *testing.T) {
	is := func(state gapless.InstanceState, restarts, second int) gapless.Instance {
		return gapless.Instance{State: state, Restarts: restarts, Since: epoch.Add(time.Duration(second) * time.Second)}
	}
	for _, c := range []struct {
		name         string
		later, older gapless.Instance
	}{
		{"not ready", is(gapless.Crashed, 0, 1), is(gapless.Ready, 0, 2)},
		{"not ready, of before a restart", is(gapless.Crashed, 0, 1), is(gapless.Ready, 1, 2)},
		{"started again, and the clock was set back", is(gapless.Ready, 1, 1), is(gapless.Ready, 0, 2)},
		{"later", is(gapless.Ready, 1, 2), is(gapless.Ready, 1, 1)},
	} {
		if !outdates(c.later, c.older) || outdates(c.older, c.later) {
			t.Error(c.name)
		}
	}
}

func TestDeployIsRefusedWithoutJournal(t *testing.T) {
	s := onStage(t)
	s.faults.save = 1
	rel := s.made(good)
	err := s.order("up", func(st State) (State, error) {
		return Begin(st, "r", "up", rel, counts(rel), judgeOf(st.Stable, rel, gapless.Arm{}), s.now)
	})
	if gapless.CodeOf(err) != gapless.Unavailable || gapless.HintOf(err) == "" {
		t.Errorf("up: %v", err)
	}
	s.pass(time.Second)
	s.round()
	if len(s.procs) > 0 || s.runner.State().Busy() {
		t.Error("something was started")
	}
}

// TestWayBackWithoutJournal: a candidate that crashes, or a person, takes the
// rollout back though nothing can be saved; it is saved as soon as it can be.
func TestWayBackWithoutJournal(t *testing.T) {
	for name, back := range map[string]func(*stage){
		"a crash":  func(s *stage) { s.crash(Candidate, "web") },
		"a person": func(s *stage) { s.must("abort", func(st State) (State, error) { return Abort(st, "no", s.now), nil }) },
	} {
		t.Run(name, func(t *testing.T) {
			s := onStage(t)
			s.deploy(s.made(good))
			s.rest("v1", gapless.Promoted, "")
			s.deploy(s.made(good))
			s.until("an old one is gone", func(st State) bool { return len(st.of(Stable, "web")) == 1 && len(st.of(Leaving, "web")) == 0 })
			s.faults.save = 1
			back(s)
			s.rest("v1", gapless.TakenBack, "")
			if s.saved.Rollout.Outcome != gapless.Running {
				t.Fatal("it was saved: this proves nothing")
			}
			s.faults.save = 0
			s.round()
			if s.saved.Rollout.Outcome != gapless.TakenBack {
				t.Error("it is not saved although the journal works again")
			}
			s.boot()
			s.rest("v1", gapless.TakenBack, "")
		})
	}
}

// TestRollbackWithoutJournal: on a full disk a person goes back to what served
// last, warm or not, and nowhere else. It is saved as soon as it can be, and if
// the daemon dies before that, the disk's word and the world become one again.
func TestRollbackWithoutJournal(t *testing.T) {
	for name, c := range map[string]struct {
		keep gapless.Duration
		to   string
		dies func(State) bool // nil: never
		want string           // that serves in the end
	}{
		"the kept set":         {gapless.Duration(time.Hour), "v2", nil, "v2"},
		"to be started":        {0, "v2", nil, "v2"},
		"an older one":         {0, "v1", nil, ""},
		"dies at once":         {0, "v2", func(st State) bool { return st.Busy() }, "v3"},
		"dies on its way":      {0, "v2", func(st State) bool { return st.Busy() && st.Rollout.Launched }, "v3"},
		"dies after promote":   {0, "v2", func(st State) bool { return st.Stable == "v2" }, "v2"},
		"dies when it is over": {gapless.Duration(time.Hour), "v2", func(st State) bool { return st.Stable == "v2" && !st.Busy() }, "v2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := onStage(t)
			for i := range 3 {
				rel := s.made(good, gapless.Process{Name: "web", Instances: 2}, gapless.Process{Name: "worker", Instances: 1}, gapless.Process{Name: "clock", Instances: 1, Singleton: true})
				if i == 2 {
					rel.Spec.Keep = c.keep
					rel.Spec.Strategy = gapless.StrategyBlueGreen
					rel.Spec.Judge = gapless.JudgeSpec{Within: gapless.Duration(time.Second), OnUndecided: gapless.OnUndecidedContinue}
				}
				s.deploy(rel)
				s.until("promoted", func(st State) bool { return !st.Busy() })
			}
			if c.keep == 0 {
				s.runner.state.Members = slices.DeleteFunc(s.runner.state.Members, func(m Member) bool { return m.Role == Kept })
				s.until("the kept set is gone", func(State) bool { return s.settled() })
			}
			s.saved = s.runner.state.Clone()
			s.faults.save = 1
			to := s.releases[c.to]
			err := s.order("rollback", func(st State) (State, error) { return BeginRollback(st, "back", to, counts(to), s.now) })
			if c.want == "" {
				if gapless.CodeOf(err) != gapless.Unavailable || s.runner.state.Stable != "v3" || s.runner.state.Busy() {
					t.Fatalf("%v: %+v", err, s.runner.state)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.dies != nil {
				s.until("its death", c.dies)
				s.amnesia = true
				s.boot()
			}
			s.until("the end", func(st State) bool { return !st.Busy() && st.Stable == c.want && len(st.of(Leaving, "")) == 0 })
			if s.saved.Stable != "v3" {
				t.Fatal("it was saved: this proves nothing")
			}
			s.faults.save = 0
			s.until("rest", func(State) bool { return s.settled() })
			s.atRest()
			if s.round(); s.saved.Stable != c.want {
				t.Errorf("%s serves, %s is saved although the journal works again", c.want, s.saved.Stable)
			}
		})
	}
}

// TestCommandSaves: what Do has accepted is saved; what it refuses is not.
func TestCommandSaves(t *testing.T) {
	s := onStage(t)
	no := errors.New("no")
	err := s.runner.Do(t.Context(), func(st State) (State, error) { st.Stable = "v9"; return st, no })
	if !errors.Is(err, no) || s.runner.State().Stable != "" || s.saved.Stable != "" {
		t.Errorf("refused with %v, but it is %+v", err, s.runner.State())
	}
	rel := s.made(good)
	s.deploy(rel)
	if !s.saved.Busy() {
		t.Error("an accepted command is not saved")
	}
}

func TestStartIsTriedAgain(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	gone := s.procs[0].in.ID
	s.procs = s.procs[1:] // the machine lost it
	s.faults.refuse = 1
	s.until("refused", func(State) bool { return len(s.runner.failed) > 0 })
	s.pass(RetryStart / 2)
	s.round()
	if s.find(gone) != nil {
		t.Error("tried again at once")
	}
	s.faults.refuse = 0
	s.rest("v1", gapless.Promoted, "")
}

// TestNoEdgeAnswers: without a word of the router instances are started, but
// none is stopped and no weight counts as served.
func TestNoEdgeAnswers(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.runner.Router = silent{}
	s.deploy(s.made(good))
	atWeight := func(st State) bool {
		return st.Busy() && st.Rollout.Plan[st.Rollout.Cursor].Kind == gapless.StepWeight
	}
	s.until("weight", atWeight)
	began := s.now
	s.until("a minute", func(st State) bool {
		if !atWeight(st) || len(st.of(Leaving, "")) > 0 {
			t.Fatal("it went on")
		}
		return s.now.Sub(began) > time.Minute
	})
	s.runner.Router = s.world
	s.rest("v2", gapless.Promoted, "")
}

type silent struct{}

func (silent) Apply(context.Context, string, *gapless.Route) error { return errors.New("no answer") }
func (silent) Observed(context.Context, string) (Served, error) {
	return Served{}, errors.New("no answer")
}

// TestReleaseThatIsGone: the record of a release that only leaving instances
// need may be missing; that of one that serves may not.
func TestReleaseThatIsGone(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good, gapless.Process{Name: "web", Instances: 1}))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.made(good, gapless.Process{Name: "web", Instances: 1}))
	s.until("drain", s.step(gapless.StepDrain))
	lookup := s.runner.Release
	s.runner.Release = func(app, name string) (*gapless.Release, error) {
		if name == "v1" && s.runner.state.Stable != "v1" {
			return nil, errors.New("gone")
		}
		return lookup(app, name)
	}
	s.rest("v2", gapless.Promoted, "")
	s.runner.Release = func(string, string) (*gapless.Release, error) { return nil, errors.New("gone") }
	n := s.version
	s.crash(Stable, "web")
	for range 20 {
		s.pass(time.Second)
		s.round()
	}
	if s.version != n || s.runner.State().Stable != "v2" {
		t.Error("it acts without knowing the release")
	}
}

// TestTroubleIsLoggedOnce: an edge that does not answer for a minute is one
// line in the log, and another one when it happens again.
func TestTroubleIsLoggedOnce(t *testing.T) {
	s := onStage(t)
	var log strings.Builder
	s.runner.Log = slog.New(slog.NewTextHandler(&log, nil))
	s.deploy(s.made(good))
	for range 2 {
		s.runner.Router = silent{}
		for range 100 {
			s.pass(time.Second)
			s.round()
		}
		s.runner.Router = s.world
		s.rest("v1", gapless.Promoted, "")
	}
	if n := strings.Count(log.String(), "apply route"); n != 2 {
		t.Errorf("logged %d times", n)
	}
}

// machine is a Fleet, Router and Journal on which everything works at once.
type machine struct {
	mu    sync.Mutex
	procs map[string]gapless.Instance
	route *gapless.Route
	looks int
}

func (m *machine) Start(_ context.Context, in gapless.Instance) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	in.State, in.PID, in.Address = gapless.Ready, 1, "127.0.0.1:1"
	m.procs[in.ID] = in
	return nil
}

func (m *machine) Observe(context.Context, string) ([]gapless.Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks++
	return slices.Collect(maps.Values(m.procs)), nil
}

func (m *machine) Stop(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	in := m.procs[id]
	in.State = gapless.Stopped
	m.procs[id] = in
	return nil
}

func (m *machine) Forget(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.procs, id)
	return nil
}

func (m *machine) Apply(_ context.Context, _ string, r *gapless.Route) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.route = r
	return nil
}

func (m *machine) Observed(context.Context, string) (Served, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Served{Known: true, Route: m.route}, nil
}

func (m *machine) Save(context.Context, State) error { return nil }

// TestRun runs a deploy with the real loop: it wakes at once, does not spin
// while nothing happens, and ends with its context.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{procs: map[string]gapless.Instance{}}
		releases := map[string]*gapless.Release{}
		for _, name := range []string{"v1", "v2"} {
			releases[name] = &gapless.Release{App: simApp, Name: name, Spec: gapless.App{
				Name: simApp, Path: "/", Soak: gapless.Duration(10 * time.Second),
				Processes: []gapless.Process{{Name: gapless.WebProcess, Instances: 2}},
			}}
		}
		r := &Runner{
			App: simApp, Fleet: m, Router: m, Journal: m, Log: slog.New(slog.DiscardHandler), Emit: func(gapless.Event) {},
			Release: func(_, name string) (*gapless.Release, error) { return releases[name], nil },
		}
		r.Init(State{App: simApp, Down: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		deploy := func(name string) time.Duration {
			began := time.Now()
			err := r.Do(ctx, func(s State) (State, error) {
				return Begin(s, name, "deploy", releases[name], map[string]int{gapless.WebProcess: 2}, nil, time.Now())
			})
			if err != nil {
				t.Fatal(err)
			}
			for r.State().Busy() {
				if time.Since(began) > time.Minute {
					t.Fatalf("%s is still under way: %+v", name, r.State())
				}
				time.Sleep(time.Millisecond)
			}
			if s := r.State(); s.Stable != name || s.Rollout.Outcome != gapless.Promoted {
				t.Fatalf("%+v", s)
			}
			return time.Since(began)
		}
		if d := deploy("v1"); d > 200*time.Millisecond {
			t.Errorf("the first up of instances that are ready at once took %s", d)
		}
		if d := deploy("v2"); d < 10*time.Second || d > 11*time.Second {
			t.Errorf("a deploy with a soak of 10s took %s", d)
		}
		time.Sleep(5 * time.Second)
		m.mu.Lock()
		before := m.looks
		m.mu.Unlock()
		time.Sleep(time.Minute)
		m.mu.Lock()
		if n := m.looks - before; n < 55 || n > 65 {
			t.Errorf("looked %d times in an idle minute", n)
		}
		m.mu.Unlock()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
