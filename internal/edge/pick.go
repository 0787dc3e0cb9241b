package edge

import (
	"math/rand/v2"
	"slices"
)

// pick finds the instance for the next try of this request. The coin has
// fallen; what a try with the chosen release cost it stays booked there,
// whoever answers in the end. nil: nobody may be asked.
func (x *exchange) pick(r *route) *instance {
	now, tried := x.started, x.tried[:x.nTried]
	if x.retries > 0 || x.nTried > 0 || x.held > 0 { // it did not begin just now
		now = x.edge.now()
	}
	i, over := (*instance)(nil), false
	if s := x.chosen; s.balance != nil && s.balance.candidate {
		again := x.failedBy != nil
		over = !again && x.edge.overloads(r, s)
		if again || over {
			if i = r.stable.pick(now, tried); i == nil && again {
				return nil // a candidate does not answer for a candidate
			}
			over = over && i != nil
		}
	}
	if i == nil {
		i = r.pick(x.chosen, now, tried)
	}
	if s := r.stable; s != nil && s.limited() && i != nil && i.release == s.release && s.full() {
		if !x.overfull() { // who drives it may ask again
			s.traffic.over.Add(1)
		}
		x.failure = overfull
		return nil
	}
	if over {
		x.chosen.traffic.over.Add(1)
		x.fail(kindOver, nil)
	}
	return i
}

// pick returns the least loaded usable instance of the release that the coin
// chose, else of the stable one, else of any that has a weight; healthy ones
// of any of these before unhealthy ones. nil: nobody is ready.
func (r *route) pick(chosen *share, now int64, tried []*instance) *instance {
	for _, t := range [...]trust{wary, blind} {
		if i := chosen.least(now, tried, t); i != nil {
			return i
		}
		if r.stable != nil && r.stable.release != chosen.release {
			if i := r.stable.least(now, tried, t); i != nil {
				return i
			}
		}
		for _, s := range r.shares {
			if s.release != chosen.release && s != r.stable && s.weight > 0 {
				if i := s.least(now, tried, t); i != nil {
					return i
				}
			}
		}
	}
	return nil
}

// pick is the pick inside one release alone.
func (s *share) pick(now int64, tried []*instance) *instance {
	if i := s.least(now, tried, wary); i != nil {
		return i
	}
	return s.least(now, tried, blind)
}

// least picks inside a release. When less than half of a release that nobody
// can stand in for seems well, that is not believed: those that are left would
// be buried under what the others do not get.
func (s *share) least(now int64, tried []*instance, t trust) *instance {
	k := s.balance
	if k == nil {
		i, _ := least(s.instances, now, tried, t)
		return i
	}
	i, usable := (*instance)(nil), 0
	if k.slowUntil > now {
		i, usable = leastSlow(s.instances, now, tried, t, k.slow)
	} else {
		i, usable = least(s.instances, now, tried, t)
	}
	if t == wary && k.vital && panics(usable, len(s.instances)) {
		if j, _ := least(s.instances, now, tried, bold); j != nil {
			return j
		}
	}
	return i
}

// panics is the rule: some are well, but less than half.
func panics(usable, all int) bool { return 0 < usable && 2*usable < all }

// scanned is up to how many instances all are compared.
const scanned = 8

// least returns the instance with the fewest requests in flight, starting at
// a random one so that equals share; of many it compares two random ones.
// usable is how many could be had, not exact where two were compared.
func least(list []*instance, now int64, tried []*instance, t trust) (best *instance, usable int) {
	n := len(list)
	if n == 0 {
		return nil, 0
	}
	if n == 1 {
		i := list[0]
		if !i.usable(now, t) {
			return nil, 0
		}
		if len(tried) > 0 && slices.Contains(tried, i) {
			return nil, 1
		}
		return i, 1
	}
	start := int(rand.Uint32N(uint32(n)))
	if n > scanned && len(tried) == 0 {
		a, b := list[start], list[rand.Uint32N(uint32(n))]
		if a.usable(now, t) && b.usable(now, t) {
			if b.inFlight.Load() < a.inFlight.Load() {
				return b, n
			}
			return a, n
		}
	}
	var load int64
	for k, at := 0, start; k < n; k++ {
		i := list[at]
		if at++; at == n {
			at = 0
		}
		if !i.usable(now, t) {
			continue
		}
		usable++
		if len(tried) > 0 && slices.Contains(tried, i) {
			continue
		}
		if l := i.inFlight.Load(); best == nil || l < load {
			best, load = i, l
		}
	}
	return best, usable
}
