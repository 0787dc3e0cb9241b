package judge

import (
	"fmt"
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
	rows  []Row
	ratio float64 // r
	phi   float64 // every factor is raised to 1/phi, see Dispersion
}

func newErrors(c Config, rows []Row) errorsTest {
	return errorsTest{rows, c.Ratio, c.Phi}
}

// errorGrid is how many alternatives are mixed: l = r·√2^k for k = 1…20, that
// is 1.4 to 1024 times the ratio that is fine. Mixing costs at most ln 20.
const errorGrid = 20

func (t errorsTest) lnE() float64 { return t.lnEAfter(0, 1) }

func (t errorsTest) lnEAfter(bad uint64, at float64) float64 {
	var logs [errorGrid]float64
	for _, r := range t.rows {
		t.bet(&logs, r.Candidate.Bad, r.Stable.Bad, r.Weight)
	}
	t.bet(&logs, bad, 0, at)
	return mixture(logs[:])
}

// bet adds the factors of bad answers at weight w to the bet on each alternative.
func (t errorsTest) bet(logs *[errorGrid]float64, candidate, stable uint64, w float64) {
	if w >= 1 || candidate+stable == 0 {
		return
	}
	fine := math.Log1p(w * (t.ratio - 1))
	for k := range logs {
		step := math.Ln2 / 2 * float64(k+1) // ln(l/r)
		norm := math.Log1p(w*(t.ratio*math.Exp(step)-1)) - fine
		logs[k] += (float64(candidate)*step - float64(candidate+stable)*norm) / t.phi
	}
}

func (t errorsTest) figures() gapless.Figures {
	f := gapless.Figures{Phi: t.phi}
	for _, r := range t.rows {
		if r.Weight < 1 {
			sum(&f.Candidate, r.Candidate)
			sum(&f.Stable, r.Stable)
		}
	}
	return f
}

func (errorsTest) name() gapless.VerdictTest { return gapless.TestErrors }

func (t errorsTest) claim(c Config) string {
	if t.ratio != 1 {
		return fmt.Sprintf("%s gives bad answers at over %.3g × the rate of %s", c.Candidate, t.ratio, c.Stable)
	}
	return fmt.Sprintf("%s gives bad answers more often than %s", c.Candidate, c.Stable)
}

func (errorsTest) record(c Config, f gapless.Figures) string {
	return fmt.Sprintf("%s: %s, %s: %s", c.Candidate, share(f.Candidate), c.Stable, share(f.Stable))
}
