package rollout

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"gapless"
)

// counters are the evidence of an edge: numbered, reported and freed as the real
// ones are, keyed by what matters to the judge.
type counters struct {
	start string
	seq   uint64
	last  uint64 // number given
	cells []counted
	acked uint64
	told  gapless.EdgeReport // the last report
	older gapless.EdgeReport // the one before it
}

type counted struct {
	gapless.Counter
	at uint64 // report that had it as it is now first; 0: none yet
}

// add counts one request.
func (c *counters) add(release string, weight float64, kind string) {
	x := c.cell(release, weight, kind)
	x.Requests, x.at = x.Requests+1, 0
	if kind != "" {
		x.Bad++
	}
}

// pace counts how long one request took, or has taken so far.
func (c *counters) pace(release string, weight float64, kind string, slow bool) {
	x := c.cell(release, weight, kind)
	one := gapless.Pace{Fast: 1}
	if slow {
		one = gapless.Pace{Slow: 1}
	}
	var p gapless.Paces
	p.Worse[0], p.Margin[gapless.Quantiles-1] = one, one
	x.Paces, x.at = x.Paces.Plus(p), 0
}

// cell finds what counts such requests, or makes it.
func (c *counters) cell(release string, weight float64, kind string) *counted {
	k := slices.IndexFunc(c.cells, func(x counted) bool { return x.Release == release && x.Weight == weight && x.Kind == kind })
	if k < 0 {
		c.last++
		k = len(c.cells)
		c.cells = append(c.cells, counted{Counter: gapless.Counter{Number: c.last, App: simApp, Release: release, Weight: weight, Kind: kind}})
	}
	return &c.cells[k]
}

// report makes a report; weight is the candidate's present share.
func (c *counters) report(weight float64) {
	c.seq++
	c.older, c.told = c.told, gapless.EdgeReport{Start: c.start, Seq: c.seq}
	c.cells = slices.DeleteFunc(c.cells, func(x counted) bool { return x.at > 0 && x.at <= c.acked && x.Weight != weight })
	for i := range c.cells {
		if x := &c.cells[i]; x.at == 0 {
			x.at = c.seq
		}
		c.told.Counters = append(c.told.Counters, c.cells[i].Counter)
	}
}

// toss lets requests come in at an edge, each given to a release by an
// independent coin.
func (w *world) toss(e *edge) {
	if e.table == nil || len(e.table.Weights) != 2 {
		w.tossAlone(e)
		return
	}
	other, share := e.table.Weights[1].Release, e.share()
	ready := map[string]bool{}
	for _, t := range e.table.Targets {
		ready[t.Release] = ready[t.Release] || !t.Draining
	}
	stable := e.table.Stable
	for range w.rng.IntN(12) {
		chosen, answers := stable, stable
		if w.rng.Float64() < share {
			chosen, answers = other, other
		}
		if !ready[answers] {
			answers = stable // booked for the chosen one
		}
		if !ready[answers] {
			continue // held
		}
		kind, bad := "", uint64(0)
		if w.rng.Float64() < w.badRate(answers) {
			kind, bad = "5xx", 1
		}
		if w.limits.Version > 0 {
			e.pace(chosen, share, kind, bad > 0)
		}
		if bad == 0 && w.limits.Version > 0 && w.rng.IntN(30) == 0 {
			continue // it hangs on, and its age is told
		}
		e.add(chosen, share, kind)
		sum := e.totals[chosen]
		e.totals[chosen] = [2]uint64{sum[0] + 1, sum[1] + bad}
	}
}

// badRate is the share of bad answers that a release gives.
func (w *world) badRate(release string) float64 {
	if w.temper[release] == sloppy {
		return max(w.noise, w.sloppiness)
	}
	return w.noise
}

// tossAlone lets requests come in where one release serves: no coin, no
// evidence, but a record.
func (w *world) tossAlone(e *edge) {
	if e.table == nil || len(e.table.Targets) == 0 {
		return
	}
	release := e.table.Weights[0].Release
	sum, rate, n := e.totals[release], w.badRate(release), w.rng.IntN(12)
	sum[0] += uint64(n)
	for ; rate > 0 && n > 0; n-- {
		if w.rng.Float64() < rate {
			sum[1]++
		}
	}
	e.totals[release] = sum
}

// record is what the edges counted of a release at any weight so far, as the
// daemon reads it when a rollout begins.
func (w *world) record(release string) (all gapless.Arm) {
	for _, e := range w.edges {
		v := e.totals[release]
		all.Requests, all.Bad = all.Requests+v[0], all.Bad+v[1]
	}
	return all
}

// share is the candidate's share that an edge tosses by: its table's, or that
// of the fallback when its lease ran out.
func (e *edge) share() float64 {
	if e.table == nil || len(e.table.Weights) != 2 {
		return 0
	}
	weights := e.table.Weights
	if e.fell {
		weights = e.table.Fallback
	}
	for _, x := range weights {
		if x.Release == e.table.Weights[1].Release {
			return x.Share
		}
	}
	return 0
}

// total marks the entries of a cursor that add up all that was told along it.
// So the judge can be compared with its cursor to the last request.
const total = "total/"

// Since implements Evidence. What it tells may be late, old, twice or absurd.
func (w *world) Since(_ context.Context, _ string, cursor Cursor) ([]gapless.Tally, Cursor, error) {
	w.die()
	if w.chance(w.faults.blind) {
		w.blind = true
		return nil, nil, errors.New("no edge answers")
	}
	var reports []gapless.EdgeReport
	whole := true
	for _, e := range w.edges {
		if e.dark.After(w.now) || w.chance(w.faults.late) {
			whole = false
			continue
		}
		if !w.chance(w.faults.stale) || e.seq == 0 {
			e.report(e.share())
		}
		reports = append(reports, e.told)
		if w.chance(w.faults.stale) { // an old one comes once more
			reports = append(reports, e.older)
		}
	}
	if cursor == nil && !whole {
		w.blind = true
		return nil, nil, errors.New("not every edge answers")
	}
	out, next := Fold(simApp, cursor, reports)
	w.tallies = out
	for _, t := range out {
		key := total + armKey(t)
		sum := next.at(key)
		next.set(key, place{sum.requests + t.Requests, sum.bad + t.Bad, sum.paces.Plus(t.Paces)})
	}
	if w.chance(w.faults.absurd) {
		r := w.runner.state.Rollout
		out = append(out, gapless.Tally{Release: r.To, Weight: 0.25, Requests: 1, Bad: 90},
			gapless.Tally{Release: r.To, Weight: math.NaN(), Requests: 9, Bad: 9}, gapless.Tally{Release: "v99", Weight: 0.25, Requests: 50, Bad: 50},
			gapless.Tally{Release: r.To, Weight: -1, Requests: 9, Bad: 9}, gapless.Tally{Weight: 0.25, Requests: 9, Bad: 9})
	}
	w.die()
	return out, next, nil
}

// Acknowledge implements Acknowledger.
func (w *world) Acknowledge(_ string, saved Cursor) {
	w.die()
	for _, e := range w.edges {
		switch {
		case e.dark.After(w.now):
		case saved == nil:
			e.acked = e.seq
		default:
			e.acked = max(e.acked, saved.Seq(e.start))
		}
	}
}

// hooks are the commands of plans: what is known of them dies with the engine.
type hooks struct {
	*world
	known map[string]*hookRun
}

type hookRun struct {
	due time.Time
	ok  bool
}

// Start implements Hooks.
func (h hooks) Start(_ context.Context, key string, rel *gapless.Release, command string) error {
	h.die()
	h.at(ActHook, beforeEffect)
	if h.chance(h.faults.refuse) {
		return errors.New("no environment")
	}
	if h.known[key] != nil {
		return nil
	}
	h.ran[key]++
	h.log("hook %s runs", key)
	if h.ran[key] > 1 && !strings.Contains(command, OnResumeRerun) {
		h.violate("hook %s (%s) of %s runs twice", key, command, rel.Name)
	}
	h.known[key] = &hookRun{due: h.now.Add(h.between(0, 2*time.Second)), ok: !strings.Contains(command, "fails")}
	h.did(ActHook)
	h.die()
	return nil
}

// State implements Hooks.
func (h hooks) State(key string) (HookState, bool) {
	run := h.known[key]
	if run == nil {
		return HookState{}, false
	}
	return HookState{Done: !run.due.After(h.now), OK: run.ok, Output: "as it is"}, true
}
