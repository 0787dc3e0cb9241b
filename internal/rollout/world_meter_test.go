package rollout

import (
	"maps"

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
	case n%13 == 0:
		answer.Value = 2
	}
	m.asked[q.Rollout][q.Metric.Name] = Asked{Check: gapless.MetricCheck{Time: m.now, Candidate: answer}}
	m.did(ActMeasure)
	m.die()
}

// Asked implements Meter.
func (m meters) Asked(rollout string) map[string]Asked { return maps.Clone(m.asked[rollout]) }

// heeded checks that no metric stood against a judged step that was passed.
func (w *world) heeded(is State) {
	to := w.releases[is.Rollout.To]
	if to == nil || is.Rollout.From == "" || is.Rollout.From == is.Rollout.To {
		return
	}
	if to.Spec.Judge.OnUndecided == gapless.OnUndecidedContinue || len(to.Spec.Steps) > 0 {
		return // a person may have said so
	}
	for _, m := range to.Spec.Judge.Metrics {
		good := false
		for _, res := range is.Rollout.Metrics {
			good = good || res.Name == m.Name && res.State == gapless.MetricGood
		}
		if !good {
			w.violate("it goes on although metric %s is not good: %+v", m.Name, is.Rollout.Metrics)
		}
	}
}
