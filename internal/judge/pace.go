package judge

import (
	"math"

	"gapless"
)

// paceTest compares how many requests of both releases are slow, by a limit of
// age that follows from the past alone.
//
// The coin gave each request to the candidate with probability w. If both
// releases are slow equally often, then whether a request is slow tells nothing
// of whose it is. Each request is one bet: the likelihood ratio of "the
// candidate's odds of being slow are o times those of stable" against "the
// coin alone chose". Its mean is at most 1 if the candidate is slow at most as
// often (o over 1), or at least as often (o under 1), as stable is, whatever
// share of stable's requests is slow: q is only the guess that makes the bet a
// good one.
//
// With o over 1, by the limits "worse", it asks whether the candidate is slower
// than stable; with o under 1, by the limits "margin", whether it is faster
// than stable and the margin.
type paceTest struct {
	odds []odd
	q    float64 // share of stable's requests that should be slow
	eta  float64 // every factor is raised to it, see Dispersion
}

// odd is one alternative.
type odd struct{ slow, lnSlow, lnFast float64 } // the candidate's share of slow requests, if o is true; logarithms

func oddsOf(q float64, all ...float64) (odds []odd) {
	for _, o := range all {
		p := o * q / (1 - q + o*q)
		odds = append(odds, odd{p, math.Log(p), math.Log1p(-p)})
	}
	return odds
}

var slowerOdds, notSlowerOdds = func() (slower, not [gapless.Quantiles][]odd) {
	for i, q := range gapless.Over() {
		slower[i] = oddsOf(q, 1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5, 3, 4, 6, 10, 30)
		not[i] = oddsOf(q, .95, .9, .8, .7, .6, .5, .35, .2, .1, .03)
	}
	return slower, not
}()

func (c *Config) slower(i int) paceTest {
	return paceTest{slowerOdds[i], gapless.Over()[i], 1 / c.PhiSlow[i]}
}

func (c *Config) notSlower(i int) paceTest {
	return paceTest{notSlowerOdds[i], gapless.Over()[i], 1 / c.PhiSlow[i]}
}

// pair is what was seen of both by one limit.
type pair struct{ candidate, stable gapless.Pace }

func (r *Row) worse(i int) pair  { return pair{r.CandidatePaces.Worse[i], r.StablePaces.Worse[i]} }
func (r *Row) margin(i int) pair { return pair{r.CandidatePaces.Margin[i], r.StablePaces.Margin[i]} }

// on is what has become of the bets after all rows; of says by which limit.
func (t paceTest) on(rows []Row, i int, of func(*Row, int) pair) bets {
	b := bets{n: len(t.odds)}
	for r := range rows {
		p := of(&rows[r], i)
		t.add(&b, float64(p.candidate.Slow), float64(p.candidate.Fast), float64(p.stable.Slow), float64(p.stable.Fast), rows[r].Weight)
	}
	return b
}

// add adds the factors of requests at weight w.
func (t paceTest) add(b *bets, candidateSlow, candidateFast, stableSlow, stableFast, w float64) {
	if w >= 1 || candidateSlow+candidateFast+stableSlow+stableFast == 0 {
		return
	}
	lnSlow, lnFast := math.Log(t.q), math.Log1p(-t.q)
	for k, o := range t.odds {
		m := w*o.slow + (1-w)*t.q // of both together
		slow, fast := math.Log(m), math.Log1p(-m)
		b.logs[k] += t.eta * (candidateSlow*(o.lnSlow-slow) + candidateFast*(o.lnFast-fast) + stableSlow*(lnSlow-slow) + stableFast*(lnFast-fast))
	}
}

// paced adds up what was seen of both by one limit.
func paced(rows []Row, i int, of func(*Row, int) pair) (all pair) {
	for r := range rows {
		if rows[r].Weight < 1 {
			p := of(&rows[r], i)
			all.candidate = gapless.Pace{Fast: all.candidate.Fast + p.candidate.Fast, Slow: all.candidate.Slow + p.candidate.Slow}
			all.stable = gapless.Pace{Fast: all.stable.Fast + p.stable.Fast, Slow: all.stable.Slow + p.stable.Slow}
		}
	}
	return all
}
