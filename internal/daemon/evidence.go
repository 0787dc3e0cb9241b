package daemon

import (
	"context"
	"strconv"

	"gapless"
	"gapless/internal/rollout"
)

// Since implements rollout.Evidence: it turns the cumulative counts of every
// edge generation into what is new since cursor. A generation that is not
// reached now is not lost: its counts come with the next look.
func (r *router) Since(ctx context.Context, app string, cursor rollout.Cursor) ([]gapless.Tally, rollout.Cursor, error) {
	reports, _ := r.reports(ctx)
	if len(reports) == 0 {
		return nil, nil, gapless.Errorf(gapless.Unavailable, "no edge answers")
	}
	next := rollout.Cursor{}
	for key, seen := range cursor {
		next[key] = seen
	}
	var out []gapless.Tally
	for _, rep := range reports {
		for _, t := range rep.Tallies {
			if t.App != app {
				continue
			}
			key := strconv.Itoa(rep.Generation) + "/" + t.Release + "/" + strconv.FormatFloat(t.Weight, 'g', -1, 64)
			seen := next[key]
			if t.Requests < seen[0] || t.Bad < seen[1] { // a counter never falls: another edge with this number
				seen = [2]uint64{}
			}
			next[key] = [2]uint64{t.Requests, t.Bad}
			if cursor != nil && t.Requests > seen[0] {
				t.Tally.Requests, t.Tally.Bad = t.Requests-seen[0], t.Bad-seen[1]
				out = append(out, t.Tally)
			}
		}
	}
	return out, next, nil
}
