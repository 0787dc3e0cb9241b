package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gapless"
)

// dark is a release of two web instances that is mirrored first.
func (s *stage) dark(t temper, rule string) *gapless.Release {
	rel := s.made(t)
	rel.Spec.Strategy, rel.Spec.Soak = gapless.StrategyDark, gapless.Duration(time.Second)
	rel.Spec.Mirror = gapless.Mirror{Share: 0.2, For: gapless.Duration(20 * time.Second), OnDifference: rule, Then: gapless.StrategyRolling,
		Ignore: []string{"/now"}, NoCredentials: true}
	return rel
}

// The candidate gets copies and nothing else while it is mirrored to, then
// the plan goes on.
func TestDarkLaunch(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.dark(good, ""))
	s.until("mirroring", func(State) bool { return s.applied.Mirror != nil })
	began := s.now
	m := s.applied.Mirror
	if m.Release != "v2" || m.Share != 0.2 || m.Compare != gapless.CompareBody || m.Header != gapless.MirrorHeader || !m.NoCredentials ||
		len(m.Ignore) != 1 || m.Timeout != mirrorTimeout || m.Rollout != s.runner.state.Rollout.ID {
		t.Errorf("%+v", m)
	}
	s.until("on", func(st State) bool {
		if s.applied.Mirror != nil && (s.share("v2") != 0 || s.applied.Share("v1") != 1) {
			t.Fatalf("while it is mirrored to, it is given %v", s.applied.Weights)
		}
		return !s.step(gapless.StepMirror)(st)
	})
	if d := s.now.Sub(began); d < 19*time.Second {
		t.Errorf("mirrored for %s", d)
	}
	c := s.runner.state.Rollout.Mirror
	if c == nil || c.Copied == 0 || c.Pairs < fewestPairs || c.Different != 0 {
		t.Errorf("%+v", c)
	}
	s.until("the copies end", func(State) bool { return s.applied.Mirror == nil })
	s.rest("v2", gapless.Promoted, "")
	if s.runner.state.Rollout.Mirror == nil || !strings.Contains(strings.Join(s.trace, "\n"), "v2 answers like v1: ") {
		t.Error("nobody is told what the copies showed")
	}
}

// What happens when the answers differ is the step's rule; by default a
// person is asked.
func TestDarkLaunchOfAnotherAnswer(t *testing.T) {
	for rule, c := range map[string]struct {
		stable, reason string
		outcome        gapless.Outcome
	}{
		"":                          {"v2", "", gapless.Promoted},
		gapless.OnUndecidedContinue: {"v2", "", gapless.Promoted},
		gapless.OnUndecidedRollback: {"v1", "v2 answers otherwise than v1: /price (value) in", gapless.TakenBack},
	} {
		t.Run(rule, func(t *testing.T) {
			s := onStage(t)
			s.deploy(s.made(good))
			s.rest("v1", gapless.Promoted, "")
			s.sloppiness = 0.9
			s.deploy(s.dark(sloppy, rule))
			s.until("mirroring", func(State) bool { return s.applied.Mirror != nil })
			if rule == "" {
				s.until("a person is asked", func(st State) bool { return st.Paused })
				r := s.runner.state.Rollout
				if !strings.Contains(r.Waiting, "v2 answers otherwise than v1: /price (value) in") || s.share("v2") != 0 || s.applied.Mirror == nil {
					t.Errorf("it waits for %q, mirrored to: %v", r.Waiting, s.applied.Mirror)
				}
				if d := r.Mirror.Differences[0]; !d.Proven || d.Path != "/price" {
					t.Errorf("%+v", d)
				}
				s.must("resume", Resume)
			}
			s.until("the mirror step is over", func(st State) bool { return st.Back || !s.step(gapless.StepMirror)(st) })
			s.sloppiness = 0 // the rest of the plan is not what is looked at here
			s.rest(c.stable, c.outcome, c.reason)
		})
	}
}

// An instance that dies while it is mirrored to is evidence as always.
func TestDarkLaunchOfOneThatCrashes(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.dark(good, gapless.OnUndecidedContinue))
	s.until("mirroring", func(State) bool { return s.applied.Mirror != nil })
	s.crash(Candidate, "web")
	s.rest("v1", gapless.TakenBack, "")
	if s.applied.Mirror != nil {
		t.Error("copies go on")
	}
}

// Plans with mirroring, by strategies and by hand.
func TestMirrorPlans(t *testing.T) {
	web := gapless.Process{Name: gapless.WebProcess, Instances: 4}
	plan := func(change func(*gapless.App)) string {
		a := app(time.Second, web)
		a.Strategy = gapless.StrategyDark
		change(a)
		return words(Compile(a, map[string]int{"web": 4}, 4))
	}
	const begin, mirror = "start %d · warm: wait until ready · ", "mirror 10 % for 5m, then pause if the answers differ · "
	for name, c := range map[string]struct {
		plan, begins string
	}{
		"then canary":  {plan(func(*gapless.App) {}), fmt.Sprintf(begin, 2) + mirror + "ramp: the share rises as the release is proven, for at most 30m"},
		"then rolling": {plan(func(a *gapless.App) { a.Mirror.Then = gapless.StrategyRolling }), fmt.Sprintf(begin, 1) + mirror + "weight 20 % · judge for at most 1s"},
		"then blue-green": {plan(func(a *gapless.App) {
			a.Mirror.Then, a.Preview = gapless.StrategyBlueGreen, &gapless.Preview{Host: "x"}
		}), fmt.Sprintf(begin, 4) + "preview: reachable by host, header or cookie · " + mirror + "weight 10 %"},
		"as set": {plan(func(a *gapless.App) {
			a.Mirror = gapless.Mirror{Share: 0.5, For: gapless.Duration(time.Minute), OnDifference: gapless.OnUndecidedRollback}
		}), fmt.Sprintf(begin, 2) + "mirror 50 % for 1m, then rollback if the answers differ · ramp: "},
		"own steps": {plan(func(a *gapless.App) {
			a.Steps = []gapless.Step{{Kind: gapless.StepMirror, Weight: 0.25}, {Kind: gapless.StepWeight, Weight: 0.5}}
		}), fmt.Sprintf(begin, 2) + "mirror 25 % for 5m, then pause if the answers differ · weight 50 %"},
	} {
		if !strings.HasPrefix(c.plan, c.begins) {
			t.Errorf("%s: %s", name, c.plan)
		}
	}
	if first := words(Compile(func() *gapless.App { a := app(time.Second, web); a.Strategy = gapless.StrategyDark; return a }(), map[string]int{"web": 4}, 0)); strings.Contains(first, "mirror") {
		t.Errorf("a first release has nobody to be compared with: %s", first)
	}
}

// TestAlike is the table of what counts say.
func TestAlike(t *testing.T) {
	price := func(seen, candidate, stable uint64) gapless.MirrorDifference {
		return gapless.MirrorDifference{Path: "/price", Kind: "value", Seen: seen, Candidate: candidate, Stable: stable}
	}
	counts := func(pairs uint64, list ...gapless.MirrorDifference) *gapless.MirrorCounts {
		return &gapless.MirrorCounts{Release: "v2", Copied: 1000, Compared: 900, Pairs: pairs, Differences: list}
	}
	for _, c := range []struct {
		name      string
		counts    *gapless.MirrorCounts
		different bool
		why       string
	}{
		{"nothing", nil, false, "no request came"},
		{"no copies", &gapless.MirrorCounts{}, false, "no request came"},
		{"too few pairs", counts(9), false, "too few second looks at v1 to tell differences from noise: 9 of 900 answers of v2 had one"},
		{"too few answers", &gapless.MirrorCounts{Release: "v2", Copied: 12, Compared: 8, Pairs: 4}, false, "too few answers of v2 could be compared: 8 of 12 copies were"},
		{"no difference", counts(10), false, ""},
		{"noise at the same place in every answer", counts(450, price(900, 0, 0)), false, ""},
		{"noise now and then, by either side", counts(450, price(40, 20, 20)), false, ""},
		{"more often, by chance", counts(450, price(50, 26, 20)), false, ""},
		{"in some", counts(450, price(16, 8, 0)), true, "/price (value) in 16"},
		{"in few", counts(450, price(9, 5, 0)), false, "too few to tell from chance"},
		{"in one", counts(450, price(2, 1, 0)), false, ""},
		{"above the noise", counts(450, price(200, 100, 20)), true, "/price (value) in 200"},
		{"always", counts(450, price(900, 450, 0)), true, "/price (value) in 900"},
		{"proven although few pairs", counts(9, price(20, 9, 0)), true, "/price"},
		{"unseen in pairs", counts(450, price(3, 0, 0)), false, ""},
	} {
		different, why := alike(&gapless.Rollout{From: "v1", To: "v2", Mirror: c.counts})
		if different != c.different || (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: %v %q", c.name, different, why)
		}
	}
}

// TestChance: exact values of the tail of a fair coin.
func TestChance(t *testing.T) {
	for _, c := range []struct {
		candidate, stable uint64
		want              float64
	}{{1, 0, 0.5}, {8, 0, 1.0 / 256}, {0, 5, 1}, {1, 1, 0.75}, {3, 1, 5.0 / 16}} {
		if got := chance(gapless.MirrorDifference{Candidate: c.candidate, Stable: c.stable}); got < c.want*0.999 || got > c.want*1.001 {
			t.Errorf("%d and %d: %v, want %v", c.candidate, c.stable, got, c.want)
		}
	}
}

// A person who promotes leaves the copies out, whether they wait or not.
func TestDarkLaunchIsPromoted(t *testing.T) {
	for name, temper := range map[string]temper{"while it is mirrored to": good, "while it waits": sloppy} {
		t.Run(name, func(t *testing.T) {
			s := onStage(t)
			s.deploy(s.made(good))
			s.rest("v1", gapless.Promoted, "")
			s.sloppiness = 0.9
			s.deploy(s.dark(temper, ""))
			s.until("mirroring", func(State) bool { return s.applied.Mirror != nil })
			if temper == sloppy {
				s.until("a person is asked", func(st State) bool { return st.Paused })
				s.sloppiness = 0
			}
			began := s.now
			s.must("promote", func(st State) (State, error) { return Promote(st, s.releases["v2"]) })
			s.until("no more copies", func(State) bool { return s.applied.Mirror == nil })
			s.rest("v2", gapless.Promoted, "")
			if d := s.now.Sub(began); d > 15*time.Second {
				t.Errorf("it took %s", d)
			}
		})
	}
}

// Copies go on with what is left of their time after the daemon was away, a
// pause by a person does not count, and a release that is stable already has
// nothing to be compared with.
func TestDarkLaunchIsPaused(t *testing.T) {
	s := onStage(t)
	s.deploy(s.made(good))
	s.rest("v1", gapless.Promoted, "")
	s.deploy(s.dark(good, ""))
	s.until("mirroring", func(State) bool { return s.applied.Mirror != nil })
	began := s.now
	s.must("pause", Pause)
	for range 60 {
		s.pass(time.Second)
		s.round()
	}
	if s.applied.Mirror == nil || !s.step(gapless.StepMirror)(s.runner.state) {
		t.Fatal("the pause ended the copies")
	}
	s.must("resume", Resume)
	s.until("on", func(st State) bool { return !s.step(gapless.StepMirror)(st) })
	if d := s.now.Sub(began); d < 79*time.Second {
		t.Errorf("on after %s, of which a minute was a pause", d)
	}
	s.rest("v2", gapless.Promoted, "")
}
