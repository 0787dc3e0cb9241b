package rollout

import (
	"strings"

	"gapless"
)

// retreat is what is left of advance while the journal cannot be written: the
// way back, and less for the candidate.
func (d *decision) retreat() {
	if d.s.Entered && !d.s.Skip && !d.s.promoted() && (!d.s.Paused || d.s.asked()) {
		d.attempt()
	}
}

// answer ends the wait for a person who was asked because a judged step was
// undecided, once it is undecided no longer: the proof came, or every metric
// agrees with a plan that goes on without one. Evidence against the candidate
// is heeded as before.
func (d *decision) answer() {
	if !d.s.asked() || !d.attempt() {
		return
	}
	d.s.Paused, d.s.Rollout.Waiting = false, ""
	d.note("", "rollout.answered", "", "nobody needs to decide about %s any more", d.s.Rollout.To)
}

// attempt looks at how the present step would go on. It only takes from the
// candidate: it turns back, or goes down in a ramp. over: the step would end.
func (d *decision) attempt() (over bool) {
	try, step := &decision{s: d.s.Clone(), obs: d.obs, now: d.now}, current(d.s)
	over = try.done(step)
	switch {
	case try.s.Back:
		d.s, d.acts = try.s, append(d.acts, try.acts...)
	case !over && step.Kind == gapless.StepRamp:
		d.descend()
	}
	return over
}

// asked reports whether the plan waits because a judged step is undecided, and
// nobody, man or alarm, said since that it is to wait.
func (s State) asked() bool {
	if kind := current(s).Kind; !s.Busy() || s.Back || !s.Paused || kind != gapless.StepJudge && kind != gapless.StepRamp {
		return false
	}
	return !strings.Contains(s.Rollout.Waiting, byPerson) && !strings.Contains(s.Rollout.Waiting, byOther)
}

// stay is a pause for a reason that is not the plan's. Where the plan asked
// before, its question stays, and is for that person alone to answer.
func stay(s State, why string) State {
	s = s.Clone()
	if s.Paused {
		why = s.Rollout.Waiting + "; " + why
	}
	s.Paused, s.Rollout.Waiting = true, why
	return s
}
