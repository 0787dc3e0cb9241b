package rollout

import (
	"maps"
	"strconv"
	"time"

	"gapless"
)

// meters is an outside source that answers at once; what was asked of it is
// forgotten with the engine, what it answered is not.
type meters struct {
	*world
	asked map[string]map[string]Asked // by rollout and metric
}

// Ask implements Meter.
func (m meters) Ask(q Question) {
	m.die()
	m.at(ActMeasure, beforeEffect)
	// What was decided last may have ended the step after this was asked for.
	if r := m.runner.state.Rollout; q.Rollout != r.ID || q.Candidate != r.To || q.Stable != r.From || r.From == r.To {
		m.violate("%s is asked about %s beside %s in %s", q.Metric.Name, q.Candidate, q.Stable, q.Rollout)
	}
	m.log("%s is asked about %s", q.Metric.Name, q.Candidate)
	m.tally["asked outside"]++
	if m.asked[q.Rollout] == nil {
		m.asked[q.Rollout] = map[string]Asked{}
	}
	answer := gapless.Reading{Kind: gapless.ReadValue}
	switch n := m.tally["asked outside"]; { // no chance: the world's dice are not for it
	case n%5 == 0:
		answer.Kind = gapless.ReadEmpty
	case n%13 == 0, n%2 == 0 && m.temper[q.Candidate] == sloppy:
		answer.Value = 2 * outsideMax
	}
	now := m.clock()
	m.asked[q.Rollout][q.Metric.Name] = Asked{Check: gapless.MetricCheck{Time: now, Candidate: answer}}
	m.outside[answerKey(q.Rollout, now)] = answer
	m.did(ActMeasure)
	m.die()
}

// Asked implements Meter.
func (m meters) Asked(rollout string) map[string]Asked { return maps.Clone(m.asked[rollout]) }

// outsideMax is the most that the outside source may say of a good release.
var outsideMax = 1.0

// answerKey names what was answered in a rollout at one time.
func answerKey(rollout string, at time.Time) string {
	return rollout + " " + strconv.FormatInt(at.UnixNano(), 10)
}

// heeded checks that no metric stood against a judged step that was passed:
// what was answered last is a good value. Once the time is up a person may
// have said otherwise.
func (w *world) heeded(step gapless.Step, is State) {
	r, to := is.Rollout, w.releases[is.Rollout.To]
	if to == nil || r.From == "" || r.From == r.To {
		return
	}
	over := w.watched+lookEvery >= step.For.Std() || w.forgot == r.ID
	if over && (to.Spec.Judge.OnUndecided == gapless.OnUndecidedContinue || len(to.Spec.Steps) > 0) {
		return
	}
	for _, m := range to.Spec.Judge.Metrics {
		good := false
		for _, res := range r.Metrics {
			said := w.outside[answerKey(r.ID, res.Last.Time)]
			good = good || res.Name == m.Name && said.Kind == gapless.ReadValue && said.Value <= *m.Max
		}
		if !good {
			w.violate("it goes on although metric %s is not good: %+v", m.Name, r.Metrics)
		}
		w.tally["passed with a metric"]++
	}
}

// failedOutside checks that a metric that failed as often as it may takes the
// candidate back, and that one that fails gives it no more.
func (w *world) failedOutside(was, is State) {
	r, to := is.Rollout, w.releases[is.Rollout.To]
	if to == nil || is.Back || r.Outcome != gapless.Running && r.Outcome != gapless.Promoted {
		return
	}
	for _, m := range to.Spec.Judge.Metrics {
		for _, res := range r.Metrics {
			if res.Name != m.Name {
				continue
			}
			if res.Failures >= m.Failures {
				w.violate("%s goes on although metric %s failed %d of %d checks", r.To, m.Name, res.Failures, res.Checks)
			}
			fails := w.outside[answerKey(r.ID, res.Last.Time)].Value > *m.Max
			if fails && current(is).Kind == gapless.StepRamp && is.Rollout.Cursor == was.Rollout.Cursor && was.Weight > 0 && is.Weight > was.Weight {
				w.violate("the share goes up from %v to %v although metric %s fails", was.Weight, is.Weight, m.Name)
			}
		}
	}
}
