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

// TestRampAsks: undecided, it waits for a person, at the share that it has.
func TestRampAsks(t *testing.T) {
	s := begun(t, good, 2, func(rel *gapless.Release) { rel.Spec.Judge.Within = gapless.Duration(2 * time.Second) })
	s.noise = 1 // bad as well, like stable
	s.until("asked", func(st State) bool { return st.Paused })
	if st := s.runner.state; !strings.Contains(st.Rollout.Waiting, "undecided after 2s") || s.share("v2") == 0 || s.share("v2") > 0.5 {
		t.Errorf("%q at %v", st.Rollout.Waiting, s.share("v2"))
	}
	s.noise = 0
	s.must("promote", func(st State) (State, error) { return Promote(st, s.releases["v2"]) })
	s.rest("v2", gapless.Promoted, "")
}

// TestRampGoesDown: where less is proven than before, the share falls at once.
func TestRampGoesDown(t *testing.T) {
	s := begun(t, good, 4, nil)
	s.until("more", func(State) bool { return s.share("v2") > 0.1 })
	for i := range 40 { // of both, so that it is no proof
		s.edges[0].add([]string{"v1", "v2"}[i/36], s.share("v2"), "5xx")
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
