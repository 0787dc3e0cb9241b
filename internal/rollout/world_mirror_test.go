package rollout

import (
	"context"
	"errors"
	"maps"
	"slices"

	"gapless"
)

// copyTo lets an edge copy requests, and compare what comes of them. A sloppy
// release differs from stable in some answers; noise differs from everybody.
func (w *world) copyTo(e *edge) {
	if e.table == nil || e.table.Mirror == nil || e.fell {
		return
	}
	m := e.table.Mirror
	if e.copies.Rollout != m.Rollout {
		e.copies = gapless.MirrorTraffic{App: simApp, Rollout: m.Rollout, MirrorCounts: gapless.MirrorCounts{Release: m.Release}}
	}
	c := &e.copies.MirrorCounts
	for range w.rng.IntN(8) {
		c.Copied++
		if w.rng.IntN(10) == 0 {
			c.Dropped++
			continue
		}
		c.Answered, c.Compared = c.Answered+1, c.Compared+1
		candidate := w.rng.Float64() < w.badRate(m.Release)
		stable := w.rng.Float64() < w.badRate(e.table.Stable)
		if candidate {
			c.Different++
		}
		if w.rng.IntN(2) == 0 {
			c.Pairs++
			e.differ(candidate && !stable, stable && !candidate)
		}
	}
}

// differ counts a pair; the list is made anew, as one that was told is kept.
func (e *edge) differ(candidate, stable bool) {
	c := &e.copies.MirrorCounts
	c.Differences = slices.Clone(c.Differences)
	if len(c.Differences) == 0 {
		c.Differences = []gapless.MirrorDifference{{Path: "/price", Kind: "value"}}
	}
	d := &c.Differences[0]
	if candidate {
		d.Seen, d.Candidate = d.Seen+1, d.Candidate+1
	}
	if stable {
		c.Noisy, d.Stable = c.Noisy+1, d.Stable+1
	}
}

// Mirrored implements Mirrorer.
func (w *world) Mirrored(_ context.Context, _, rollout string) (map[string]gapless.MirrorCounts, error) {
	w.die()
	if w.chance(w.faults.blind) {
		w.blind = true
		return nil, errors.New("no edge answers")
	}
	if w.copiesOf != rollout {
		w.copiesOf, w.told = rollout, map[string]gapless.MirrorCounts{}
	}
	out := maps.Clone(w.told) // what edges said last that are gone is remembered
	for _, e := range w.edges {
		delete(out, e.start)
	}
	for _, e := range w.edges {
		if e.copies.Rollout != rollout || e.dark.After(w.now) || w.chance(w.faults.late) {
			continue
		}
		c := e.copies.MirrorCounts
		if old, ok := w.told[e.start]; ok && w.chance(w.faults.stale) {
			c = old
		}
		out[e.start] = c
	}
	maps.Copy(w.told, out)
	return out, nil
}

// forgetCopies leaves of what was told of copies what the disk has: the engine
// that was told the rest died, and edges that are gone do not say it again.
func (w *world) forgetCopies() {
	w.told = map[string]gapless.MirrorCounts{}
	if r := w.saved.Rollout; r != nil && r.ID == w.copiesOf {
		maps.Copy(w.told, w.saved.Mirrors)
	}
}

// compared checks that a mirror step is not left for the next one where the
// answers that were told are not alike, and that is not to be overlooked.
func (w *world) compared(was, is State) {
	r := is.Rollout
	step := r.Plan[was.Rollout.Cursor]
	if step.OnUndecided == gapless.OnUndecidedContinue || w.forgot == r.ID || w.copiesOf != r.ID {
		return
	}
	sum := gapless.MirrorCounts{Release: r.To}
	for _, c := range w.told {
		sum = sum.Plus(c)
	}
	if _, why := alike(&gapless.Rollout{From: r.From, To: r.To, Mirror: &sum}); why != "" {
		w.violate("it goes on from mirroring although %s", why)
	}
}

// copiesCounted checks that nothing is counted that was not told.
func (w *world) copiesCounted(s State) {
	if !s.Busy() || s.Rollout.Mirror == nil || w.copiesOf != s.Rollout.ID {
		return
	}
	told := uint64(0)
	for _, c := range w.told {
		told += c.Copied
	}
	if n := s.Rollout.Mirror.Copied; n > told {
		w.violate("%d: more copies than the %d that were told", n, told)
	}
}

// mayMirror checks the mirroring of a table before it is applied.
func (w *world) mayMirror(s State, r *gapless.Route, ready bool) {
	m := r.Mirror
	if m == nil {
		return
	}
	step := current(s)
	switch {
	case !s.Busy() || s.Back || m.Release != s.Rollout.To || m.Rollout != s.Rollout.ID || step.Kind != gapless.StepMirror:
		w.violate("requests are copied to %s at the wrong time", m.Release)
	case !ready:
		w.violate("requests are copied to %s without a ready instance", m.Release)
	case m.Share != step.Weight || m.Validate() != nil:
		w.violate("%v of the requests are copied: %v", m.Share, m.Validate())
	case r.Share(m.Release) > 0 && !slices.ContainsFunc(s.Rollout.Plan[:s.Rollout.Cursor], func(x gapless.Step) bool { return x.Kind == gapless.StepWeight || x.Kind == gapless.StepRamp }):
		w.violate("%s is given %v because requests are copied to it", m.Release, r.Share(m.Release))
	}
}
