package rollout

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"gapless"
)

// arm is one counter of an edge: what the coin gave to a release at a weight.
type arm struct {
	release string
	weight  float64
}

// toss lets requests come in at an edge, each given to a release by an
// independent coin.
func (w *world) toss(e *edge) {
	if e.table == nil || len(e.table.Weights) != 2 {
		w.tossAlone(e)
		return
	}
	weights, other := e.weights(), e.table.Weights[1].Release
	share := 0.0
	for _, x := range weights {
		if x.Release == other {
			share = x.Share
		}
	}
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
		bad := uint64(0)
		if w.rng.Float64() < w.badRate(answers) {
			bad = 1
		}
		c, sum := e.counts[arm{chosen, share}], e.totals[chosen]
		e.counts[arm{chosen, share}] = [2]uint64{c[0] + 1, c[1] + bad}
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

// weights is what an edge tosses by: its table's, or the fallback when its
// lease ran out.
func (e *edge) weights() []gapless.Weight {
	if e.fell {
		return e.table.Fallback
	}
	return e.table.Weights
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
	next := make(Cursor, len(cursor)+4)
	for k, v := range cursor {
		next[k] = v
	}
	var out []gapless.Tally
	for _, e := range w.edges {
		if e.dark.After(w.now) || w.chance(w.faults.late) {
			continue
		}
		if !w.chance(w.faults.stale) || e.told == nil {
			e.told = make(map[arm][2]uint64, len(e.counts))
			for k, v := range e.counts {
				e.told[k] = v
			}
		}
		for _, k := range e.keys() {
			v := e.told[k]
			key := fmt.Sprintf("%d/%s/%v", e.gen, k.release, k.weight)
			seen := next[key]
			if v[0] < seen[0] || v[1] < seen[1] {
				continue // an old report: counters never fall
			}
			next[key] = v
			if cursor == nil || v[0] == seen[0] {
				continue
			}
			out = append(out, gapless.Tally{Release: k.release, Weight: k.weight, Requests: v[0] - seen[0], Bad: v[1] - seen[1]})
			sum := next[total+k.release+"/"+strconv.FormatFloat(k.weight, 'g', -1, 64)]
			next[total+k.release+"/"+strconv.FormatFloat(k.weight, 'g', -1, 64)] = [2]uint64{sum[0] + v[0] - seen[0], sum[1] + v[1] - seen[1]}
		}
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

// keys are the counters of an edge in an order that a seed repeats.
func (e *edge) keys() []arm {
	for k := range e.told {
		at := 0
		for at < len(e.sorted) && (e.sorted[at].release < k.release || e.sorted[at].release == k.release && e.sorted[at].weight < k.weight) {
			at++
		}
		if at == len(e.sorted) || e.sorted[at] != k {
			e.sorted = append(e.sorted[:at:at], append([]arm{k}, e.sorted[at:]...)...)
		}
	}
	return e.sorted
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
