package judge

import (
	"fmt"
	"math"

	"gapless"
)

// guard asks whether more than a fixed share of the candidate's answers is
// bad. It judges what was served at weight 1, where nothing else runs that the
// candidate could be compared with; so it cannot tell a bad release from a bad
// afternoon, and its limit should be far from what is normal. What is normal is
// stable's own record: from before the rollout, and from its judged steps.
//
// That record is of other requests than those that the bet is on, so the bet
// stays fair whatever limit it gives.
//
// Each request is one bet on "the share is q" against "it is at most p": the
// likelihood ratio q/p for a bad answer and (1-q)/(1-p) for a good one (Wald's
// sequential test of one proportion). As q > p its mean is at most 1 while the
// share is at most p.
type guard struct {
	arm gapless.Arm
	p   float64
}

func newGuard(c Config, rows []Row) guard {
	var g guard
	record := c.Record
	for _, r := range rows {
		if r.Weight >= 1 {
			sum(&g.arm, r.Candidate)
		} else {
			sum(&record, r.Stable)
		}
	}
	g.p = c.limit(record)
	return g
}

// guardGrid is how many alternatives are mixed, from 1.25·p to guardTop in
// equal ratios.
const (
	guardGrid = 12
	guardTop  = 0.9
)

func (g guard) lnE() float64 { return g.lnEAfter(0, 1) }

func (g guard) lnEAfter(bad uint64, at float64) float64 {
	a := g.arm
	if at >= 1 {
		sum(&a, gapless.Arm{Requests: bad, Bad: bad})
	}
	good := float64(a.Requests - a.Bad)
	var logs [guardGrid]float64
	low := 1.25 * g.p
	for k := range logs {
		q := low * math.Pow(guardTop/low, float64(k)/(guardGrid-1))
		logs[k] = float64(a.Bad)*math.Log(q/g.p) + good*(math.Log1p(-q)-math.Log1p(-g.p))
	}
	return mixture(logs[:])
}

func (g guard) figures() gapless.Figures {
	return gapless.Figures{Candidate: g.arm, Limit: g.p}
}

func (guard) name() gapless.VerdictTest { return gapless.TestGuard }

func (g guard) claim(c Config) string {
	return fmt.Sprintf("%s gives bad answers to over %s of its requests", c.Candidate, gapless.Percent(g.p))
}

func (guard) record(c Config, f gapless.Figures) string {
	return fmt.Sprintf("%s: %s, nothing to compare with", c.Candidate, share(f.Candidate))
}
