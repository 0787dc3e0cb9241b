package rollout

import (
	"maps"
	"slices"
	"strings"
	"time"

	"gapless"
)

// Commands of people. Each takes a state and returns the changed one, or says
// why it cannot be now.

// Pause holds a rollout where it is; instances and the judge go on.
func Pause(s State) (State, error) {
	if err := forward(s); err != nil {
		return s, err
	}
	return pauseAs(s, byPerson+" at "+gapless.Percent(s.Rollout.Weight))
}

const byPerson = "paused by a person"

// byOther begins why a rollout waits that was paused by something outside of
// its plan. As with a pause by a person, it goes on with the same step.
const byOther = "paused because "

// PauseFor holds a rollout where it is, for a reason that is not the plan's.
func PauseFor(s State, reason string) (State, error) {
	return pauseAs(s, byOther+reason)
}

func pauseAs(s State, why string) (State, error) {
	if err := forward(s); err != nil {
		return s, err
	}
	if s.promoted() {
		return s, gapless.Errorf(gapless.Conflict, "%s serves already", s.Rollout.To).WithHint("go back with: gapless rollback %s", s.App)
	}
	if s.Paused && !s.asked() { // it may wait for an answer, which must not be forgotten
		return s, nil
	}
	return stay(s, why), nil
}

// Forward reports whether a rollout is on its way to a release that does not
// serve yet.
func (s State) Forward() bool { return s.Busy() && !s.Back && !s.promoted() }

// Resume goes on: after a pause by a person with the same step, after a pause
// of the plan with the next one.
func Resume(s State) (State, error) {
	if err := forward(s); err != nil {
		return s, err
	}
	step := current(s)
	if !s.Paused && step.Kind != gapless.StepPause {
		return s, gapless.Errorf(gapless.Conflict, "the %s of %s is not paused", s.Rollout.Kind, s.App).
			WithHint("give it all traffic now with: gapless promote %s", s.App)
	}
	s = s.Clone()
	switch step.Kind {
	case gapless.StepPause:
		s.Skip = true
	case gapless.StepJudge, gapless.StepRamp, gapless.StepHook, gapless.StepMirror:
		s.Skip = s.Paused && !strings.HasPrefix(s.Rollout.Waiting, byPerson) && !strings.HasPrefix(s.Rollout.Waiting, byOther)
	}
	s.Paused, s.Rollout.Waiting = false, ""
	return s, nil
}

// current is the step that was entered, or none.
func current(s State) gapless.Step {
	if s.Entered && s.Rollout.Cursor < len(s.Rollout.Plan) {
		return s.Rollout.Plan[s.Rollout.Cursor]
	}
	return gapless.Step{}
}

// Promote skips what is left of judging, hooks and pauses: all instances, then
// all traffic, then promote. Proof against the candidate still takes it back.
func Promote(s State, rel *gapless.Release) (State, error) {
	if err := forward(s); err != nil {
		return s, err
	}
	s = s.Clone()
	r := s.Rollout
	s.Paused, r.Waiting = false, ""
	switch {
	case s.promoted():
		s.Skip = current(s).Kind == gapless.StepPause
		return s, nil
	case r.Kind == "scale" || r.Kind == "restart": // nothing in them waits for proof
		return s, nil
	case r.Cursor >= len(r.Plan) || r.Plan[r.Cursor].Kind == gapless.StepPromote:
		return s, nil
	}
	counts := s.Next
	if counts == nil {
		counts = s.Counts
	}
	plan := slices.Clone(r.Plan[:r.Cursor])
	for _, p := range rel.Spec.Processes {
		if p.Cron == "" && !p.Singleton && counts[p.Name] > 0 {
			plan = append(plan, gapless.Step{Kind: gapless.StepScale, Process: p.Name, N: counts[p.Name]})
		}
	}
	plan = append(plan, gapless.Step{Kind: gapless.StepWarm})
	if counts[gapless.WebProcess] > 0 && r.From != r.To {
		plan = append(plan, gapless.Step{Kind: gapless.StepWeight, Weight: 1})
	}
	rest := r.Plan[r.Cursor:]
	end := slices.IndexFunc(rest, func(step gapless.Step) bool { return step.Kind == gapless.StepPromote })
	if end < 0 {
		end = len(rest)
	}
	for _, step := range rest[:end] {
		if step.Kind == gapless.StepSwap || step.Kind == gapless.StepKeep || step.Kind == gapless.StepBake {
			plan = append(plan, step)
		}
	}
	r.Plan = append(plan, rest[end:]...)
	s.Entered, s.Skip = false, false
	return s, nil
}

// BeginRollback goes back to an earlier release. Where its instances are
// still warm, that takes one change of the route. To the one that served last
// it goes also while nothing can be saved.
func BeginRollback(s State, id string, to *gapless.Release, counts map[string]int, now time.Time) (State, error) {
	if err := serving(s); err != nil {
		return s, err
	}
	if to.Name == s.Stable {
		return s, gapless.Errorf(gapless.Conflict, "%s serves already", to.Name).WithHint("list the others with: gapless releases %s", s.App)
	}
	kept := map[string]bool{}
	for _, m := range s.of(Kept, gapless.WebProcess) {
		if m.Release == to.Name {
			kept[m.ID] = true
		}
	}
	known := len(kept) > 0 || to.Name == s.previous()
	s, err := begin(s, id, "rollback", to, counts, now)
	if err != nil {
		return s, err
	}
	for i := range s.Members {
		if m := &s.Members[i]; kept[m.ID] {
			m.Role, m.Since, m.Out, m.Until, m.Warm = Candidate, now, time.Time{}, time.Time{}, true
		}
	}
	s.Rollout.Plan = rollback(&to.Spec, counts, len(kept))
	s.Rollout.Strategy, s.Judge, s.Next, s.Known = "", nil, maps.Clone(counts), known
	return s, nil
}

// Hold keeps the traffic of an app waiting, or lets it go on.
func Hold(s State, on bool) (State, error) {
	if on && s.Down {
		return s, gapless.Errorf(gapless.Conflict, "%s is down", s.App).WithHint("start it with: gapless up")
	}
	s = s.Clone()
	s.Held = on
	return s, nil
}

// Maintain closes an app to everybody whom m does not allow; nil opens it.
func Maintain(s State, m *gapless.Maintenance) (State, error) {
	if err := m.Validate(); err != nil {
		return s, err
	}
	if m != nil && s.Down {
		return s, gapless.Errorf(gapless.Conflict, "%s is down", s.App).WithHint("start it with: gapless up")
	}
	s = s.Clone()
	s.Maintenance = m
	return s, nil
}

// forward refuses what only a rollout on its way forward can do.
func forward(s State) error {
	if err := running(s); err != nil {
		return err
	}
	if s.Back {
		return gapless.Errorf(gapless.Conflict, "%s is on its way back", s.App).WithHint("watch it with: gapless status -f %s", s.App)
	}
	return nil
}

func running(s State) error {
	if !s.Busy() {
		return gapless.Errorf(gapless.Conflict, "no rollout of %s is under way", s.App).WithHint("start one with: gapless deploy")
	}
	return nil
}
