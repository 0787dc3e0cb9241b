package judge

import (
	"cmp"
	"math"

	"gapless"
)

// fine corrects a limit that a histogram alone gives too roughly: its buckets
// are up to a quarter wide, and a service whose requests all take nearly the
// same would be fast, or slow, always. Then nothing could ever be compared. So
// a limit moves until about the right share of stable's requests is slow by it.
//
// It moves by what was counted before, like all that is learned.
type fine struct {
	Factor float64 `json:"factor"` // of the histogram's quantile
	Step   float64 `json:"step"`   // of its logarithm that it moved by last; below 0: down
}

const (
	fineFirst = 0.06 // steps, of the logarithm
	fineLeast = 0.0005
	fineMost  = 0.1
	fineFar   = 1.4 // factors beyond it, or below its inverse, are no matter of buckets
)

// fineEnough is how many of stable's requests tell whether a limit is right.
var fineEnough = [gapless.Quantiles]uint64{50, 100, 500}

// correct moves the limits by what share of stable's requests was slow since
// the last time, and reports whether one moved. In the first look after limits
// changed there are requests that came before.
func (l *Learned) correct(rows []Row) (moved bool) {
	for i, q := range gapless.Over() {
		all := paced(rows, i, (*Row).worse).stable
		slow, n := all.Slow-min(l.Seen[i].Slow, all.Slow), all.Slow+all.Fast-min(l.Seen[i].Slow+l.Seen[i].Fast, all.Slow+all.Fast)
		if l.Unsettled {
			l.Seen[i] = all
			continue
		}
		if n < fineEnough[i] {
			continue
		}
		l.Seen[i] = all
		off := float64(slow)/float64(n) - q
		if off*off*float64(n) < 9*q*(1-q) { // three standard deviations
			continue
		}
		f := &l.Fine[i]
		step := fineFirst
		if f.Step != 0 {
			step = min(1.5*math.Abs(f.Step), fineMost)
			if off > 0 != (f.Step > 0) { // it went too far
				step = max(math.Abs(f.Step)/2, fineLeast)
			}
		}
		f.Step = math.Copysign(step, off)
		f.Factor = min(max(cmp.Or(f.Factor, 1)*math.Exp(f.Step), 1/fineFar), fineFar)
		moved = true
	}
	l.Unsettled = false
	return moved
}
