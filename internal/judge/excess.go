package judge

import (
	"math"

	"gapless"
)

// excessTest asks whether the candidate's share of bad answers is less than
// stable's and a margin delta.
//
// Each request gives a number whose mean is the difference of both shares,
// whatever they are: 1/w for a bad answer of the candidate, -1/(1-w) for one of
// stable, 0 for a good one. If the difference is at least delta, then
// 1 - b·(number - delta) has a mean of at most 1 for every b that keeps it
// over 0 and is chosen beforehand: a bet (Waudby-Smith and Ramdas). b is w·g,
// for a grid of g in 0…1.
//
// At weight 1 there is nothing to compare with and nothing follows.
type excessTest struct {
	stakes []float64 // g of the alternatives
	eta    float64   // every factor is raised to it, see Dispersion
}

var excessStakes = [...]float64{.02, .05, .1, .2, .4, .7, .95}

func (c *Config) excess() excessTest { return excessTest{excessStakes[:], 1 / c.Phi} }

// on is what has become of the bets on "less than delta more" after all rows.
func (t excessTest) on(rows []Row, delta float64) bets {
	b := bets{n: len(t.stakes)}
	for i := range rows {
		r := &rows[i]
		good := func(a gapless.Arm) float64 { return float64(max(a.Requests, a.Bad) - a.Bad) }
		t.add(&b, good(r.Candidate)+good(r.Stable), float64(r.Candidate.Bad), float64(r.Stable.Bad), delta, r.Weight)
	}
	return b
}

// add adds the factors of requests at weight w.
func (t excessTest) add(b *bets, good, candidateBad, stableBad, delta, w float64) {
	if w >= 1 || good+candidateBad+stableBad == 0 {
		return
	}
	for k, g := range t.stakes {
		stake := w * g
		sum := good * math.Log1p(stake*delta)
		if candidateBad > 0 {
			sum += candidateBad * math.Log1p(stake*delta-g)
		}
		if stableBad > 0 {
			sum += stableBad * math.Log1p(stake/(1-w)+stake*delta)
		}
		b.logs[k] += t.eta * sum
	}
}

// leastBound is the smallest bound that is looked for.
const leastBound = 5e-4

// bound is an upper bound of the difference that holds with probability
// 1-beta for all looks together: every margin from it on is proven. The
// evidence grows with the margin, so bisection finds it; the true difference
// is one single margin, and only its test must not err. It is 1 if nothing
// less is proven.
func (t excessTest) bound(rows []Row, threshold float64) float64 {
	proven := func(delta float64) bool {
		b := t.on(rows, delta)
		return b.lnE() >= threshold
	}
	if !proven(1) {
		return 1
	}
	if proven(leastBound) {
		return leastBound
	}
	low, high := math.Log(leastBound), 0.0
	for high-low > 0.01 {
		if mid := (low + high) / 2; proven(math.Exp(mid)) {
			high = mid
		} else {
			low = mid
		}
	}
	return math.Exp(high)
}
