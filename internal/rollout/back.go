package rollout

import (
	"fmt"
	"time"

	"gapless"
)

// StuckLimit is how long a rollback waits for stable to become ready before
// the candidate's ready instances are left to serve.
const StuckLimit = 2 * time.Minute

// watch looks for hard evidence against the candidate.
func (d *decision) watch() {
	if d.s.Back || d.s.promoted() {
		return
	}
	if served := d.obs.Served; served.FellBack && served.Route != nil && served.Route.Lease > 0 {
		d.failed("nobody judged for "+LeaseTime.String()+", the edge went back to stable by itself", "")
		return
	}
	for _, m := range d.s.of(Candidate, "") {
		if m.Warm {
			continue // see rewarm
		}
		in := d.seen(m)
		switch {
		case in.State == gapless.Crashed, in.State == gapless.Failed, in.State == gapless.Stopped, in.Restarts > 0:
			d.fail(in, why(in))
		case in.OverMem:
			d.fail(in, fmt.Sprintf("uses %d MB, more than its memory limit", in.Memory>>20))
		case m.WasUp && d.obs.Served.Unhealthy[m.ID]:
			d.fail(in, "stopped answering its probe")
		default:
			continue
		}
		return
	}
	if d.deaf() {
		d.failed(d.s.Rollout.To+" refuses connections at every instance", "does it close its listener, or listen on another address than at its start?")
		return
	}
	if d.severed() {
		d.failed("requests get through to no instance of "+d.s.Rollout.To, "connections are reset, or not answered in time: see its log")
	}
}

// deaf reports whether every ready web instance of the candidate refuses
// connections, so that nothing that it is given arrives.
func (d *decision) deaf() bool { return d.all(Candidate, d.obs.Served.Refusing) }

// severed reports whether requests get through to no ready web instance of the
// candidate, so that the edge leaves all of them alone, and to stable they do.
// What clients can bring about with both of them says nothing about one: that
// is left to the judge.
func (d *decision) severed() bool {
	if !d.all(Candidate, d.obs.Served.Failing) {
		return false
	}
	through := false
	for _, m := range d.s.of(Stable, gapless.WebProcess) {
		if d.obs.Served.Failing[m.ID] {
			return false
		}
		through = through || d.ready(m)
	}
	return through
}

// all reports whether there are ready web instances of a role, and something
// is true of each. Those that were kept warm have served before.
func (d *decision) all(role Role, is map[string]bool) bool {
	n := 0
	for _, m := range d.s.of(role, gapless.WebProcess) {
		if m.Warm || d.seen(m).State != gapless.Ready {
			continue
		}
		if n++; !is[m.ID] {
			return false
		}
	}
	return n > 0
}

// rewarm starts another instance where one of the kept set died or is sick.
// That says nothing about a release that has served before, and must not take
// a rollback back. One that is not visible now is not gone, or started again; one
// that uses too much memory carries what returns now, and is replaced later.
func (d *decision) rewarm() {
	for i := range d.s.Members {
		m := &d.s.Members[i]
		in, known := d.obs.Instances[m.ID]
		if !m.Warm || m.Role != Candidate || !known || in.State == gapless.Ready && !d.obs.Served.Unhealthy[m.ID] {
			continue
		}
		d.noteOf(in, "warn", "instance.replaced", "%s %s, it is replaced", in.Label(), why(in))
		process, release := m.Process, m.Release
		d.dismiss(m)
		d.add(release, process, Candidate) // may move the members
	}
}

// fail begins the way back.
func (d *decision) fail(in gapless.Instance, reason string) {
	r := d.s.Rollout
	r.Reason, r.Hint, r.Instance = in.Label()+" "+reason, in.Hint, in.Label()
	d.note("error", "rollout.back", in.Label(), "%s", r.Reason)
	d.turnBack()
}

// failed begins the way back for a reason that no single instance gave.
func (d *decision) failed(reason, hint string) {
	r := d.s.Rollout
	r.Reason, r.Hint = reason, hint
	d.note("error", "rollout.back", "", "%s", reason)
	d.turnBack()
}

// Abort ends a running rollout for the reason given, and converges to what is
// stable. Before promote that is the old release: the candidate is taken back.
// After it the candidate is stable and the old release on its way out: what is
// left of the plan, pauses and hooks, is left out. Going back then is a rollout
// of its own, see BeginRollback, and takes one change of the route while the
// old set is kept warm.
func Abort(s State, reason string, now time.Time) State {
	d := &decision{s: s.Clone(), now: now}
	r := d.s.Rollout
	switch {
	case !d.s.Busy(), d.s.Back:
	case d.s.promoted():
		r.Reason, r.Waiting, r.Cursor = reason, "", len(r.Plan)
		d.s.Paused, d.s.Skip, d.s.Entered, d.s.Hook = false, false, false, ""
	default:
		r.Reason = reason
		d.turnBack()
	}
	return d.s
}

func (d *decision) turnBack() {
	d.s.Back, d.s.Since, d.s.Drained = true, d.now, nil
	d.s.Paused, d.s.Skip, d.s.Rollout.Waiting, d.s.Preview = false, false, "", false
	for _, m := range d.s.of(Leaving, "") { // those not yet told to stop serve on
		if !m.Stop && m.Release == d.s.Stable {
			m.Role, m.Since = Stable, d.now
		}
	}
}

// explain adds what is learned too late to be the reason: an instance that
// died before we turned back was what gave the bad answers. Its end is told
// after its last words, so the answers that it did not give come first.
func (d *decision) explain() {
	r := d.s.Rollout
	if r.Instance != "" || r.Verdict == nil || r.Verdict.Kind != gapless.Worse {
		return
	}
	for _, m := range d.s.Members {
		in := d.seen(&m)
		if m.Release != r.To || in.Exit == nil || in.Exit.At.IsZero() || in.Exit.At.After(d.s.Since) {
			continue
		}
		r.Instance = in.Label()
		r.Reason += "; " + in.Label() + " " + why(in)
		d.noteOf(in, "error", "instance.crashed", "%s %s", in.Label(), why(in))
		return
	}
}

// back moves the weight to stable, then stops the candidate.
func (d *decision) back() {
	r := d.s.Rollout
	d.explain()
	if d.s.Stable != "" && d.late() && !d.restored() && d.countReady(Candidate, gapless.WebProcess) > 0 {
		r.Reason += fmt.Sprintf("; %s cannot become ready either, %s serves on", r.From, r.To)
		d.promote()
		d.finish(gapless.NothingStarted)
		return
	}
	for _, m := range d.s.of(Candidate, "") {
		switch {
		case !m.WasUp, m.Process != gapless.WebProcess, d.s.Stable == "":
		case !d.ready(m):
		case d.restored():
		default:
			continue
		}
		d.dismiss(m)
	}
	if len(d.s.of(Candidate, "")) == 0 && len(d.s.of(Leaving, "")) == 0 && !d.coming() && d.returned() {
		switch {
		case d.s.Stable == "" || !r.Launched:
			d.finish(gapless.NothingStarted)
		default:
			d.finish(gapless.TakenBack)
		}
	}
}

// returned reports whether every edge gives the candidate nothing any more, as
// far as anybody can know that in time.
func (d *decision) returned() bool {
	served, to := d.obs.Served, d.s.Rollout.To
	return d.s.Stable == "" || to == d.s.Stable || d.late() || served.Known && (served.Route == nil || served.Route.Share(to) == 0)
}

// late reports whether the way back has taken so long that less will do.
func (d *decision) late() bool { return d.now.Sub(d.s.Since) > StuckLimit }

// restored reports whether stable can carry the traffic alone: all of it, or
// when it is late, what there is.
func (d *decision) restored() bool {
	have := d.countReady(Stable, gapless.WebProcess)
	return have >= d.s.Counts[gapless.WebProcess] || d.late() && have > 0
}

// coming reports whether it is worth to wait for more of stable. One that
// crashed or failed is not waited for, it may never have worked.
func (d *decision) coming() bool {
	if d.s.Stable == "" || d.restored() || d.late() {
		return false
	}
	web := d.s.of(Stable, gapless.WebProcess)
	for _, m := range web {
		in, known := d.obs.Instances[m.ID]
		if !known || in.State == gapless.Starting && in.Restarts == 0 {
			return true
		}
	}
	return len(web) < d.s.Counts[gapless.WebProcess]
}
