package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gapless"
)

type edge struct {
	gen    int
	table  *gapless.Route
	at     uint64
	queue  []delivery
	saidAt uint64 // of its last report
	said   *gapless.Route
	counters
	totals map[string][2]uint64 // per release, whatever the weights
	heard  time.Time            // when the lease was renewed last
	fell   bool                 // nobody renewed it: the fallback is served
	flight map[string]int
	long   map[string]time.Time // a request is in flight at least so long
	dark   time.Time
	exit   time.Time
	copies gapless.MirrorTraffic // that it made, and what came of them
}

type delivery struct {
	table *gapless.Route
	at    uint64
	due   time.Time
}

func (w *world) newEdge(table *gapless.Route, at uint64) *edge {
	w.gen++
	e := &edge{gen: w.gen, table: table, at: at, heard: w.now, counters: counters{start: fmt.Sprintf("e%d", w.gen)}, totals: map[string][2]uint64{}, flight: map[string]int{}, long: map[string]time.Time{}}
	w.edges = append(w.edges, e)
	return e
}

// Apply implements Router.
func (w *world) Apply(_ context.Context, _ string, r *gapless.Route) error {
	w.die()
	w.at(ActRoute, beforeEffect)
	w.mayApply(r)
	if !same(r, w.applied) || w.missed {
		w.version++
		if w.verbose {
			w.log("apply %d: %s", w.version, describe(r))
		}
		w.applied, w.missed = r, w.chance(w.faults.apply)
		for i, e := range w.edges {
			if w.missed && (i > 0 || w.chance(0.5)) {
				break
			}
			due := w.now
			if w.chance(w.faults.delay) {
				due = due.Add(w.between(0, 2*time.Second))
			}
			if n := len(e.queue); n > 0 && e.queue[n-1].due.After(due) {
				due = e.queue[n-1].due
			}
			e.queue = append(e.queue, delivery{r, w.version, due})
		}
		w.deliver()
	}
	w.did(ActRoute)
	w.die()
	if w.missed {
		return errors.New("an edge does not answer")
	}
	return nil
}

func describe(r *gapless.Route) string {
	if r == nil {
		return "none"
	}
	out := ""
	for _, x := range r.Weights {
		out += fmt.Sprintf("%s %.3g ", x.Release, x.Share)
	}
	for _, t := range r.Targets {
		out += t.Instance[len(simApp)+1:]
		if t.Draining {
			out += "(out)"
		}
		out += " "
	}
	return out
}

// deliver hands over the tables that are due.
func (w *world) deliver() {
	for _, e := range w.edges {
		for len(e.queue) > 0 && !e.queue[0].due.After(w.now) {
			if next := e.queue[0].table; !sameLease(e.table, next) { // a new decision
				e.fell, e.heard = false, w.now
			}
			e.table, e.at = e.queue[0].table, e.queue[0].at
			e.queue = e.queue[1:]
		}
	}
	for _, p := range w.procs {
		switch {
		case w.picked(p.in.ID):
			p.out = time.Time{}
		case p.out.IsZero():
			p.out = w.now
		}
	}
}

// sameLease reports whether a lease goes on with the next table.
func sameLease(was, is *gapless.Route) bool {
	return was != nil && is != nil && was.Lease > 0 && is.Lease > 0 &&
		slices.Equal(was.Weights, is.Weights) && slices.Equal(was.Fallback, is.Fallback)
}

// Renew implements Leaser.
func (w *world) Renew(string) {
	w.die()
	for _, e := range w.edges {
		if !e.dark.After(w.now) {
			e.heard = w.now
		}
	}
}

// Observed implements Router.
func (w *world) Observed(context.Context, string) (Served, error) {
	w.die()
	for _, kind := range w.done {
		w.at(kind, beforeObserve)
	}
	w.done = nil
	w.fell, w.blind = false, false
	s := Served{Known: !w.missed, Route: w.applied, InFlight: map[string]int{}, Unhealthy: map[string]bool{}, Failing: map[string]bool{}}
	w.tables, w.servedAt = w.tables[:0], w.now
	for _, e := range w.edges {
		w.tables = append(w.tables, e.table)
		if !e.dark.After(w.now) {
			s.FellBack = s.FellBack || e.fell
		}
		if !w.chance(w.faults.backward) { // else an old report comes late
			e.saidAt, e.said = e.at, e.table
		}
		if e.saidAt != w.version || e.dark.After(w.now) {
			if s.Known = false; w.runner.routed {
				s.Route = e.said // not what was applied: this one serves something else
			}
			continue
		}
		times := 1
		if w.chance(w.faults.double) {
			times = 2
		}
		for id, n := range e.flight {
			s.InFlight[id] += n * times
		}
	}
	if w.chance(w.faults.double) { // an instance that nobody knows
		s.InFlight["shop.v99.web.1.1"], s.Unhealthy["shop.v99.web.1.1"] = 3, true
	}
	for _, p := range w.procs {
		if w.sick[p.in.ID].After(w.now) && p.in.State == gapless.Ready {
			s.Unhealthy[p.in.ID] = true
		}
	}
	for _, p := range w.procs {
		if w.cut[p.in.ID].After(w.now) {
			s.Failing[p.in.ID] = true
		}
	}
	w.unwell, w.failing = s.Unhealthy, s.Failing
	w.fell = s.FellBack && w.applied != nil && w.applied.Lease > 0
	return s, nil
}

// serve lets requests come and go.
func (w *world) serve(e *edge) {
	if e.table != nil && e.table.Lease > 0 && !e.fell && w.now.Sub(e.heard) > e.table.Lease.Std() {
		w.log("edge %d falls back", e.gen)
		e.fell = true
	}
	w.toss(e)
	w.copyTo(e)
	for _, p := range w.procs {
		id := p.in.ID
		n := e.flight[id]
		switch {
		case picks(e.table, id) && p.in.State == gapless.Ready:
			e.flight[id] = max(0, n+w.rng.IntN(4)-1)
			if w.rng.IntN(30) == 0 {
				e.long[id] = w.now.Add(w.between(0, 2*simDrain))
				e.flight[id]++
			}
		case n > 0 && w.now.After(e.long[id]):
			e.flight[id] = w.rng.IntN(n + 1)
		}
	}
}

// storedLate is how far what is stored of a lease may lag behind what holds.
const storedLate = LeaseTime/4 + time.Second

// generations lets edges come and go. A new one serves what the newest one
// stored: the table, its fallback if that is what it served, and a little less
// than what was left of the lease. It is given every table that the newest one
// is still to get.
func (w *world) generations() {
	for i, e := range w.edges {
		if !e.exit.IsZero() && e.exit.Before(w.now) {
			w.log("edge %d exits", e.gen)
			w.edges = append(w.edges[:i:i], w.edges[i+1:]...)
			break
		}
	}
	if !w.chance(w.faults.edges) {
		return
	}
	last := w.edges[len(w.edges)-1]
	next := w.newEdge(last.table, last.at)
	next.queue = append(next.queue, last.queue...)
	next.fell, next.heard = last.fell, last.heard.Add(-w.between(0, storedLate))
	w.log("edge %d takes over", next.gen)
	last.exit = w.now
	if w.chance(0.5) { // not killed: it drains
		last.exit = w.now.Add(w.between(0, 5*time.Second))
	}
}
