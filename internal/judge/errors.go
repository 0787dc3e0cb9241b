package judge

import (
	"math"

	"gapless"
)

// errorsTest asks whether the candidate gives bad answers at a higher rate
// than stable does at the same time.
//
// The coin gave each request to the candidate with a known probability w. So
// if the candidate's rate is at most r times stable's, a bad answer is the
// candidate's with probability at most w·r / (1 + w·(r-1)), whatever the load,
// the hour or a shared fault do to both. Each bad answer is one bet on
// "the rate is l times stable's" against that bound: the likelihood ratio of
// the two (Wald's sequential test). Its mean is at most 1 while the candidate
// is fine. Good answers carry nothing: the base rate has cancelled out.
//
// Each event brings its own w, so the weight may change at any time. At
// weight 1 every factor is 1: without a control this test is blind.
type errorsTest struct {
	steps []float64 // ln(l/r) of the alternatives
	ratio float64   // r
	eta   float64   // every factor is raised to it, see Dispersion
}

// errorSteps are the alternatives: l = r·√2^k for k = 1…20, that is 1.4 to
// 1024 times the ratio that is fine. Mixing costs at most ln 20.
var errorSteps = func() (s [20]float64) {
	for k := range s {
		s[k] = math.Ln2 / 2 * float64(k+1)
	}
	return s
}()

func (c *Config) errors() errorsTest { return errorsTest{errorSteps[:], c.Ratio, 1 / c.Phi} }

// on is what has become of the bets after all rows.
func (t errorsTest) on(rows ...[]Row) bets {
	b := bets{n: len(t.steps)}
	for _, some := range rows {
		for i := range some {
			t.add(&b, some[i].Candidate.Bad, some[i].Stable.Bad, some[i].Weight)
		}
	}
	return b
}

// add adds the factors of bad answers at weight w.
func (t errorsTest) add(b *bets, candidate, stable uint64, w float64) {
	if w >= 1 || candidate+stable == 0 {
		return
	}
	fine := math.Log1p(w * (t.ratio - 1))
	for k, step := range t.steps {
		norm := math.Log1p(w*(t.ratio*math.Exp(step)-1)) - fine
		b.logs[k] += (float64(candidate)*step - float64(candidate+stable)*norm) * t.eta
	}
}

// compared are the arms that had a control.
func compared(rows ...[]Row) (candidate, stable gapless.Arm) {
	for _, some := range rows {
		for _, r := range some {
			if r.Weight < 1 {
				sum(&candidate, r.Candidate)
				sum(&stable, r.Stable)
			}
		}
	}
	return candidate, stable
}
