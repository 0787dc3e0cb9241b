package rollout

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gapless"
)

// Cursor marks a place in cumulative counts. Per edge process it has the
// number of the last report that was taken in, and per counter the requests,
// the bad answers and, where there are any, the paces of it:
// {"<start>": [seq, 0], "<start>/<number>": [requests, bad, …]}.
// Counters that are new begin at 0. Its numbers are never changed in place.
type Cursor map[string][]uint64

// Seq is the number of the last report of an edge process that was taken in.
func (c Cursor) Seq(start string) uint64 { return c.at(start).requests }

// place is how far one counter was read.
type place struct {
	requests, bad uint64
	paces         gapless.Paces
}

// paceNumbers is how many numbers paces are in a cursor.
const paceNumbers = 4 * gapless.Quantiles

// numbers calls f with each number of p, always in the same order.
func numbers(p *gapless.Paces, f func(*uint64)) {
	for i := range gapless.Quantiles {
		for _, n := range []*uint64{&p.Worse[i].Fast, &p.Worse[i].Slow, &p.Margin[i].Fast, &p.Margin[i].Slow} {
			f(n)
		}
	}
}

// at reads a place; what is missing is 0.
func (c Cursor) at(key string) (p place) {
	list := c[key]
	next := func(n *uint64) {
		if len(list) > 0 {
			*n, list = list[0], list[1:]
		}
	}
	next(&p.requests)
	next(&p.bad)
	numbers(&p.paces, next)
	return p
}

func (c Cursor) set(key string, p place) {
	list := make([]uint64, 2, 2+paceNumbers)
	list[0], list[1] = p.requests, p.bad
	if p.paces != (gapless.Paces{}) {
		numbers(&p.paces, func(n *uint64) { list = append(list, *n) })
	}
	c[key] = list
}

// same reports whether both are the same place.
func (c Cursor) same(o Cursor) bool {
	return (c == nil) == (o == nil) && maps.EqualFunc(c, o, slices.Equal)
}

// Fold takes the evidence about an app out of reports: what was counted after
// cursor, summed by release and weight, and the cursor to go on from. A nil
// cursor asks for the present one only. Reports may come in any order, again
// and again or not at all; whatever is missing comes with a later one.
//
// It is right because counters only grow, a number is never used twice by an
// edge process, and an edge drops a counter only after a cursor that has all
// of it was acknowledged. So what a newer report does not list is forgotten.
func Fold(app string, cursor Cursor, reports []gapless.EdgeReport) ([]gapless.Tally, Cursor) {
	next := maps.Clone(cursor)
	if next == nil {
		next = Cursor{}
	}
	type arm struct {
		release string
		weight  float64
	}
	sums := map[arm]gapless.Tally{}
	for _, rep := range reports {
		if rep.Start == "" || rep.Seq <= next.Seq(rep.Start) {
			continue // it tells nothing new, or cannot be told from others
		}
		listed := map[string]bool{}
		for _, c := range rep.Counters {
			if c.App != app {
				continue
			}
			key := rep.Start + "/" + strconv.FormatUint(c.Number, 10)
			listed[key] = true
			seen := next.at(key)
			news := fresh(c, seen)
			next.set(key, seen.plus(c))
			if cursor == nil || news == (gapless.Tally{}) {
				continue
			}
			a := arm{c.Release, c.Weight}
			t := sums[a]
			t.Release, t.Weight = c.Release, c.Weight
			t.Requests, t.Bad, t.Late, t.Paces = t.Requests+news.Requests, t.Bad+news.Bad, t.Late+news.Late, t.Paces.Plus(news.Paces)
			sums[a] = t
		}
		for key := range next {
			if strings.HasPrefix(key, rep.Start+"/") && !listed[key] {
				delete(next, key)
			}
		}
		next.set(rep.Start, place{requests: rep.Seq})
	}
	out := slices.Collect(maps.Values(sums))
	slices.SortFunc(out, func(a, b gapless.Tally) int {
		return cmp.Or(cmp.Compare(a.Release, b.Release), cmp.Compare(a.Weight, b.Weight))
	})
	return out, next
}

// plus is the place that has all of a counter, too.
func (p place) plus(c gapless.Counter) place {
	return place{max(p.requests, c.Requests), max(p.bad, c.Bad), p.paces.Plus(c.Paces.Minus(p.paces))}
}

// fresh is what a counter has of evidence that was not seen before; without
// release and weight. Where sessions stick, they are what is counted.
func fresh(c gapless.Counter, seen place) gapless.Tally {
	requests, bad := c.Requests-min(seen.requests, c.Requests), c.Bad-min(seen.bad, c.Bad)
	t := gapless.Tally{Paces: c.Paces.Minus(seen.paces)}
	switch c.Session {
	case gapless.SessionAgain, gapless.SessionMore: // what goes on as it did for a client says nothing new of a release
	case gapless.SessionLate:
		t.Bad, t.Late = bad, bad
	default:
		// Late ones are told by what they leave: more bad answers than requests.
		t.Requests, t.Bad, t.Late = requests, bad, bad-min(bad, requests)
	}
	return t
}
