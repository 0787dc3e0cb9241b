package judge

import (
	"cmp"
	"math"
	"slices"

	"gapless"
)

// Judge is everything that is known of one candidate. It is a plain value:
// methods return a new one and leave the old one alone, and JSON carries it
// over a restart without changing any verdict.
//
// Of the evidence only totals per weight are kept. They are integers, so
// neither the order of events nor how they were cut into batches can change a
// verdict, and a verdict costs the same after ten requests as after ten million.
type Judge struct {
	Config  Config   `json:"config"`
	Rows    []Row    `json:"rows,omitempty"`    // by rising weight, one per weight
	Rough   []Row    `json:"rough,omitempty"`   // of weights that had no row left; see roughly
	Learned *Learned `json:"learned,omitempty"` // never changed, only replaced; nil: nothing was learned

	Watching *Watch `json:"watching,omitempty"` // after promote; never changed, only replaced
}

// Row is what was seen of requests whose coin had one weight.
type Row struct {
	Weight    float64     `json:"weight"` // candidate's share, over 0, at most 1
	Candidate gapless.Arm `json:"candidate"`
	Stable    gapless.Arm `json:"stable"`

	CandidatePaces gapless.Paces `json:"candidate_paces,omitzero"`
	StablePaces    gapless.Paces `json:"stable_paces,omitzero"`
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
	if j.Watching != nil {
		j.Watching = j.Watching.observe(j.Config.Candidate, batch)
		return j
	}
	j.Rows = slices.Clone(j.Rows)
	for _, t := range batch {
		weight, ok := coin(t.Weight)
		if !ok {
			continue
		}
		row := j.row(weight)
		switch {
		case row == nil:
		case t.Release == j.Config.Candidate:
			add(&row.Candidate, t)
			row.CandidatePaces = row.CandidatePaces.Plus(t.Paces)
		case t.Release == j.Config.Stable:
			add(&row.Stable, t)
			row.StablePaces = row.StablePaces.Plus(t.Paces)
		}
	}
	return j
}

// Equal reports whether both were told the same things.
func (j Judge) Equal(o Judge) bool {
	return j.Config == o.Config && slices.Equal(j.Rows, o.Rows) && slices.Equal(j.Rough, o.Rough) && j.Learned.equal(o.Learned) && j.Watching.equal(o.Watching)
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

// mostRows bounds what a judge keeps; a ramp has seven weights.
const mostRows = 64

// row finds the row of a weight, or makes it. j.Rows must be j's own.
func (j *Judge) row(weight float64) *Row {
	i, found := find(j.Rows, weight)
	if !found && len(j.Rows) >= mostRows {
		return j.roughly(weight)
	}
	if !found {
		j.Rows = slices.Insert(j.Rows, i, Row{Weight: weight})
	}
	return &j.Rows[i]
}

// roughly finds a row for a weight that comes too late to have one of its own:
// that of the next sixteenth above it, which only the errors test reads. A bad
// answer of either release says less against the candidate the greater its
// share was, so that rounding up is on the safe side. Which weights end here
// does not depend on how requests ended, so the other tests lose evidence, but
// not their guarantee.
func (j *Judge) roughly(weight float64) *Row {
	up := math.Ceil(weight*16) / 16
	if up >= 1 {
		return nil // nearly no control: nothing follows from it
	}
	j.Rough = slices.Clone(j.Rough)
	i, found := find(j.Rough, up)
	if !found {
		j.Rough = slices.Insert(j.Rough, i, Row{Weight: up})
	}
	return &j.Rough[i]
}

func find(rows []Row, weight float64) (int, bool) {
	return slices.BinarySearchFunc(rows, weight, func(r Row, w float64) int { return cmp.Compare(r.Weight, w) })
}
