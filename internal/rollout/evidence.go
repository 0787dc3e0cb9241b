package rollout

import (
	"fmt"
	"math"
	"slices"
	"time"

	"gapless"
)

// LeaseTime is how long an edge serves a judged share without hearing that
// somebody still judges.
const LeaseTime = 30 * time.Second

// How often what was counted is written to the journal while it decides
// nothing. It is judged at every look, and what decides is taken in at once.
const (
	foldEvery = time.Second
	foldBad   = foldEvery / 4 // where bad answers are in it, for people who look on
)

// weigh takes in the evidence and turns back when it proves the candidate worse.
func (d *decision) weigh() {
	r := d.s.Rollout
	if d.s.Judge == nil || d.s.promoted() {
		return
	}
	if d.s.Cursor == nil {
		d.s.Cursor = d.obs.Cursor // what was counted before is no evidence
		return
	}
	if d.obs.Cursor == nil || !d.news() {
		return
	}
	j := d.s.Judge.Observe(credible(d.obs.Tallies))
	v := j.Verdict(d.share())
	if !d.worthFolding() && !decides(r, v) {
		return // it stays in the evidence, and comes again with more
	}
	d.s.Judge, d.s.Cursor, d.s.Folded = j, d.obs.Cursor, d.now
	d.meet(credible(d.obs.Tallies))
	r.Verdict, r.Missing = &v, d.missing(v)
	d.chart(v)
	d.alarm(v)
	if v.Kind == gapless.Worse {
		d.failed("rolled back after "+v.Reason, "")
	}
}

// credible leaves out what cannot have been counted.
func credible(all []gapless.Tally) []gapless.Tally {
	bad := func(t gapless.Tally) bool { return t.Validate() != nil }
	if !slices.ContainsFunc(all, bad) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), bad)
}

// news reports whether anything was counted since the cursor.
func (d *decision) news() bool {
	return slices.ContainsFunc(d.obs.Tallies, func(t gapless.Tally) bool {
		return t.Requests > 0 || t.Bad > 0 || t.Paces != gapless.Paces{}
	})
}

// decides reports whether a verdict says otherwise than the one before, so
// that the plan goes on or back by it.
func decides(r *gapless.Rollout, v gapless.Verdict) bool {
	return v.Kind != gapless.Undecided && (r.Verdict == nil || r.Verdict.Kind != v.Kind)
}

// worthFolding reports whether it is time to write down what was counted,
// although it decides nothing yet.
func (d *decision) worthFolding() bool {
	since := d.now.Sub(d.s.Folded)
	bad := slices.ContainsFunc(d.obs.Tallies, func(t gapless.Tally) bool { return t.Bad > 0 })
	return since < 0 || since >= foldEvery || bad && since >= foldBad || d.s.Learned.Equal(d.now)
}

// judged reports whether a judged step is over: the candidate is proven not
// worse, or the time is up. Then the step's rule for "undecided" decides.
func (d *decision) judged(step gapless.Step) bool {
	r := d.s.Rollout
	if r.Verdict != nil && r.Verdict.Kind == gapless.NotWorse && d.metricsAgree() {
		d.note("", "verdict", "", "%s", r.Verdict.Reason)
		return true
	}
	watched := d.watched()
	over := watched >= step.For.Std()
	if n := d.unanswered(); n >= silentLimit && (over || watched >= silentAfter && d.strange(n)) {
		d.failed(fmt.Sprintf("%s was given %d requests and answered none of them", r.To, n),
			"look for what it waits for; a health path would have kept it from getting any: health: { path: /healthz }")
		return false
	}
	if !over {
		return false
	}
	reason := "there is no evidence against it"
	if r.Verdict == nil || r.Verdict.NoData {
		reason = "without evidence: no request came to it that can be judged"
	}
	on := step.OnUndecided
	if doubt := d.metricsDoubt(); doubt != "" {
		reason, on = doubt, d.onDoubt(on)
	}
	switch on {
	case gapless.OnUndecidedRollback:
		d.failed(r.To+" is undecided after "+step.For.String()+": "+reason, "")
		return false
	case gapless.OnUndecidedPause:
		d.wait("%s is undecided after %s: %s%s", r.To, step.For, reason, d.missingText())
		return false
	}
	d.note("", "verdict", "", "%s goes on: %s", r.To, reason)
	return true
}

// silentLimit is how many requests without a single answer are too many.
// Fewer could by chance all be of those that take their time. That is looked
// at when the step is over, and before once it was watched for silentAfter.
const (
	silentLimit = 10
	silentAfter = 3 * time.Second
)

// silentChance is how probable it may be that a release is silent only because
// of the requests that it was given, for it to be called silent early.
const silentChance = 0.01

// strange reports whether n requests without an answer are too many for a
// release like stable, which shows meanwhile what share of requests take their
// time. Without stable beside it nobody knows.
func (d *decision) strange(n uint64) bool {
	_, stable := d.answered()
	open := 0
	for _, m := range d.s.of(Stable, gapless.WebProcess) {
		open += d.obs.Served.InFlight[m.ID]
	}
	return d.share() < 1 && stable >= n &&
		math.Pow(float64(open)/(float64(open)+float64(stable)), float64(n)) < silentChance
}

// unanswered is how many requests the candidate was given if it answered none
// of them, while stable answered as many; else 0. Where both take their time,
// as with long polls, that says nothing, and neither does what was not counted.
func (d *decision) unanswered() (n uint64) {
	if d.obs.Cursor == nil || d.s.Preview || d.uncounted() { // those who look at a preview give it requests whose answers are not counted
		return 0
	}
	for _, m := range d.s.of(Candidate, gapless.WebProcess) {
		n += d.obs.Served.Given[m.ID]
	}
	if candidate, stable := d.answered(); candidate > 0 || d.share() < 1 && stable < n {
		return 0
	}
	return n
}

// answered is how many requests that can be judged both were seen to answer.
func (d *decision) answered() (candidate, stable uint64) {
	r := d.s.Rollout
	if r.Verdict != nil {
		candidate, stable = r.Verdict.Evidence.Candidate.Requests, r.Verdict.Evidence.Stable.Requests
	}
	for _, t := range d.obs.Tallies { // what the verdict does not know yet
		if t.Release == r.To {
			candidate += t.Requests
		} else {
			stable += t.Requests
		}
	}
	return candidate, stable
}

// A judged step lasts as long as somebody watched: not while the daemon was
// away, the plan paused, the clock was set or no evidence could be read.
const (
	lookEvery = time.Second     // how often the time is written down
	lookAway  = 5 * time.Second // a longer gap between two looks was not watched
)

// watched is how long the judged step was watched so far.
func (d *decision) watched() time.Duration {
	gap := d.now.Sub(d.s.Looked)
	switch {
	case d.obs.Blind:
		d.s.Looked = time.Time{} // written down once, however long it lasts
		return d.s.Watched.Std()
	case gap < 0, gap > lookAway:
		d.s.Looked = d.now
		return d.s.Watched.Std()
	case gap < lookEvery:
		return d.s.Watched.Std() + gap
	}
	d.s.Watched, d.s.Looked = d.s.Watched+gapless.Duration(gap), d.now
	return d.s.Watched.Std()
}

// wait stops the plan until a person decides.
func (d *decision) wait(format string, args ...any) {
	d.s.Paused = true
	d.note("warn", "rollout.waiting", "", format, args...)
	d.s.Rollout.Waiting = d.acts[len(d.acts)-1].Event.Message
}
