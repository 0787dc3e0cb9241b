package judge

import (
	"fmt"
	"math"

	"gapless"
)

// Watch is what became of a candidate after it was promoted. Nothing runs
// beside it that it could be compared with, so it is held against a limit: what
// is always fine, or what the old release's record makes normal, as the guard
// does. But one bet over all of it would be slow to see a release that breaks
// after many good answers, each of which it has paid for. So besides the first
// bet, which is over all of it, a new one begins every so many requests.
//
// The bets share the stake of 1: the k-th one, from 0 on, has 1/((k+1)·(k+2))
// of it, which sums to 1, and lies still until it begins and after its end. So
// together they are fair while the share of bad answers is at most Limit, and
// reach 1/alpha with probability at most alpha, however long the watch is.
//
// An answer that breaks off once it had counted as good takes a good one away,
// which is fair only in a bet that has paid for it. Which one that was is not
// known. So such answers count in the first bet only, and not at all if a coin
// stood behind their request: it came before the release was promoted. That a
// request counts as good meanwhile makes the bet worth less than if it did not
// count yet, which would be fair at every moment.
type Watch struct {
	Limit float64     `json:"limit"`          // share of bad answers that is fine
	Bets  uint64      `json:"bets,omitempty"` // that began after the first one
	Won   float64     `json:"won,omitempty"`  // what those that have ended left of the stake, together
	Now   gapless.Arm `json:"now"`            // since the newest bet began, without what broke off
	All   gapless.Arm `json:"all"`            // since the watch began
}

// watchBet is how many times over a bet sees the limit: one of 1 % lasts 1000
// requests, of which ten may be bad.
const watchBet = 10

// Watch is a judge that watches the candidate after it was promoted, against
// the record of the release that served before, which is all it takes along.
func (j Judge) Watch() Judge {
	c := j.Config.withDefaults()
	return Judge{Config: j.Config, Watching: &Watch{Limit: newGuard(&c, j.Rows).p}}
}

// observe adds the answers of a batch; see Watch for those that broke off.
func (w Watch) observe(candidate string, batch []gapless.Tally) *Watch {
	for _, t := range batch {
		if t.Release != candidate {
			continue
		}
		whole := t
		whole.Bad, whole.Late = t.Bad-min(t.Bad, t.Late), 0
		add(&w.Now, whole)
		if t.Weight > 0 { // the edge tosses no coin after promote
			t = whole
		}
		add(&w.All, t)
	}
	if float64(w.Now.Requests) >= watchBet/w.Limit {
		if w.Bets > 0 {
			w.Won += math.Exp(w.newest())
		}
		w.Bets, w.Now = w.Bets+1, gapless.Arm{}
	}
	return &w
}

// first is the logarithm of what the first bet makes of its stake.
func (w Watch) first() float64 { return guard{w.All, w.Limit}.lnE(0) - math.Log(2) }

// newest is the same of the newest bet.
func (w Watch) newest() float64 {
	if w.Bets == 0 {
		return w.first()
	}
	k := float64(w.Bets)
	return guard{w.Now, w.Limit}.lnE(0) - math.Log((k+1)*(k+2))
}

// lnE is the evidence of all bets; those to come lie still.
func (w Watch) lnE() float64 {
	sum := plusLn(w.first(), math.Log(w.Won+1/float64(w.Bets+2)))
	if w.Bets > 0 {
		sum = plusLn(sum, w.newest())
	}
	return sum
}

// plusLn is the logarithm of the sum of what a and b are the logarithms of.
func plusLn(a, b float64) float64 {
	return max(a, b) + math.Log1p(math.Exp(min(a, b)-max(a, b)))
}

func (w *Watch) equal(o *Watch) bool {
	return w == o || w != nil && o != nil && *w == *o
}

// verdict is Worse or Undecided: time alone ends a watch well.
func (w Watch) verdict(c Config) gapless.Verdict {
	v := gapless.Verdict{Kind: gapless.Undecided, Test: gapless.TestGuard, NoData: w.All.Requests == 0,
		Evidence: gapless.Figures{Candidate: w.All, Weight: 1, LnE: w.lnE(), Threshold: 1 / c.Alpha, Limit: w.Limit}}
	if v.Evidence.LnE >= c.threshold() {
		v.Kind = gapless.Worse
		arm, all := w.All, ""
		if w.Bets > 0 && w.newest() > w.first() {
			arm, all = w.Now, fmt.Sprintf(" (%d of %d in all)", w.All.Bad, w.All.Requests)
		}
		v.Reason = fmt.Sprintf("%d of the last %d answers failed after it was promoted%s, where %s is fine: evidence %s, false-alarm guarantee %s",
			arm.Bad, arm.Requests, all, gapless.Percent(w.Limit), odds(v.Evidence.LnE), gapless.Percent(c.Alpha))
		return v
	}
	v.Reason = fmt.Sprintf("%d of %d answers failed since it was promoted, %s is fine: evidence %s, %s decides",
		w.All.Bad, w.All.Requests, gapless.Percent(w.Limit), odds(v.Evidence.LnE), odds(c.threshold()))
	return v
}
