package edge

import (
	"sync/atomic"

	"gapless"
)

// arm is the part of a counter's key that a coin decides. Only routes that
// share traffic between two releases have arms, and only requests that a coin
// sent somewhere are evidence.
type arm struct {
	app, release      string
	stable, candidate string               // release is one of them
	version           uint64               // of the table that brought the route
	weight            float64              // the candidate's share
	sticky            bool                 // the coin is of sessions
	ages              atomic.Pointer[ages] // nil: ages are no evidence now
}

// Kinds of bad answers, beside the codes of own answers.
const (
	kind5xx     = "5xx"
	kindCut     = "cut"     // the answer broke off after its head
	kindUnready = "unready" // the release had no instance to give it to
)

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

// countedWeight is candidateWeight where requests are evidence: also where
// stable has everything and another release is named beside it, because
// somebody watches what becomes of stable. The weight is 0 then.
func countedWeight(spec gapless.Route) (float64, bool) {
	if w, ok := candidateWeight(spec); ok {
		return w, true
	}
	return 0, len(spec.Weights) == 2 && spec.Mirror == nil && spec.Share(spec.Stable) > 0
}

// fail remembers the first failure of this request with an instance of the
// release that the coin chose. It counts although another one may answer.
func (x *exchange) fail(kind string, i *instance) {
	if x.failed == "" {
		x.failed, x.failedBy = kind, i
	}
}

// book counts this request once for the release that the coin chose, as soon
// as it is known how it went. A failure that shows only after the head of the
// answer is added to it.
func (x *exchange) book(kind string, i *instance) {
	a := x.chosen.arm
	if a == nil {
		return
	}
	if x.failed != "" && !x.booked {
		kind, i = x.failed, x.failedBy
	}
	if x.booked && (kind == "" || x.bookedBad) {
		return
	}
	x.aged()
	k := CounterKey{App: a.app, Release: a.release, Version: a.version, Weight: a.weight, Kind: kind}
	if i != nil {
		k.Instance = i.id
	}
	if x.session.counts {
		k.Weight, k.Session = x.session.weight, x.part(kind)
	}
	x.edge.counters.Add(k, x.booked)
	x.booked, x.bookedBad = true, kind != ""
	if kind != "" {
		x.fails(kind)
		x.edge.news(a.app)
	}
}
