package judge

import (
	"math"
	"slices"
	"sort"

	"gapless"
)

// Bands are for people who look on: what the truth may still be. They decide
// nothing.

const (
	bandAlpha = 0.05
	bandExact = 1e-4 // relative precision of a ratio
)

// bands are the intervals that hold the truth with probability 95 % each, for
// all looks together; nil where nothing was compared.
func (s *sight) bands() *gapless.Bands {
	var b gapless.Bands
	b.Rate = s.c.rateBand(bandAlpha, bandExact, s.Rows, s.Rough)
	if l := s.Learned; l != nil {
		for i, over := range gapless.Over() {
			b.Latency[i] = quotient(l.Candidate.band(1-over, bandAlpha/2), l.Stable.band(1-over, bandAlpha/2))
		}
	}
	if b == (gapless.Bands{}) {
		return nil
	}
	return &b
}

// mostRate bounds the ratios that are looked at, on both sides of 1.
const mostRate = 1e6

// rateSteps is the logarithm of the alternatives: √2^k for k = -20…20.
var rateSteps = func() (s [41]float64) {
	for k := range s {
		s[k] = math.Ln2 / 2 * float64(k-20)
	}
	return s
}()

// rateBand is the confidence sequence for the candidate's rate of bad answers
// ÷ stable's: all ratios that a bet on the two-sided grid has not made 1/alpha
// out of. Those are an interval, as the likelihood is concave in the logarithm
// of the ratio, whatever the weights.
func (c *Config) rateBand(alpha, exact float64, rows ...[]Row) gapless.Band {
	t := errorsTest{rateSteps[:], 1, 1 / c.Phi}
	b := t.on(rows...)
	least := b.lnE() + math.Log(alpha) // of the likelihood of what is in the band
	seen := false
	likelihood := func(x float64) (ln, slope float64) {
		for _, some := range rows {
			for i := range some {
				r := &some[i]
				if n := float64(r.Candidate.Bad + r.Stable.Bad); r.Weight < 1 && n > 0 {
					seen = true
					ratio := math.Exp(x)
					m := 1 + r.Weight*(ratio-1)
					ln += (float64(r.Candidate.Bad)*x - n*math.Log(m)) / c.Phi
					slope += (float64(r.Candidate.Bad) - n*r.Weight*ratio/m) / c.Phi
				}
			}
		}
		return ln, slope
	}
	far := math.Log(mostRate)
	top := bisect(-far, far, exact, func(x float64) bool { _, slope := likelihood(x); return slope > 0 })
	if !seen {
		return gapless.Band{}
	}
	inside := func(x float64) bool { ln, _ := likelihood(x); return ln >= least }
	band := gapless.Band{Low: 1 / mostRate}
	if !inside(-far) {
		band.Low = math.Exp(bisect(top, -far, exact, inside))
	}
	if !inside(far) {
		band.High = math.Exp(bisect(top, far, exact, inside))
	}
	return band
}

// bisect finds where a property ends that holds at from and not at to.
func bisect(from, to, exact float64, holds func(float64) bool) float64 {
	for math.Abs(to-from) > exact {
		if mid := (from + to) / 2; holds(mid) {
			from = mid
		} else {
			to = mid
		}
	}
	return from
}

// band is the confidence sequence for a quantile, in microseconds: all
// latencies x for which "a share q of the requests is faster than x" is not
// refuted. For each x that is a coin, and the bet against it a mixture over all
// other coins (Robbins; here with the prior Beta(1/2, 1/2)).
func (h *histogram) band(q, alpha float64) gapless.Band {
	n := h.total()
	if n == 0 {
		return gapless.Band{}
	}
	refuted := func(below float64) bool {
		lnE := lnBeta(below+0.5, n-below+0.5) - math.Log(math.Pi) - below*math.Log(q) - (n-below)*math.Log1p(-q)
		return lnE >= -math.Log(alpha)
	}
	var below [gapless.LatencyBuckets + 1]float64 // faster than the start of a bucket
	for b, count := range h {
		below[b+1] = below[b] + count
	}
	middle, _ := slices.BinarySearch(below[:], q*n)
	if middle == len(below) { // of rounding
		middle--
	}
	var band gapless.Band
	// The further from the middle, the more surely refuted.
	if low := sort.Search(middle, func(b int) bool { return !refuted(below[b]) }); low > 0 {
		band.Low = float64(gapless.LatencyBucketStart(low - 1))
	}
	if high := middle + sort.Search(len(below)-middle, func(b int) bool { return refuted(below[middle+b]) }); high < len(below) {
		band.High = float64(gapless.LatencyBucketStart(high))
	}
	return band
}

func lnBeta(a, b float64) float64 {
	x, _ := math.Lgamma(a)
	y, _ := math.Lgamma(b)
	z, _ := math.Lgamma(a + b)
	return x + y - z
}

// quotient is what a ÷ b may be; a bound that is 0 is not known.
func quotient(a, b gapless.Band) (q gapless.Band) {
	if b.High > 0 {
		q.Low = a.Low / b.High
	}
	if b.Low > 0 {
		q.High = a.High / b.Low
	}
	return q
}
