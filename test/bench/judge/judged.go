package main

import (
	"fmt"
	"math"
	"time"

	"gapless"
	"gapless/internal/judge"
)

const (
	stableName, candidateName = "v1", "v2"
	known                     = 60 // seconds of stable's latencies that are known when the candidate is given its first request
)

// judged is the judge as it is shipped, fed as the daemon feeds it.
type judged struct {
	judge   judge.Judge
	lnE     float64         // at the last look
	verdict gapless.Verdict // where whole is set, at the end of the last stretch
	whole   bool            // verdicts are wanted, and not just whether the candidate is worse
	limits  gapless.LatencyLimits
	tallies []gapless.Tally

	look     gapless.LatencyLook // since the last one
	lookedAt float64
	serving  []string

	outcome
}

// outcome is how it went for one rule.
type outcome struct {
	decision
	at            float64 // seconds
	requests, bad uint64  // of the candidate until then
	since         uint64  // of the requests: those that latency was judged by
}

// newJudged lets the judge see an hour of stable first.
func newJudged(w *world) (*judged, error) {
	var d judge.Dispersion
	if w.stableBad > 0 || w.hiccups {
		w.hour(func(bad []uint64) { d = d.Observe(bad) })
	}
	phi, _ := d.Phi()
	j, err := judge.New(judge.Config{Candidate: candidateName, Stable: stableName, Phi: phi})
	if err != nil {
		return nil, err
	}
	g := &judged{judge: j}
	for i := range instances {
		g.serving = append(g.serving, fmt.Sprintf("%s-%d", stableName, i+1))
	}
	before := cut(w.stablePace, w.stablePace.survival(), g.limits.Quantile, g.limits.Quantile)
	for at := -known; at < 0; at++ {
		var a arm
		before.draw(w.dice, w.rps, &a)
		g.look.Stable = a.latency[:]
		g.learn(float64(at))
	}
	for i := range w.candidates {
		g.serving = append(g.serving, fmt.Sprintf("%s-%d", candidateName, i+1))
	}
	return g, nil
}

func (g *judged) learn(now float64) {
	g.look.At = time.Unix(1_000_000_000, 0).Add(time.Duration(now * float64(time.Second)))
	g.look.Instances = g.serving
	g.judge = g.judge.Learn(g.look)
	g.limits = g.judge.Limits()
	g.look, g.lookedAt = gapless.LatencyLook{}, now
}

// see takes in a stretch, and looks at every bad answer that could decide.
func (g *judged) see(s *stretch, d dice) {
	c, st := s.candidate.events, s.stable.events
	if s.weight < 1 && g.mayDecide(c.bad, s.weight) {
		left, after := c.bad, st.bad
		for i := uint64(1); left > 0; i++ {
			if d.Uint64N(left+after) >= left {
				after--
				g.observe(stableName, s.weight, single(&st))
				continue
			}
			left--
			g.bad++
			g.observe(candidateName, s.weight, single(&c))
			if g.decide(s.weight) {
				part := float64(i) / float64(s.candidate.events.bad+s.stable.events.bad+1)
				g.at = s.from + part*s.length
				g.requests += uint64(math.Round(part * float64(s.candidate.events.requests)))
				return
			}
		}
	}
	g.bad += c.bad
	g.requests += s.candidate.events.requests
	if g.limits.Quantile[0] > 0 {
		g.since += s.candidate.events.requests
	}
	g.tallies = append(g.tallies[:0], tally(candidateName, s.weight, c), tally(stableName, s.weight, st))
	g.tallies[0].Paces, g.tallies[1].Paces = s.candidate.paces, s.stable.paces
	g.judge = g.judge.Observe(g.tallies)

	now := s.from + s.length
	g.look.Stable, g.look.Candidate = sum(g.look.Stable, &s.stable.latency), sum(g.look.Candidate, &s.candidate.latency)
	if now-g.lookedAt > 1-1e-9 {
		g.learn(now)
	}
	if g.decide(s.weight) {
		g.at = now
	} else if g.whole {
		g.verdict = g.judge.Verdict(s.weight)
	}
}

// mayDecide is false where so many bad answers cannot be enough, wherever
// they come: one raises the evidence of errors, and so that of all tests
// together, by a factor of at most 1/w.
func (g *judged) mayDecide(bad uint64, weight float64) bool {
	return bad > 0 && g.lnE-float64(bad)*math.Log(weight) > 3
}

// single takes one bad answer out of what is left.
func single(e *events) events {
	e.bad--
	if e.late > 0 {
		e.late--
		return events{bad: 1, late: 1}
	}
	e.requests--
	return events{requests: 1, bad: 1}
}

func tally(release string, weight float64, e events) gapless.Tally {
	return gapless.Tally{Release: release, Weight: weight, Requests: e.requests, Bad: e.bad, Late: e.late}
}

func (g *judged) observe(release string, weight float64, e events) {
	g.tallies = append(g.tallies[:0], tally(release, weight, e))
	g.judge = g.judge.Observe(g.tallies)
}

func (g *judged) decide(weight float64) bool {
	var kind gapless.VerdictKind
	if g.lnE, kind = g.judge.Glance(weight); kind == gapless.Worse {
		g.decision = takenBack
	}
	return g.decision == takenBack
}

// patience is how long the next stretch may be. The verdict may be looked at
// as often as one likes; where it is far from being reached, one look in ten
// seconds sees the same.
func (g *judged) patience(finest float64) float64 {
	switch {
	case g.decision != waiting:
		return 10
	case g.lnE > 1 || g.lookedAt < 20:
		return min(finest, 1)
	}
	return finest
}

func sum(counts []uint64, h *histogram) []uint64 {
	if counts == nil {
		counts = make([]uint64, len(h))
	}
	for b, n := range h {
		counts[b] += n
	}
	return counts
}
