package daemon

import (
	"math/rand/v2"
	"testing"

	"gapless"
	"gapless/internal/edge"
	"gapless/internal/judge"
	"gapless/internal/rollout"
)

// What fails for a client fails for it again. With sticky sessions the judge
// may not take that for as many proofs: it is wrong about a candidate that is
// no worse as rarely as without sessions, if the evidence says what was a
// session's first bad answer, and the weight at which its coin was tossed. A
// judge that is not told is wrong all the time, so this test could fail.
func TestSessionsDoNotAccuseWhoIsNoWorse(t *testing.T) {
	const rollouts = 100
	told, untold := 0, 0
	for seed := range uint64(rollouts) {
		if accused(t, seed, true) {
			told++
		}
		if seed < 30 && accused(t, seed, false) {
			untold++
		}
	}
	t.Logf("accused in %d of %d rollouts; in %d of 30 if every bad answer counts", told, rollouts, untold)
	if told > 6 { // 1 % of 100 is 1; 7 or more: once in ten thousand
		t.Errorf("accused in %d of %d rollouts", told, rollouts)
	}
	if untold < 6 {
		t.Errorf("void: accused in %d of 30 without sessions", untold)
	}
}

// accused plays a canary of three weights whose candidate is as good as
// stable: one session of two hundred fails with every request, wherever it is.
// Sessions go on from one weight to the next.
func accused(t *testing.T, seed uint64, told bool) bool {
	t.Helper()
	type session struct {
		release string
		weight  float64
		fails   bool
		begun   bool
		left    int
	}
	rng := rand.New(rand.NewPCG(seed, 7))
	j, err := judge.New(judge.Config{Candidate: "v2", Stable: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	var counters edge.Counters
	var open []session
	cursor := rollout.Cursor{}
	for version, weight := range []float64{0.05, 0.25, 0.5} {
		for range 1500 {
			s := session{release: "v1", weight: weight, fails: rng.Float64() < 0.005, left: 1 + rng.IntN(39)}
			if rng.Float64() < weight {
				s.release = "v2"
			}
			open = append(open, s)
			for range 20 {
				i := rng.IntN(len(open))
				s := &open[i]
				k := edge.CounterKey{App: "a", Release: s.release, Version: uint64(version + 1), Weight: s.weight, Session: gapless.SessionNew}
				if s.begun {
					k.Session = gapless.SessionMore
				}
				if s.fails {
					k.Kind, k.Session = "5xx", gapless.SessionNewBad
					if s.begun {
						k.Session = gapless.SessionAgain
					}
				}
				s.begun = true
				if !told {
					k.Session = ""
				}
				counters.Add(k, false)
				if s.left--; s.left == 0 {
					open[i] = open[len(open)-1]
					open = open[:len(open)-1]
				}
				if len(open) == 0 {
					break
				}
			}
			if rng.IntN(50) == 0 {
				seq, list := counters.Report()
				tallies, next := rollout.Fold("a", cursor, []gapless.EdgeReport{{Start: "e", Seq: seq, Counters: list}})
				cursor = next
				j = j.Observe(tallies)
				if j.Verdict(weight).Kind == gapless.Worse {
					return true
				}
			}
		}
	}
	return false
}
