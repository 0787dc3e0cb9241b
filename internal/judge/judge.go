package judge

import (
	"cmp"
	"slices"

	"gapless"
)

// Judge is everything that is known of one candidate. It is a plain value:
// methods return a new one and leave the old one alone, and JSON carries it
// over a restart without changing any verdict.
//
// Only totals per weight are kept. They are integers, so neither the order of
// events nor how they were cut into batches can change a verdict, and a
// verdict costs the same after ten requests as after ten million.
type Judge struct {
	Config Config `json:"config"`
	Rows   []Row  `json:"rows,omitempty"` // by rising weight, one per weight
}

// Row is what was seen of requests whose coin had one weight.
type Row struct {
	Weight    float64     `json:"weight"` // candidate's share, over 0, at most 1
	Candidate gapless.Arm `json:"candidate"`
	Stable    gapless.Arm `json:"stable"`
}

// New returns a judge that has seen nothing, or a gapless.Error about config.
func New(config Config) (Judge, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return Judge{}, err
	}
	return Judge{Config: config}, nil
}

// Observe adds what happened since the batch before. A batch should be one
// consistent reading of the counters: a bad answer that is reported at once
// brings along the good ones before it, or the guard sees it too dark for a
// moment.
//
// Left out, because no coin stands behind them: other releases, and weights
// that are not over 0 and at most 1.
func (j Judge) Observe(batch []gapless.Tally) Judge {
	j.Rows = slices.Clone(j.Rows)
	for _, t := range batch {
		weight, ok := coin(t.Weight)
		if !ok {
			continue
		}
		switch t.Release {
		case j.Config.Candidate:
			add(&j.row(weight).Candidate, t)
		case j.Config.Stable:
			add(&j.row(weight).Stable, t)
		}
	}
	return j
}

// Equal reports whether both were told the same things.
func (j Judge) Equal(o Judge) bool {
	return j.Config == o.Config && slices.Equal(j.Rows, o.Rows)
}

// coin says whether a weight is that of a coin that can fall on the candidate.
// What rounding left a hair below 1 becomes 1: there is no control.
func coin(weight float64) (float64, bool) {
	if weight > 1-1e-9 && weight < 1 {
		return 1, true
	}
	return weight, weight > 0 && weight <= 1
}

func add(a *gapless.Arm, t gapless.Tally) {
	a.Requests += t.Requests
	a.Bad += t.Bad
}

// row finds the row of a weight, or makes it. j.Rows must be j's own.
func (j *Judge) row(weight float64) *Row {
	i, found := slices.BinarySearchFunc(j.Rows, weight, func(r Row, w float64) int { return cmp.Compare(r.Weight, w) })
	if !found {
		j.Rows = slices.Insert(j.Rows, i, Row{Weight: weight})
	}
	return &j.Rows[i]
}

// Verdict is the verdict on all that was observed. weight is the candidate's
// share now; it picks the test that an undecided verdict reports, and Needed
// is told for it. The first Worse is final: the caller acts on it, though
// later evidence may speak for the candidate again.
//
// Each test alone raises a false alarm with probability at most Config.Alpha,
// over the whole rollout. This judge never says NotWorse: it has no test for it.
func (j Judge) Verdict(weight float64) gapless.Verdict {
	c := j.Config.withDefaults()
	weight, ok := coin(weight)
	if !ok {
		weight = 0
	}
	e, g := newErrors(c, j.Rows), newGuard(c, j.Rows)
	switch {
	case e.lnE() >= c.threshold():
		return worse(c, e, weight)
	case g.lnE() >= c.threshold():
		return worse(c, g, weight)
	case weight >= 1:
		return undecided(c, g, weight)
	}
	return undecided(c, e, weight)
}

// test is one test over all rows.
type test interface {
	lnE() float64                              // evidence that the candidate is worse
	lnEAfter(bad uint64, at float64) float64   // the same after more bad answers of the candidate at a weight
	figures() gapless.Figures                  // counts and limits; the rest is filled in by verdict
	name() gapless.VerdictTest                 // for machines
	claim(c Config) string                     // what it would prove, for people
	record(c Config, f gapless.Figures) string // what it saw, for people
}

// mostNeeded bounds the search for Needed; beyond it nobody waits.
const mostNeeded = 1 << 20

// needed is the smallest number of further bad answers in a row that decides,
// 0 if there is none up to mostNeeded. Each one more can only raise the
// evidence, so a binary search is exact.
func needed(c Config, t test, weight float64) uint64 {
	if _, ok := coin(weight); !ok || t.lnEAfter(mostNeeded, weight) < c.threshold() {
		return 0
	}
	low, high := uint64(0), uint64(mostNeeded) // low does not decide, high does
	for high-low > 1 {
		if mid := low + (high-low)/2; t.lnEAfter(mid, weight) >= c.threshold() {
			high = mid
		} else {
			low = mid
		}
	}
	return high
}
