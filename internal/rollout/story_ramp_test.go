package rollout

import (
	"strings"
	"testing"
	"time"

	"gapless"
)

// canary is a release of n web instances with that strategy, as it is without
// any numbers.
func (s *stage) canary(t temper, n int) *gapless.Release {
	rel := s.made(t, gapless.Process{Name: "web", Instances: n})
	rel.Spec.Strategy = gapless.StrategyCanary
	return rel
}

// begun is a canary from v1 to v2, with a judge that proves quickly.
func begun(t *testing.T, temper temper, n int, change func(*gapless.Release)) *stage {
	t.Helper()
	s := onStage(t)
	s.hasty()
	s.deploy(s.canary(good, n))
	s.rest("v1", gapless.Promoted, "")
	rel := s.canary(temper, n)
	if change != nil {
		change(rel)
	}
	s.must("deploy", func(st State) (State, error) {
		return Begin(st, "r2", "deploy", rel, counts(rel), s.judgeOf("v1", rel), s.now)
	})
	return s
}

// TestCanaryRamps: the share rises with what the judge allows, instances come
// before it does, and with the proof all traffic moves; long before the time
// is up.
func TestCanaryRamps(t *testing.T) {
	s := begun(t, good, 8, nil)
	began, shares, most := s.now, []float64{}, 0
	s.until("the end", func(st State) bool {
		if v := s.share("v2"); st.Busy() && v > 0 && (len(shares) == 0 || shares[len(shares)-1] != v) {
			shares = append(shares, v)
		}
		if v := s.share("v2"); v < 1 {
			most = max(most, len(st.of(Candidate, "web")))
		}
		return !st.Busy()
	})
	if len(shares) < 3 || shares[0] != 0.1 || shares[len(shares)-1] != 1 {
		t.Errorf("v2 had %v", shares)
	}
	if most != 8 { // all of them, before it gets everything
		t.Errorf("%d instances of v2 at most below 100 %%", most)
	}
	if d := s.now.Sub(began); d > time.Minute {
		t.Errorf("it took %s", d)
	}
	s.rest("v2", gapless.Promoted, "")
	if !s.told("ramp") || !s.told("verdict") || s.limits.Version != 0 {
		t.Errorf("told: ramp %v, verdict %v; limits of age %d are left", s.told("ramp"), s.told("verdict"), s.limits.Version)
	}
}

// TestRampGoesBack: proof against the candidate ends a ramp as it ends every
// judged step.
func TestRampGoesBack(t *testing.T) {
	s := begun(t, sloppy, 4, nil)
	s.rest("v1", gapless.TakenBack, "failed candidate requests")
}

// TestRampAsks: undecided, it waits for a person, at the share that it has, and
// says what is known; until a decision it waits as long as it was told to.
func TestRampAsks(t *testing.T) {
	for until, want := range map[time.Duration]string{0: "undecided after 2s", time.Minute: "undecided after 1m"} {
		s := onStage(t)
		s.deploy(s.canary(good, 2))
		s.rest("v1", gapless.Promoted, "")
		rel := s.canary(good, 2)
		rel.Spec.Judge.Within, rel.Spec.Judge.OnUndecided = gapless.Duration(2*time.Second), gapless.OnUndecidedContinue
		if until == 0 {
			rel.Spec.Judge.OnUndecided = ""
		}
		s.must("deploy", func(st State) (State, error) {
			st, err := Begin(st, "r2", "deploy", rel, counts(rel), s.judgeOf("v1", rel), s.now)
			if until > 0 {
				st = UntilDecided(st, gapless.Duration(until))
			}
			return st, err
		})
		s.until("asked", func(st State) bool { return st.Paused })
		if st := s.runner.state; !strings.Contains(st.Rollout.Waiting, want) || s.share("v2") == 0 || s.share("v2") > 0.5 {
			t.Errorf("%q at %v", st.Rollout.Waiting, s.share("v2"))
		}
		s.must("promote", func(st State) (State, error) { return Promote(st, s.releases["v2"]) })
		s.rest("v2", gapless.Promoted, "")
	}
}

// TestBothInTrouble: where stable fails as well, the plan waits for a person,
// once, and nothing is taken back; then the same step goes on.
func TestBothInTrouble(t *testing.T) {
	s := begun(t, good, 2, nil)
	s.noise = 1
	s.until("it waits", func(st State) bool { return st.Paused })
	if st := s.runner.state; !strings.HasPrefix(st.Rollout.Waiting, byOther+"both releases") || st.Back || !s.told("judge.alert") {
		t.Errorf("%q", st.Rollout.Waiting)
	}
	s.noise = 0
	s.must("resume", Resume)
	s.until("it goes on", s.step(gapless.StepRamp))
	s.pass(time.Second)
	s.round()
	if s.runner.state.Paused {
		t.Error("it asks again")
	}
	s.must("abort", func(st State) (State, error) { return Abort(st, "enough", s.now), nil })
	s.rest("v1", gapless.TakenBack, "enough")
}

// TestMissing is what a person is told of how long a proof takes.
func TestMissing(t *testing.T) {
	ready := func(id, release string) gapless.Instance {
		return gapless.Instance{ID: id, App: "shop", Release: release, Process: gapless.WebProcess, Slot: 1, State: gapless.Ready}
	}
	d := &decision{s: State{App: "shop", Stable: "v1", Weight: 0.1, Counts: map[string]int{gapless.WebProcess: 1}, Met: 2000, Watched: gapless.Duration(20 * time.Second),
		Rollout: &gapless.Rollout{From: "v1", To: "v2", Outcome: gapless.Running},
		Members: []Member{{ID: "a", Release: "v1", Process: gapless.WebProcess, Role: Stable}, {ID: "b", Release: "v2", Process: gapless.WebProcess, Role: Candidate}}},
		obs: Observed{Instances: map[string]gapless.Instance{"a": ready("a", "v1"), "b": ready("b", "v2")}}}
	v := gapless.Verdict{Kind: gapless.Undecided, Needed: gapless.Needed{Requests: 1200}, Bound: 0.013}
	want := gapless.Missing{Requests: 1200, For: gapless.Duration(2 * time.Minute)} // 100 per second, a tenth of them the candidate's
	if got := d.missing(v); got != want {
		t.Errorf("%+v", got)
	}
	d.s.Rollout.Missing, d.s.Rollout.Verdict = want, &v
	if text := d.missingText(); text != "; about 1200 more requests of it would prove it not worse, 2m at the present rate; at most 1.3 points more of its answers are bad" {
		t.Error(text)
	}
	v.Proofs = []gapless.Proof{{Test: gapless.TestErrors, Proven: true}, {Test: gapless.TestP50, Needed: 30}, {Test: gapless.TestP99, Needed: 1200}}
	if text := d.missingText(); !strings.Contains(text, "; not proven yet: p50, p99; at most 1.3 points") {
		t.Error(text)
	}
	d.s.Met = 3 // over hours, seconds mean nothing
	if got := d.missing(v).For.String(); got != "22h14m" {
		t.Error(got)
	}
	d.s.Met = 0
	if got := d.missing(v); got != (gapless.Missing{Requests: 1200}) {
		t.Errorf("without a rate: %+v", got)
	}
	v.Kind = gapless.NotWorse
	if got := d.missing(v); got != (gapless.Missing{}) {
		t.Errorf("proven: %+v", got)
	}
}

// TestRampGoesDown: where less is proven than before, the share falls at once.
func TestRampGoesDown(t *testing.T) {
	s := begun(t, good, 4, nil)
	s.until("more", func(State) bool { return s.share("v2") > 0.1 })
	for i := range 5 { // of both, so that it is no proof
		s.edges[0].add([]string{"v1", "v2"}[i/3], s.share("v2"), "5xx")
	}
	s.until("less", func(State) bool { return s.share("v2") == 0.1 })
	s.rest("v2", gapless.Promoted, "")
}

// TestRampWithoutAJudgeThatAllows stays where little harm is done.
func TestRampWithoutAJudgeThatAllows(t *testing.T) {
	s := onStage(t)
	s.readJudge = ReadJudge[strict]
	s.boot()
	s.deploy(s.canary(good, 2))
	s.rest("v1", gapless.Promoted, "")
	rel := s.canary(good, 2)
	s.must("deploy", func(st State) (State, error) {
		return Begin(st, "r2", "deploy", rel, counts(rel), JudgeBy(strict{Of: rel.Name}), s.now)
	})
	s.until("the end", func(st State) bool {
		if v := s.share("v2"); st.Busy() && v > 0 && v < 1 && v != rungs[0] {
			t.Fatalf("it has %v", v)
		}
		return !st.Busy()
	})
	s.rest("v2", gapless.Promoted, "")
}

// TestRampSurvivesDeaths: a daemon that dies again and again goes on from the
// share and the evidence that it had.
func TestRampSurvivesDeaths(t *testing.T) {
	s := begun(t, good, 3, nil)
	n := 0
	s.until("the end", func(st State) bool {
		if n++; st.Busy() && n%7 == 0 {
			s.boot()
		}
		return !st.Busy()
	})
	s.rest("v2", gapless.Promoted, "")
}

func TestRung(t *testing.T) {
	for share, want := range map[float64]float64{0.005: 0.005, 0.01: 0.01, 0.04: 0.02, 0.05: 0.05, 0.2499: 0.1, 0.25: 0.25, 0.9: 0.5, 1: 0.5} {
		if got := rung(share); got != want {
			t.Errorf("%v of %v", got, share)
		}
	}
}
