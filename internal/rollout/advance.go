package rollout

import (
	"fmt"
	"time"

	"gapless"
)

// advance walks the plan as far as it goes now.
func (d *decision) advance() {
	r := d.s.Rollout
	for r.Cursor < len(r.Plan) && !d.s.Paused && !d.s.Back {
		step := r.Plan[r.Cursor]
		if !d.s.Entered {
			if !d.open(step) {
				return
			}
			d.s.Entered, d.s.Since = true, d.now
			d.enter(step)
		}
		if !d.s.Skip && !d.done(step) {
			return
		}
		r.Cursor++
		d.s.Entered, d.s.Skip = false, false
	}
	if r.Cursor == len(r.Plan) {
		d.finish(gapless.Promoted)
	}
}

// open reports whether a step may be entered now.
func (d *decision) open(step gapless.Step) bool {
	switch step.Kind {
	case gapless.StepWeight, gapless.StepRamp:
		// A table that the edges fell back from must not be replaced unseen,
		// and what is counted from here on must be told from what was before.
		return d.obs.Served.Known && (d.s.Judge == nil || d.s.Cursor != nil || !d.obs.Blind)
	case gapless.StepDrain: // what was ready when its weight was served may be gone since
		return d.warm(step.Process)
	case gapless.StepPromote:
		return d.warm("")
	}
	return true
}

// enter does what a step does once.
func (d *decision) enter(step gapless.Step) {
	r := d.s.Rollout
	switch step.Kind {
	case gapless.StepStart:
		d.note("", "start", "", "starting %d × %s %s", step.N, r.To, step.Process)
		for range step.N {
			d.add(r.To, step.Process, Candidate)
		}
	case gapless.StepScale:
		if more := step.N - len(d.s.of(Candidate, step.Process)); more > 0 {
			d.note("", "start", "", "starting %d × %s %s", more, r.To, step.Process)
			for range more {
				d.add(r.To, step.Process, Candidate)
			}
		}
	case gapless.StepPreview:
		d.s.Preview = d.previewed()
	case gapless.StepWeight:
		d.s.Weight, d.s.Auto = step.Weight, step.Weight == 0
	case gapless.StepJudge:
		d.s.Watched, d.s.Looked, d.s.Met = 0, d.now, 0
		d.note("", "judge", "", "watching %s at %s for at most %s", r.To, gapless.Percent(d.share()), step.For)
	case gapless.StepRamp:
		d.s.Watched, d.s.Looked, d.s.Met = 0, d.now, 0
		d.s.Weight, d.s.Auto = rung(min(d.allowed(), d.carries(Candidate))), false
		d.note("", "ramp", "", "%s begins with %s, and gets more as it is proven, for at most %s", r.To, gapless.Percent(d.s.Weight), step.For)
	case gapless.StepMirror:
		d.s.Watched, d.s.Looked = 0, d.now
		d.note("", "mirror", "", "copying %s of the safe requests to %s for %s", gapless.Percent(step.Weight), r.To, step.For)
	case gapless.StepPause:
		if step.For == 0 {
			d.wait("the plan pauses here, at %s", gapless.Percent(d.share()))
		} else {
			d.note("", "pause", "", "pausing for %s", step.For)
		}
	case gapless.StepKeep:
		d.s.Keep = step.For
	case gapless.StepBake:
		d.s.Baking = step.For
	case gapless.StepDrain:
		d.giveUp(step.Process, step.N)
		d.note("", "drain", "", "draining %d × %s %s", step.N, r.From, step.Process)
	case gapless.StepSwap:
		d.giveUp(step.Process, d.s.Counts[step.Process])
	case gapless.StepPromote:
		d.promote()
	}
}

// done reports whether a step that was entered is complete.
func (d *decision) done(step gapless.Step) bool {
	switch step.Kind {
	case gapless.StepStart:
		return true
	case gapless.StepWarm:
		return d.warm("")
	case gapless.StepWeight:
		if !d.warm("") || !d.servedShare() {
			return false
		}
		d.note("", "weight", "", "%s serves %s", d.s.Rollout.To, gapless.Percent(d.obs.Served.Route.Share(d.s.Rollout.To)))
		return true
	case gapless.StepPreview:
		return !d.s.Preview || d.obs.Served.Known && d.obs.Served.Route != nil && shows(d.obs.Served.Route)
	case gapless.StepJudge:
		return d.judged(step)
	case gapless.StepRamp:
		return d.ramped(step)
	case gapless.StepMirror:
		return d.shadowed(step)
	case gapless.StepPause:
		return step.For > 0 && d.now.Sub(d.s.Since) >= step.For.Std()
	case gapless.StepHook:
		return d.hooked(step)
	case gapless.StepDrain:
		for _, m := range d.s.of(Leaving, step.Process) {
			if !m.Stop {
				return false
			}
		}
		return true
	case gapless.StepSwap:
		if len(d.s.of(Leaving, step.Process)) > 0 || len(d.s.of(Stable, step.Process)) > 0 {
			return false
		}
		if len(d.s.of(Candidate, step.Process)) == 0 {
			for range d.counts()[step.Process] {
				d.add(d.s.Rollout.To, step.Process, Candidate)
			}
		}
		return d.warm(step.Process)
	case gapless.StepPromote:
		return len(d.s.of(Leaving, "")) == 0
	}
	return true
}

func (d *decision) warm(process string) bool {
	for _, m := range d.s.of(Candidate, process) {
		if !m.WasUp || d.seen(m).State != gapless.Ready {
			return false
		}
	}
	return true
}

// previewed reports whether the candidate says how people reach it, and is another one than stable.
func (d *decision) previewed() bool {
	to := d.obs.Releases[d.s.Rollout.To]
	return to != nil && (to.Spec.Preview != nil || len(to.Spec.Match) > 0) && to.Name != d.s.Stable
}

// add makes a new member.
func (d *decision) add(release, process string, role Role) *Member {
	slot := d.s.freeSlot(release, process)
	id := ""
	for id == "" || d.s.member(id) != nil { // an adopted one may have the number
		d.s.Seq++
		id = fmt.Sprintf("%s.%s.%s.%d.%d", d.s.App, release, process, slot, d.s.Seq)
	}
	d.s.Members = append(d.s.Members, Member{
		ID: id, Release: release, Process: process, Slot: slot, Role: role, Since: d.now,
	})
	return &d.s.Members[len(d.s.Members)-1]
}

// giveUp makes n stable members of a process leave: those that are not ready
// first, then the highest slots.
func (d *decision) giveUp(process string, n int) {
	if d.s.Drained == nil {
		d.s.Drained = map[string]int{}
	}
	d.s.Drained[process] += n
	for range n {
		if m := d.weakest(process); m != nil {
			d.dismiss(m)
		}
	}
}

// dismiss makes a member leave.
func (d *decision) dismiss(m *Member) {
	m.Role, m.Since, m.Out = Leaving, d.now, time.Time{}
	if in := d.seen(m); m.Process == gapless.WebProcess && m.WasUp {
		d.noteOf(in, "", "instance.draining", "%s drains", in.Label())
	}
}

// promote makes the candidate stable.
func (d *decision) promote() {
	r := d.s.Rollout
	counts := d.counts()
	keep := max(d.s.Keep, d.s.Baking).Std()
	if r.Kind == "up" || r.Kind == "deploy" || r.Kind == "rollback" {
		for _, m := range d.s.of(Stable, "") {
			if m.Process == gapless.WebProcess && keep > 0 && d.ready(m) {
				m.Role, m.Since, m.Until, m.Ousts = Kept, d.now, d.now.Add(keep), ""
				continue
			}
			d.dismiss(m)
		}
	}
	for _, m := range d.s.of(Candidate, "") {
		m.Role, m.Since, m.Warm = Stable, d.now, false
	}
	d.newBake()
	if r.From != r.To {
		d.s.Before = r.From
	}
	d.s.Stable, d.s.Counts = r.To, counts
	d.s.Weight, d.s.Auto, d.s.Drained, d.s.Next = 0, false, nil, nil
}

// counts is how many instances per process the candidate is to have.
func (d *decision) counts() map[string]int {
	if d.s.Next != nil {
		return d.s.Next
	}
	return d.s.Counts
}

// share is the candidate's share of traffic as it should be now.
func (d *decision) share() float64 {
	ready := func(role Role) float64 { return float64(d.countReady(role, gapless.WebProcess)) }
	candidate, stable := ready(Candidate), ready(Stable)
	byReady := 0.0
	if candidate > 0 {
		byReady = candidate / (candidate + stable)
	}
	switch {
	case !d.s.Busy() || len(d.s.of(Candidate, "")) == 0:
		return 0
	case d.s.Stable == "":
		return 1
	case d.s.Weight == 0 && !d.s.Auto, d.s.Back && d.restored(), candidate == 0:
		return 0
	case stable == 0: // better than nobody
		return 1
	case d.s.Auto:
		return byReady
	case d.s.Back:
		return min(d.s.Weight, byReady)
	}
	return min(d.s.Weight, d.carries(Candidate))
}

// carries is the share of all traffic that the ready instances of a role can
// carry: as many as the smaller of both sets has carry all of it.
func (d *decision) carries(role Role) float64 {
	need := d.s.Counts[gapless.WebProcess]
	if n := d.counts()[gapless.WebProcess]; n > 0 && n < need || need == 0 {
		need = n
	}
	return min(1, float64(d.countReady(role, gapless.WebProcess))/float64(max(1, need)))
}
