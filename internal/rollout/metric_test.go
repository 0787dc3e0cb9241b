package rollout

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"gapless"
)

func ptr(v float64) *float64 { return &v }

func value(v float64) gapless.Reading { return gapless.Reading{Kind: gapless.ReadValue, Value: v} }

// What a check means: only a value can be good, and no other answer fails.
func TestJudgeCheck(t *testing.T) {
	empty, nan, broken, stale := gapless.Reading{Kind: gapless.ReadEmpty}, gapless.Reading{Kind: gapless.ReadNaN},
		gapless.Reading{Kind: gapless.ReadError, Why: "refused"}, gapless.Reading{Kind: gapless.ReadStale, Value: 0.01}
	bounded := gapless.Metric{Min: ptr(0.1), Max: ptr(0.5)}
	compared := gapless.Metric{Compare: &gapless.Comparison{AtMost: 1.5, AtLeast: 0.5, Slack: 0.01}}
	both := gapless.Metric{Max: ptr(0.5), Compare: compared.Compare}
	for _, c := range []struct {
		name              string
		m                 gapless.Metric
		candidate, stable gapless.Reading
		want              gapless.MetricState
		says              string
	}{
		{"inside", bounded, value(0.3), gapless.Reading{}, gapless.MetricGood, "0.3 is within"},
		{"at the maximum", bounded, value(0.5), gapless.Reading{}, gapless.MetricGood, ""},
		{"over it", bounded, value(0.51), gapless.Reading{}, gapless.MetricFailing, "0.51 is more than 0.5"},
		{"at the minimum", bounded, value(0.1), gapless.Reading{}, gapless.MetricGood, ""},
		{"under it", bounded, value(0.09), gapless.Reading{}, gapless.MetricFailing, "0.09 is less than 0.1"},
		{"empty", bounded, empty, gapless.Reading{}, gapless.MetricNoData, "empty"},
		{"nan", bounded, nan, gapless.Reading{}, gapless.MetricNoData, "nan"},
		{"error", bounded, broken, gapless.Reading{}, gapless.MetricNoData, "error, refused"},
		{"stale, though its old value is good", bounded, stale, gapless.Reading{}, gapless.MetricNoData, "stale"},
		{"nothing at all", bounded, gapless.Reading{}, gapless.Reading{}, gapless.MetricNoData, ""},
		{"as much as stable", compared, value(0.2), value(0.2), gapless.MetricGood, "stable has 0.2"},
		{"as much as is fine", compared, value(0.31), value(0.2), gapless.MetricGood, ""},
		{"more than that", compared, value(0.32), value(0.2), gapless.MetricFailing, "0.32 is more than 1.5 × stable's 0.2 + 0.01"},
		{"less than that", compared, value(0.08), value(0.2), gapless.MetricFailing, "0.08 is less than 0.5 × stable's 0.2 − 0.01"},
		{"stable has 0, within the slack", compared, value(0.01), value(0), gapless.MetricGood, ""},
		{"stable has 0, over the slack", compared, value(0.02), value(0), gapless.MetricFailing, ""},
		{"stable is empty", compared, value(0.2), empty, gapless.MetricNoData, "stable: empty"},
		{"stable is stale", compared, value(0.2), stale, gapless.MetricNoData, "stable: stale"},
		{"only stable has a value", compared, nan, value(0.2), gapless.MetricNoData, "nan"},
		{"too much, whatever stable has", both, value(0.6), empty, gapless.MetricFailing, "more than 0.5"},
		{"fine by itself, unknown beside stable", both, value(0.4), broken, gapless.MetricNoData, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, why := JudgeCheck(c.m, gapless.MetricCheck{Candidate: c.candidate, Stable: c.stable})
			if got != c.want || !strings.Contains(why, c.says) {
				t.Errorf("%s (%s), want %s (… %s …)", got, why, c.want, c.says)
			}
		})
	}
}

// measured is a candidate in a judged step, with one metric.
type measured struct {
	t   *testing.T
	s   State
	obs Observed
	now time.Time
}

func newMeasured(t *testing.T, onUndecided string, metrics ...gapless.Metric) *measured {
	t.Helper()
	if metrics == nil {
		metrics = []gapless.Metric{{Name: "errors", Prometheus: &gapless.PrometheusQuery{}, Max: ptr(0.05),
			Interval: gapless.Duration(10 * time.Second), Delay: gapless.Duration(20 * time.Second), Failures: 3}}
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	old, next := &gapless.Release{App: "shop", Name: "v1"}, &gapless.Release{App: "shop", Name: "v2"}
	next.Spec.Judge.Metrics = metrics
	step := gapless.Step{Kind: gapless.StepJudge, For: gapless.Duration(2 * time.Minute), OnUndecided: onUndecided}
	m := &measured{t: t, now: now}
	m.s = State{App: "shop", Stable: "v1", Counts: map[string]int{gapless.WebProcess: 1}, Weight: 0.25, Entered: true, Since: now, Looked: now,
		Members: []Member{
			{ID: "a", Release: "v1", Process: gapless.WebProcess, Slot: 1, Role: Stable, WasUp: true},
			{ID: "b", Release: "v2", Process: gapless.WebProcess, Slot: 1, Role: Candidate, WasUp: true}},
		Rollout: &gapless.Rollout{ID: "r", App: "shop", Kind: "deploy", From: "v1", To: "v2", Outcome: gapless.Running,
			Plan: []gapless.Step{step, {Kind: gapless.StepPause}}}}
	m.obs = Observed{Releases: map[string]*gapless.Release{"v1": old, "v2": next}, Metrics: map[string]Asked{}, Instances: map[string]gapless.Instance{}}
	for id, release := range map[string]string{"a": "v1", "b": "v2"} {
		m.obs.Instances[id] = gapless.Instance{ID: id, App: "shop", Release: release, Process: gapless.WebProcess, Slot: 1, State: gapless.Ready, Address: "127.0.0.1:1", Since: now}
	}
	return m
}

// look lets a second pass and decides; it returns the metrics that are asked.
func (m *measured) look() (asked []string) {
	m.now = m.now.Add(time.Second)
	next, acts := Decide(m.s, m.obs, m.now)
	for _, a := range acts {
		if a.Kind == ActMeasure {
			if a.Question.Candidate != "v2" || a.Question.Stable != "v1" || a.Question.Rollout != "r" {
				m.t.Fatalf("asked about %+v", a.Question)
			}
			asked = append(asked, a.Question.Metric.Name)
		}
	}
	m.s = next
	return asked
}

// answers lets seconds pass, in which each question is answered at once.
func (m *measured) answers(seconds int, r gapless.Reading) (asked int) {
	for range seconds {
		for _, name := range m.look() {
			asked++
			m.obs.Metrics[name] = Asked{Check: gapless.MetricCheck{Time: m.now, Candidate: r}}
		}
	}
	return asked
}

func (m *measured) result() gapless.MetricResult { return m.s.Rollout.Metrics[0] }

// The first question comes after the delay, the others by the interval; one
// that is under way is not asked again, and one answer counts once.
func TestMetricsAreAskedInTime(t *testing.T) {
	m := newMeasured(t, gapless.OnUndecidedPause)
	if n := m.answers(20, value(0)); n != 0 {
		t.Fatalf("asked %d times within the delay", n)
	}
	if n := m.answers(31, value(0)); n != 3 {
		t.Errorf("asked %d times in 31 s, want 3", n)
	}
	if r := m.result(); r.Checks != 3 || r.State != gapless.MetricGood {
		t.Errorf("%+v", r)
	}
	m.obs.Metrics["errors"] = Asked{Check: m.obs.Metrics["errors"].Check, Pending: true}
	for range 30 {
		if asked := m.look(); len(asked) > 0 {
			t.Fatal("asked while a question is under way")
		}
	}
	if r := m.result(); r.Checks != 3 {
		t.Errorf("one answer counts %d times", r.Checks)
	}
	m.now = m.now.Add(-time.Hour) // the clock is set back
	m.obs.Metrics["errors"] = Asked{Check: m.obs.Metrics["errors"].Check}
	if asked := m.look(); len(asked) != 1 {
		t.Errorf("a clock that is set back silences the metric")
	}
}

// Failed checks take the candidate back at their limit, not before; a good one
// in between makes no difference.
func TestMetricFails(t *testing.T) {
	m := newMeasured(t, gapless.OnUndecidedContinue)
	m.answers(33, value(0.31)) // asked at 21 and 32
	m.answers(11, value(0.01))
	if r := m.result(); r.Failures != 2 || m.s.Back {
		t.Fatalf("%+v, back %t", r, m.s.Back)
	}
	m.answers(12, value(0.2))
	if !m.s.Back || !strings.Contains(m.s.Rollout.Reason, "metric errors of v2: 0.2 is more than 0.05; failed 3 of 4 checks") {
		t.Errorf("back %t: %s", m.s.Back, m.s.Rollout.Reason)
	}
	if m.s.Rollout.Hint == "" {
		t.Error("no hint")
	}
}

// Whatever is no value: it never takes a release back, and never lets it pass.
func TestNoDataIsNeverAPass(t *testing.T) {
	for _, kind := range []gapless.ReadingKind{gapless.ReadEmpty, gapless.ReadNaN, gapless.ReadError, gapless.ReadStale, ""} {
		t.Run(string(kind), func(t *testing.T) {
			m := newMeasured(t, gapless.OnUndecidedPause)
			proven := &gapless.Verdict{Kind: gapless.NotWorse, Reason: "proven"}
			m.s.Rollout.Verdict = proven // by the edge's own evidence
			if kind == "" {              // the source never answers
				for range 121 {
					m.look()
				}
			} else {
				m.answers(121, gapless.Reading{Kind: kind})
			}
			if m.s.Back || m.s.Rollout.Cursor != 0 || !m.s.Paused {
				t.Fatalf("back %t, step %d, paused %t", m.s.Back, m.s.Rollout.Cursor, m.s.Paused)
			}
			if !strings.Contains(m.s.Rollout.Waiting, "metric errors") {
				t.Errorf("it waits because %s", m.s.Rollout.Waiting)
			}
			if r := m.result(); r.Failures != 0 {
				t.Errorf("%d failed checks", r.Failures)
			}
		})
	}
}

// A proof is taken as soon as every metric agrees, and not while one fails or
// has no data any more.
func TestProofWaitsForMetrics(t *testing.T) {
	m := newMeasured(t, gapless.OnUndecidedPause)
	m.s.Rollout.Verdict = &gapless.Verdict{Kind: gapless.NotWorse, Reason: "proven"}
	m.answers(20, value(0))
	if m.s.Rollout.Cursor != 0 {
		t.Fatal("passed before the metric was asked")
	}
	m.answers(10, value(0.9))
	if m.s.Rollout.Cursor != 0 || m.result().State != gapless.MetricFailing {
		t.Fatalf("passed with a metric that fails: %+v", m.result())
	}
	m.answers(10, gapless.Reading{Kind: gapless.ReadEmpty})
	if m.s.Rollout.Cursor != 0 || m.result().State != gapless.MetricNoData {
		t.Fatalf("passed without data: %+v", m.result())
	}
	m.answers(11, value(0.01))
	if m.s.Rollout.Cursor != 1 {
		t.Errorf("not passed with a good metric and a proof: %+v", m.result())
	}
}

// A good value of long ago, or of the step before, says nothing of this one.
func TestOldChecksDoNotCount(t *testing.T) {
	m := newMeasured(t, gapless.OnUndecidedPause)
	m.answers(22, value(0.01))
	m.s.Since = m.now.Add(time.Second) // as if another judged step had begun
	m.s.Rollout.Verdict = &gapless.Verdict{Kind: gapless.NotWorse}
	m.look()
	if m.s.Rollout.Cursor != 0 {
		t.Error("a check of the step before passes this one")
	}
	m = newMeasured(t, gapless.OnUndecidedPause)
	m.answers(22, value(0.01))
	m.obs.Metrics["errors"] = Asked{Check: m.obs.Metrics["errors"].Check, Pending: true} // and never answered
	for range 100 {
		m.look()
	}
	if !m.s.Paused {
		t.Error("a check of 98 s ago passes this step")
	}
}

// Without doubt the step ends as it always did.
func TestGoodMetricsLeaveTheStepAlone(t *testing.T) {
	m := newMeasured(t, gapless.OnUndecidedContinue)
	m.answers(121, value(0.01))
	if m.s.Rollout.Cursor != 1 || m.s.Back {
		t.Errorf("step %d, back %t", m.s.Rollout.Cursor, m.s.Back)
	}
	m = newMeasured(t, gapless.OnUndecidedContinue)
	m.answers(121, gapless.Reading{Kind: gapless.ReadEmpty})
	if m.s.Rollout.Cursor != 0 || !m.s.Paused {
		t.Errorf("a strategy that goes on without evidence goes on without data: step %d", m.s.Rollout.Cursor)
	}
	m = newMeasured(t, gapless.OnUndecidedContinue)
	m.obs.Releases["v2"].Spec.Judge.OnUndecided = gapless.OnUndecidedContinue
	m.answers(121, gapless.Reading{Kind: gapless.ReadEmpty})
	if m.s.Rollout.Cursor != 1 {
		t.Errorf("what a person wrote is not done: step %d", m.s.Rollout.Cursor)
	}
	m = newMeasured(t, gapless.OnUndecidedRollback)
	m.answers(121, gapless.Reading{Kind: gapless.ReadError, Why: "refused"})
	if !m.s.Back || !strings.Contains(m.s.Rollout.Reason, "refused") {
		t.Errorf("back %t: %s", m.s.Back, m.s.Rollout.Reason)
	}
}

// A daemon that was killed goes on with the same counts.
func TestMetricCountsOutliveTheDaemon(t *testing.T) {
	m := newMeasured(t, gapless.OnUndecidedPause)
	m.answers(33, value(0.9))
	before := m.result()
	if before.Failures != 2 {
		t.Fatalf("%+v", before)
	}
	data, err := json.Marshal(m.s)
	if err != nil {
		t.Fatal(err)
	}
	m.s = State{}
	if err := json.Unmarshal(data, &m.s); err != nil {
		t.Fatal(err)
	}
	m.obs.Metrics = map[string]Asked{} // the next daemon has asked nothing yet
	if m.look(); m.result().Failures != before.Failures || m.result().Checks != before.Checks {
		t.Fatalf("%+v, before %+v", m.result(), before)
	}
	m.answers(12, value(0.9))
	if !m.s.Back {
		t.Errorf("not back: %+v", m.result())
	}
	if r := m.result(); r.Failures != 3 || r.Checks != 3 {
		t.Errorf("%+v", r)
	}
}

// Where nothing is compared no metric is asked and none stands in the way.
func TestMetricsOfTheSameRelease(t *testing.T) {
	m := newMeasured(t, gapless.OnUndecidedContinue)
	m.s.Rollout.From = "v2"
	m.s.Stable = "v2"
	if n := m.answers(130, value(0.9)); n != 0 || m.s.Rollout.Cursor != 1 {
		t.Errorf("asked %d times, step %d", n, m.s.Rollout.Cursor)
	}
}

// A plan gives metrics the time that they need.
func TestPlansHeedMetrics(t *testing.T) {
	app := &gapless.App{Soak: gapless.Duration(10 * time.Second), Processes: []gapless.Process{{Name: "web", Instances: 2}}}
	counts := map[string]int{"web": 2}
	judged := func(app *gapless.App) (out []gapless.Step) {
		for _, s := range Compile(app, counts, 2) {
			if s.Kind == gapless.StepJudge || s.Kind == gapless.StepRamp {
				out = append(out, s)
			}
		}
		return out
	}
	if s := judged(app); s[0].For != app.Soak || s[0].OnUndecided != gapless.OnUndecidedContinue {
		t.Errorf("without metrics: %v", s)
	}
	app.Judge.Metrics = []gapless.Metric{{Interval: gapless.Duration(30 * time.Second), Delay: gapless.Duration(time.Minute), Failures: 3}}
	if s := judged(app); s[0].For != gapless.Duration(150*time.Second) || s[0].OnUndecided != gapless.OnUndecidedContinue {
		t.Errorf("rolling: %v", s)
	}
	app.Steps = []gapless.Step{{Kind: gapless.StepWeight, Weight: 0.1}, {Kind: gapless.StepJudge, For: gapless.Duration(time.Second), OnUndecided: gapless.OnUndecidedRollback},
		{Kind: gapless.StepWeight, Weight: 0.2}, {Kind: gapless.StepJudge, For: gapless.Duration(time.Hour)}}
	app.Judge.OnUndecided = ""
	if s := judged(app); s[0].For != gapless.Duration(150*time.Second) || s[0].OnUndecided != gapless.OnUndecidedRollback || s[1].For != gapless.Duration(time.Hour) {
		t.Errorf("steps: %v", s)
	}
}
