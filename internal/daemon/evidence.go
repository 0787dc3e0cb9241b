package daemon

import (
	"context"
	"math"
	"slices"

	"gapless"
	"gapless/internal/edge"
	"gapless/internal/rollout"
)

// last is what an edge process that is gone said last. Its evidence counts
// until it is saved.
type last struct {
	rep  gapless.EdgeReport
	kept map[string]bool // per app: it is
}

// mostLast bounds how many of them are remembered; each had its time to be taken in.
const mostLast = 32

// remember keeps the last report of a process that is gone.
func (r *router) remember(rep gapless.EdgeReport) {
	if rep.Start == "" {
		return
	}
	r.totals.end(rep.Start, true)
	r.mu.Lock()
	defer r.mu.Unlock()
	k := slices.IndexFunc(r.gone, func(l last) bool { return l.rep.Start == rep.Start })
	switch {
	case k < 0:
		r.gone = append(r.gone, last{rep, map[string]bool{}})
	case rep.Seq > r.gone[k].rep.Seq:
		r.gone[k] = last{rep, map[string]bool{}}
	}
	if n := len(r.gone) - mostLast; n > 0 {
		r.gone = slices.Delete(r.gone, 0, n)
	}
}

// isBack forgets that a process was gone.
func (r *router) isBack(start string) {
	r.totals.end(start, false)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = slices.DeleteFunc(r.gone, func(l last) bool { return l.rep.Start == start })
}

// Since implements rollout.Evidence, from what the edges said last: every
// report is cumulative, so one that is old or missing comes with a later one.
func (r *router) Since(_ context.Context, app string, cursor rollout.Cursor) ([]gapless.Tally, rollout.Cursor, error) {
	reports, whole, any := r.evidence(app)
	switch {
	case !any:
		return nil, nil, gapless.Errorf(gapless.Unavailable, "no edge answers")
	case cursor == nil && !whole: // what it counted before now would look new later
		return nil, nil, gapless.Errorf(gapless.Unavailable, "not every edge answers")
	}
	tallies, next := rollout.Fold(app, cursor, reports)
	return tallies, next, nil
}

// evidence lists the last reports of all edge processes about an app. whole:
// every live one spoke just now; any: one of them did.
func (r *router) evidence(app string) (reports []gapless.EdgeReport, whole, any bool) {
	live := r.generations()
	whole = len(live) > 0
	for _, g := range live {
		rep, fresh := g.report()
		reports = append(reports, rep)
		whole, any = whole && fresh, any || fresh
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.gone {
		rep := l.rep
		if l.kept[app] { // nothing of it is to come: its counters need not be remembered
			rep.Seq, rep.Counters = math.MaxUint64, nil
		}
		reports = append(reports, rep)
	}
	return reports, whole, any
}

// Acknowledge implements rollout.Acknowledger.
func (r *router) Acknowledge(app string, saved rollout.Cursor) {
	for _, g := range r.generations() {
		g.mu.Lock()
		seq := g.rep.Seq // nobody wants to know
		if saved != nil {
			seq = saved.Seq(g.rep.Start)
		}
		g.kept[app] = max(g.kept[app], seq)
		g.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.gone {
		l.kept[app] = l.kept[app] || saved == nil || saved.Seq(l.rep.Start) >= l.rep.Seq
	}
}

// Renew implements rollout.Leaser.
func (r *router) Renew(app string) {
	now := edge.Clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, route := range r.table.Routes {
		if route.App == app && route.Lease > 0 {
			r.judged[app] = now
			return
		}
	}
	delete(r.judged, app)
}
