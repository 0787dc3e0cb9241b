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
// number of the last report that was taken in, and per counter the requests
// and bad answers of it: {"<start>": [seq, 0], "<start>/<number>": [requests, bad]}.
// Counters that are new begin at 0.
type Cursor map[string][2]uint64

// Seq is the number of the last report of an edge process that was taken in.
func (c Cursor) Seq(start string) uint64 { return c[start][0] }

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
			seen := next[key]
			// Late ones are told by what they leave: more bad answers than requests.
			requests, bad := c.Requests-min(seen[0], c.Requests), c.Bad-min(seen[1], c.Bad)
			next[key] = [2]uint64{max(seen[0], c.Requests), max(seen[1], c.Bad)}
			if cursor == nil || requests == 0 && bad == 0 || c.Session == gapless.SessionAgain {
				continue // what goes wrong again for a client says nothing new of a release
			}
			a := arm{c.Release, c.Weight}
			t := sums[a]
			t.Release, t.Weight = c.Release, c.Weight
			t.Requests, t.Bad, t.Late = t.Requests+requests, t.Bad+bad, t.Late+bad-min(bad, requests)
			sums[a] = t
		}
		for key := range next {
			if strings.HasPrefix(key, rep.Start+"/") && !listed[key] {
				delete(next, key)
			}
		}
		next[rep.Start] = [2]uint64{rep.Seq, 0}
	}
	out := slices.Collect(maps.Values(sums))
	slices.SortFunc(out, func(a, b gapless.Tally) int {
		return cmp.Or(cmp.Compare(a.Release, b.Release), cmp.Compare(a.Weight, b.Weight))
	})
	return out, next
}
