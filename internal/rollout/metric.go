package rollout

import (
	"fmt"
	"slices"
	"time"

	"gapless"
)

// Meter asks outside sources about a candidate. It works in the background:
// none of its methods blocks.
type Meter interface {
	// Ask begins one check of a metric; while one of it is under way it does nothing.
	Ask(q Question)
	// Asked tells of each metric of a rollout its newest check, and whether one is under way.
	Asked(rollout string) map[string]Asked
}

// Question is one check of a metric.
type Question struct {
	App, Rollout, Candidate, Stable string
	Metric                          gapless.Metric
}

// Asked is what a Meter knows of one metric.
type Asked struct {
	Check   gapless.MetricCheck // the newest; zero: none yet
	Pending bool
}

// measured reports whether outside sources are asked about the candidate now:
// in judged steps, also while these wait for a person.
func (s *State) measured() bool {
	if !s.Busy() || s.Back || s.promoted() || s.Rollout.From == "" || s.Rollout.From == s.Rollout.To {
		return false
	}
	kind := current(*s).Kind
	return kind == gapless.StepJudge || kind == gapless.StepRamp
}

// metrics are what the candidate is judged by from outside.
func (d *decision) metrics() []gapless.Metric {
	if to := d.obs.Releases[d.s.Rollout.To]; to != nil {
		return to.Spec.Judge.Metrics
	}
	return nil
}

// measure takes in what outside sources said, turns back where that says so,
// and asks again what is due.
func (d *decision) measure() {
	specs := d.metrics()
	if len(specs) == 0 || !d.s.measured() {
		return
	}
	r := d.s.Rollout
	if r.Metrics == nil {
		for _, m := range specs {
			r.Metrics = append(r.Metrics, gapless.MetricResult{Name: m.Name, State: gapless.MetricWaiting, Limit: m.Failures, Due: d.now.Add(m.Delay.Std())})
		}
	}
	for i := range r.Metrics {
		at := slices.IndexFunc(specs, func(m gapless.Metric) bool { return m.Name == r.Metrics[i].Name })
		if at < 0 {
			continue
		}
		m, res, asked := specs[at], &r.Metrics[i], d.obs.Metrics[r.Metrics[i].Name]
		if c := asked.Check; !c.Time.IsZero() && !c.Time.Equal(res.Last.Time) {
			before := res.State
			*res = checked(m, *res, c, d.now)
			d.tell(m, *res, before)
		}
		if res.Failures >= res.Limit {
			d.failed(fmt.Sprintf("metric %s of %s: %s; failed %d of %d checks", m.Name, r.To, res.Why, res.Failures, res.Checks),
				fmt.Sprintf("ask it again: gapless metrics check %s", d.s.App))
			return
		}
		wait := res.Due.Sub(d.now)
		if far := max(m.Interval.Std(), m.Delay.Std()); wait > far { // the clock was set back
			wait = 0
		}
		if wait <= 0 && !asked.Pending {
			d.act(Action{Kind: ActMeasure, Question: Question{App: d.s.App, Rollout: r.ID, Candidate: r.To, Stable: d.s.Stable, Metric: m}})
		}
	}
}

// tell notes what is new about a metric.
func (d *decision) tell(m gapless.Metric, res gapless.MetricResult, before gapless.MetricState) {
	switch {
	case res.State == gapless.MetricFailing:
		d.note("warn", "metric", "", "metric %s of %s: %s (failed check %d of at most %d)", m.Name, d.s.Rollout.To, res.Why, res.Failures, res.Limit)
	case res.State == before:
	case res.State == gapless.MetricNoData:
		d.note("warn", "metric", "", "metric %s of %s: %s", m.Name, d.s.Rollout.To, res.Why)
	default:
		d.note("", "metric", "", "metric %s of %s: %s", m.Name, d.s.Rollout.To, res.Why)
	}
}

// checked is a result with one check more.
func checked(m gapless.Metric, res gapless.MetricResult, c gapless.MetricCheck, now time.Time) gapless.MetricResult {
	res.State, res.Why = JudgeCheck(m, c)
	res.Last, res.Due = c, now.Add(m.Interval.Std())
	res.Checks++
	switch res.State {
	case gapless.MetricFailing:
		res.Failures++
	case gapless.MetricNoData:
		res.NoData++
	}
	return res
}

// JudgeCheck says what one check means. Whatever is no value is no data, of the
// candidate as of stable where it is compared; a value that is out of its own
// bounds fails whatever is known of stable.
func JudgeCheck(m gapless.Metric, c gapless.MetricCheck) (gapless.MetricState, string) {
	if c.Candidate.Kind != gapless.ReadValue {
		return gapless.MetricNoData, "no data: " + readingText(c.Candidate)
	}
	v := c.Candidate.Value
	switch {
	case m.Max != nil && v > *m.Max:
		return gapless.MetricFailing, fmt.Sprintf("%.4g is more than %.4g", v, *m.Max)
	case m.Min != nil && v < *m.Min:
		return gapless.MetricFailing, fmt.Sprintf("%.4g is less than %.4g", v, *m.Min)
	case m.Compare == nil:
		return gapless.MetricGood, fmt.Sprintf("%.4g is within its bounds", v)
	case c.Stable.Kind != gapless.ReadValue:
		return gapless.MetricNoData, "no data to compare with: stable: " + readingText(c.Stable)
	}
	base := c.Stable.Value
	slack := func(sign string) string {
		if m.Compare.Slack == 0 {
			return ""
		}
		return fmt.Sprintf(" %s %.4g", sign, m.Compare.Slack)
	}
	switch most, least := m.Compare.AtMost, m.Compare.AtLeast; {
	case most > 0 && v > most*base+m.Compare.Slack:
		return gapless.MetricFailing, fmt.Sprintf("%.4g is more than %.4g × stable's %.4g%s", v, most, base, slack("+"))
	case least > 0 && v < least*base-m.Compare.Slack:
		return gapless.MetricFailing, fmt.Sprintf("%.4g is less than %.4g × stable's %.4g%s", v, least, base, slack("−"))
	}
	return gapless.MetricGood, fmt.Sprintf("%.4g is within its bounds, stable has %.4g", v, base)
}

func readingText(r gapless.Reading) string {
	if r.Why == "" {
		return string(r.Kind)
	}
	return string(r.Kind) + ", " + r.Why
}

// metricLate is how much longer than three intervals a check may be ago before
// it says nothing of now.
const metricLate = 30 * time.Second

// metricsDoubt says why a judged step is not passed yet as far as metrics go:
// each of them must have been checked in this step, and its last check good.
// "" where all agree, or there are none.
func (d *decision) metricsDoubt() string {
	r := d.s.Rollout
	for _, m := range d.metrics() {
		i := slices.IndexFunc(r.Metrics, func(res gapless.MetricResult) bool { return res.Name == m.Name })
		if i < 0 {
			if r.From == "" || r.From == r.To {
				return "" // nothing is compared
			}
			return "metric " + m.Name + " was not asked yet"
		}
		res := r.Metrics[i]
		switch {
		case res.State == gapless.MetricWaiting:
			return "metric " + m.Name + " was not asked yet"
		case res.State == gapless.MetricFailing:
			return fmt.Sprintf("metric %s fails: %s", m.Name, res.Why)
		case res.State != gapless.MetricGood:
			return fmt.Sprintf("metric %s has %s", m.Name, res.Why)
		case res.Last.Time.Before(d.s.Since), d.now.Sub(res.Last.Time) > 3*m.Interval.Std()+metricLate:
			return "metric " + m.Name + " was not asked in this step yet"
		}
	}
	return ""
}

// onDoubt is what follows where a metric stands against a step whose time is
// up. To go on is only right where a person wrote so: a strategy that goes on
// without evidence knows of no metric.
func (d *decision) onDoubt(onUndecided string) string {
	to := d.obs.Releases[d.s.Rollout.To]
	if onUndecided == gapless.OnUndecidedContinue && to != nil && to.Spec.Judge.OnUndecided == "" && len(to.Spec.Steps) == 0 {
		return gapless.OnUndecidedPause
	}
	return onUndecided
}

// metricFails reports whether the last check of a metric failed: no reason to
// go back yet, and none to give the candidate more.
func (d *decision) metricFails() bool {
	return slices.ContainsFunc(d.s.Rollout.Metrics, func(res gapless.MetricResult) bool { return res.State == gapless.MetricFailing })
}

// metricsAgree reports whether no metric stands against a proof.
func (d *decision) metricsAgree() bool { return d.metricsDoubt() == "" }

// Compile turns an app's strategy into a plan for a candidate, where old
// instances of the web process serve now. Where nothing serves (0), or the app
// serves no HTTP, there is nothing to compare: everything starts at once.
func Compile(app *gapless.App, counts map[string]int, old int) []gapless.Step {
	return heed(app, compile(app, counts, old))
}

// heed makes a plan wait for metrics: a judged step lasts at least until each
// of them could have failed it.
func heed(app *gapless.App, plan []gapless.Step) []gapless.Step {
	if len(app.Judge.Metrics) == 0 {
		return plan
	}
	var delay, checks gapless.Duration
	for _, m := range app.Judge.Metrics {
		delay, checks = max(delay, m.Delay), max(checks, m.Interval*gapless.Duration(m.Failures))
	}
	for i := range plan {
		if plan[i].Kind != gapless.StepJudge && plan[i].Kind != gapless.StepRamp {
			continue
		}
		plan[i].For = max(plan[i].For, delay+checks)
		delay = 0 // it is over in later steps
	}
	return plan
}
