package edge

import (
	"math/rand/v2"
	"slices"
	"time"
)

// coldest is what a new instance gets at once, of its full share.
const coldest = 0.1

// warmth is the part of its full share that an instance gets at an age: it
// grows in a straight line over the slow start.
func warmth(age, slow int64) float64 {
	if age >= slow {
		return 1
	}
	return max(coldest, float64(age)/float64(slow))
}

// slowStart says until when the pick must know how old the instances are: until
// the youngest is warm. There is nothing to spare them where none is warm yet.
func slowStart(list []*instance, now int64, slow time.Duration) (until int64) {
	warm := false
	for _, i := range list {
		if now-i.since >= int64(slow) {
			warm = true
		} else {
			until = max(until, i.since+int64(slow))
		}
	}
	if !warm {
		return 0
	}
	return until
}

// leastSlow is least while some instances are new. One of warmth f competes as
// an equal every so often, f of the times, and otherwise with what it has in
// flight counted 1/f times: so its share is bounded when nobody has much to do,
// and it takes more when the others have too much.
func leastSlow(list []*instance, now int64, tried []*instance, t trust, slow int64) (best *instance, usable int) {
	n := len(list)
	if n == 0 {
		return nil, 0
	}
	start := int(rand.Uint32N(uint32(n)))
	least := 0.0
	for k := range n {
		i := list[(start+k)%n]
		if !i.usable(now, t) {
			continue
		}
		if usable++; slices.Contains(tried, i) {
			continue
		}
		l := float64(i.inFlight.Load() + 1)
		if f := warmth(now-i.since, slow); f < 1 && rand.Float64() >= f {
			l /= f
		}
		if best == nil || l < least {
			best, least = i, l
		}
	}
	return best, usable
}
