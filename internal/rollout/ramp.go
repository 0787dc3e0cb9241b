package rollout

import (
	"fmt"
	"math"
	"slices"
	"time"

	"gapless"
)

// canaryRamp is how long a ramp lasts at most: so long that some ten requests
// per second are enough to prove a release that is as good as stable. Longer
// does little harm, as the share rises only with what is proven.
const canaryRamp = gapless.Duration(30 * time.Minute)

// rungs are the shares that a ramp gives. A share is a new table for the edges
// and a row of evidence, so there are few. The last one leaves stable half of
// the requests to compare with; after it comes the proof, and then all.
var rungs = []float64{0.01, 0.02, 0.05, 0.1, 0.25, 0.5}

// rung is the greatest share of a ramp that is at most share; below the first
// it is share itself.
func rung(share float64) float64 {
	for _, r := range slices.Backward(rungs) {
		if share >= r-1e-9 {
			return r
		}
	}
	return share
}

// canary raises the candidate's share as what is proven of it allows, and
// gives it all once it is proven not worse.
func canary(app *gapless.App, counts map[string]int) []gapless.Step {
	plan := append(startWeb(enough(rungs[0], counts[gapless.WebProcess])), workers(app, counts)...)
	plan = append(plan, gapless.Step{Kind: gapless.StepRamp, For: or(app.Judge.Within, canaryRamp), OnUndecided: or(app.Judge.OnUndecided, gapless.OnUndecidedPause)},
		gapless.Step{Kind: gapless.StepScale, Process: gapless.WebProcess, N: counts[gapless.WebProcess]}, gapless.Step{Kind: gapless.StepWarm},
		gapless.Step{Kind: gapless.StepWeight, Weight: 1})
	plan = append(plan, swaps(app, counts)...)
	return append(plan, baked(app, app.Keep, canaryBake)...)
}

// ramped reports whether a ramp is over, as a judged step is; until then the
// share goes where it may.
func (d *decision) ramped(step gapless.Step) bool {
	if d.judged(step) {
		return true
	}
	switch {
	case d.s.Back:
	case !d.s.Paused:
		d.climb()
	case d.s.asked():
		d.descend()
	}
	return false
}

// allowed is the share that the judge allows the candidate now. Where it does
// not say, nobody knows more than that little does little harm.
func (d *decision) allowed() float64 {
	v := d.s.Rollout.Verdict
	if v == nil && d.s.Judge != nil {
		first := d.s.Judge.Verdict(0)
		v = &first
	}
	if v == nil || !(v.Share > 0) {
		return rungs[0]
	}
	return v.Share
}

// descend gives the candidate less where it has more than is allowed.
func (d *decision) descend() bool {
	want := rung(d.allowed())
	if want >= d.s.Weight-1e-9 {
		return false
	}
	d.note("warn", "weight", "", "%s goes down from %s to %s: %s", d.s.Rollout.To, gapless.Percent(d.s.Weight), gapless.Percent(want), d.boundText())
	d.s.Weight = want
	return true
}

// climb moves the share to what is allowed and carried. Down it goes at once;
// up only when every edge serves what it is to have now, with stable beside it,
// and once there are ready instances for more.
func (d *decision) climb() {
	r := d.s.Rollout
	if d.descend() {
		return
	}
	want := rung(d.allowed())
	if more := enough(want, d.counts()[gapless.WebProcess]) - len(d.s.of(Candidate, gapless.WebProcess)); more > 0 {
		d.note("", "start", "", "starting %d × %s %s to carry %s", more, r.To, gapless.WebProcess, gapless.Percent(want))
		for range more {
			d.add(r.To, gapless.WebProcess, Candidate)
		}
	}
	if next := rung(min(want, d.carries(Candidate))); next > d.s.Weight+1e-9 && !d.metricFails() && d.share() == d.s.Weight && d.servedShare() {
		d.note("", "weight", "", "%s goes up from %s to %s: %s", r.To, gapless.Percent(d.s.Weight), gapless.Percent(next), d.boundText())
		d.s.Weight = next
	}
}

// boundText is what the judge's bound says, for people.
func (d *decision) boundText() string {
	v := d.s.Rollout.Verdict
	if v == nil || v.Bound == 0 {
		return "as what was seen of it allows"
	}
	return fmt.Sprintf("at most %.3g points more of its answers are bad", 100*v.Bound)
}

// servedShare reports whether every edge serves the candidate's present share.
func (d *decision) servedShare() bool {
	served, share := d.obs.Served.Route, d.share()
	if d.s.Rollout.To == d.s.Stable {
		share = 1
	}
	return d.obs.Served.Known && served != nil && len(served.Targets) > 0 && math.Abs(served.Share(d.s.Rollout.To)-share) <= 1e-9
}
