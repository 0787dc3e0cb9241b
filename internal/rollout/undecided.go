package rollout

import (
	"fmt"
	"math"
	"strings"
	"time"

	"gapless"
)

// UntilDecided lets every judged step of a fresh rollout wait for a decision
// for up to d, whatever its plan says; where none came, a person is asked.
func UntilDecided(s State, d gapless.Duration) State {
	s = s.Clone()
	for i := range s.Rollout.Plan {
		if step := &s.Rollout.Plan[i]; step.Kind == gapless.StepJudge || step.Kind == gapless.StepRamp {
			step.For, step.OnUndecided = d, gapless.OnUndecidedPause
		}
	}
	return s
}

// meet counts the requests of both releases that were judged in this step, so
// that it is known how fast they come.
func (d *decision) meet(batch []gapless.Tally) {
	if kind := current(d.s).Kind; kind != gapless.StepJudge && kind != gapless.StepRamp {
		return
	}
	for _, t := range batch {
		d.s.Met += t.Requests
	}
}

// missing is what a proof needs still, and how long that takes at the rate at
// which requests came in this step, with the share that the candidate has now.
func (d *decision) missing(v gapless.Verdict) (m gapless.Missing) {
	if v.Kind != gapless.Undecided || v.Needed.Requests == 0 {
		return m
	}
	m.Requests = v.Needed.Requests
	rate := float64(d.s.Met) / d.s.Watched.Std().Seconds() * d.share() // per second, of the candidate
	if d.s.Met == 0 || d.s.Watched <= 0 || rate <= 0 {
		return m
	}
	if seconds := float64(m.Requests) / rate; seconds < mostMissing.Seconds() {
		unit := time.Second
		if seconds > time.Hour.Seconds() { // an estimate of hours has no seconds
			unit = time.Minute
		}
		m.For = gapless.Duration(math.Ceil(seconds/unit.Seconds())) * gapless.Duration(unit)
	}
	return m
}

// mostMissing is what nobody waits for.
const mostMissing = 30 * 24 * time.Hour

// missingText says what a person who is asked may want to know: how much
// longer it would take, and what is known already.
func (d *decision) missingText() (text string) {
	r := d.s.Rollout
	if m := r.Missing; m.Requests > 0 {
		text = fmt.Sprintf("; about %d more requests of it would prove it not worse", m.Requests)
		if m.For > 0 {
			text += fmt.Sprintf(", %s at the present rate", m.For)
		}
	}
	if open := openProofs(r.Verdict); len(open) > 0 {
		text += "; not proven yet: " + strings.Join(open, ", ")
	}
	if v := r.Verdict; v != nil && v.Bound > 0 && v.Bound < 1 {
		text += fmt.Sprintf("; at most %.3g points more of its answers are bad", 100*v.Bound)
	}
	return text
}

// openProofs are the tests that nothing is proven in.
func openProofs(v *gapless.Verdict) (open []string) {
	if v == nil || v.NoData || v.Kind != gapless.Undecided {
		return nil
	}
	for _, p := range v.Proofs {
		if !p.Proven {
			open = append(open, string(p.Test))
		}
	}
	return open
}

// alarm stops the plan where both releases are in trouble: that is no fault of
// the candidate, and no time to go on. It does so once in a rollout.
func (d *decision) alarm(v gapless.Verdict) {
	if v.Alert == "" || v.Kind == gapless.Worse || d.s.Alarmed {
		return
	}
	d.s.Alarmed = true
	d.note("error", "judge.alert", "", "%s", v.Alert)
	switch {
	case !d.s.Paused:
		d.wait("%s%s", byOther, v.Alert)
	case d.s.asked():
		d.s = stay(d.s, byOther+v.Alert)
	}
}

// Judged is the candidate while a judged step of it is under way that nobody
// paused, and it has a share of the traffic; else "".
func (s State) Judged() string {
	kind := current(s).Kind
	if !s.judges() || s.Paused || kind != gapless.StepJudge && kind != gapless.StepRamp || s.Rollout.Weight <= 0 {
		return ""
	}
	return s.Rollout.To
}
