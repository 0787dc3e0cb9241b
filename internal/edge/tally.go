package edge

import (
	"sync/atomic"

	"gapless"
)

// tally is evidence: what the coin gave to one release at one weight of the
// candidate, cumulative for the life of the generation. Only routes that
// share traffic between two releases are tallied, and only requests that a
// coin sent somewhere.
type tally struct {
	app, release string
	weight       float64 // the candidate's share when the coin was tossed

	requests, bad atomic.Uint64
}

// keepTallies bounds how many tallies of former weights stay.
const keepTallies = 256

func (t *tally) report() gapless.AppTally {
	// bad first: a reader never sees more bad ones than requests
	bad := t.bad.Load()
	return gapless.AppTally{App: t.app, Tally: gapless.Tally{Release: t.release, Weight: t.weight, Requests: t.requests.Load(), Bad: bad}}
}

// tally finds or makes the counter; e.mu is held.
func (e *Edge) tally(app, release string, weight float64) *tally {
	for _, t := range e.tallies {
		if t.app == app && t.release == release && t.weight == weight {
			return t
		}
	}
	t := &tally{app: app, release: release, weight: weight}
	e.tallies = append(e.tallies, t)
	if extra := len(e.tallies) - keepTallies; extra > 0 {
		e.tallies = append([]*tally(nil), e.tallies[extra:]...)
	}
	return t
}

// candidateWeight is the share of the release that is not stable; false where
// a route has no coin between two releases.
func candidateWeight(spec gapless.Route) (float64, bool) {
	if len(spec.Weights) != 2 {
		return 0, false
	}
	for _, w := range spec.Weights {
		if w.Release != spec.Stable {
			return w.Share, w.Share > 0
		}
	}
	return 0, false
}

// book counts this request once for the release that the coin chose, as soon
// as it is known how it went. A failure of the first try counts although
// another instance may have answered in the end; a failure that shows only
// after the head of the answer is added.
func (x *exchange) book(bad bool) {
	t := x.chosen.tally
	if t == nil {
		return
	}
	bad = bad || x.failedTry
	if !x.booked {
		x.booked = true
		t.requests.Add(1)
	}
	if bad && !x.bookedBad {
		x.bookedBad = true
		t.bad.Add(1)
	}
}
