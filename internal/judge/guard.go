package judge

import (
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

func newGuard(c *Config, rows []Row) guard {
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

// on is what has become of the bets after the answers of an arm.
func (g guard) on(a gapless.Arm) bets {
	b := bets{n: guardGrid}
	good := float64(max(a.Requests, a.Bad) - a.Bad)
	low := 1.25 * g.p
	for k := range guardGrid {
		q := low * math.Pow(guardTop/low, float64(k)/(guardGrid-1))
		b.logs[k] = float64(a.Bad)*math.Log(q/g.p) + good*(math.Log1p(-q)-math.Log1p(-g.p))
	}
	return b
}

// lnE is the evidence that the candidate breaks the limit, after more bad
// answers of it.
func (g guard) lnE(more uint64) float64 {
	a := g.arm
	sum(&a, gapless.Arm{Requests: more, Bad: more})
	b := g.on(a)
	return b.lnE()
}

// breaks reports whether it is proven that an arm breaks the limit. One that
// keeps it has won no bet.
func (g guard) breaks(a gapless.Arm, threshold float64) bool {
	if float64(a.Bad) <= g.p*float64(a.Requests) {
		return false
	}
	b := g.on(a)
	return b.lnE() >= threshold
}

// bothBad reports whether both releases, side by side, give more bad answers
// than stable's record from before the rollout makes normal. That is no fault
// of the candidate; but nobody should go on meanwhile.
func bothBad(c *Config, rows []Row) (limit float64, both bool) {
	candidate, stable := compared(rows)
	g := guard{p: c.limit(c.Record)}
	return g.p, g.breaks(candidate, c.threshold()) && g.breaks(stable, c.threshold())
}
