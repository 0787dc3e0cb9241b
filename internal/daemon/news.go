package daemon

import (
	"fmt"
	"time"

	"gapless"
	"gapless/internal/notify"
	"gapless/internal/rollout"
)

// undecidedAfter is how long a step may last before a person is told.
const undecidedAfter = 15 * time.Minute

// newsOf is what there is to tell of an app as it is at now. It looks at what
// is and not at what happened, so a daemon that was killed in between tells it
// all the same; keys keep it from being told twice. after is when a step lasts
// too long; what ended before the queue would have given up is not news.
func newsOf(s rollout.State, now time.Time, after time.Duration) (out []notify.Message) {
	r := s.Rollout
	if r == nil {
		return nil
	}
	add := func(event, key string, at time.Time, format string, args ...any) *notify.Message {
		out = append(out, notify.Message{Key: r.ID + "/" + key, Event: event, Time: at.UTC(), App: s.App,
			Text: s.App + ": " + fmt.Sprintf(format, args...), Rollout: tellRollout(*r)})
		return &out[len(out)-1]
	}
	if r.Outcome != gapless.Running {
		if now.Sub(r.Finished) <= notify.GiveUp {
			out = append(out, outcomeOf(*r))
		}
		return out
	}
	if r.From != "" && r.From != r.To {
		add(gapless.NotifyStarted, "started", r.Started, "%s of %s begins, %s serves", r.Kind, r.To, r.From)
	} else {
		add(gapless.NotifyStarted, "started", r.Started, "%s of %s begins", r.Kind, r.To)
	}
	if !s.Entered || s.Back || r.Cursor >= len(r.Plan) {
		return out
	}
	step := r.Plan[r.Cursor]
	if r.Cursor > 0 {
		add(gapless.NotifyStep, fmt.Sprintf("step/%d", r.Cursor), s.Since, "%s is at step %d of %d: %s", r.To, r.Cursor+1, len(r.Plan), rollout.Describe(step))
	}
	waits := r.Waiting != "" || step.Kind == gapless.StepJudge || step.Kind == gapless.StepRamp || step.Kind == gapless.StepPause
	if lasts := now.Sub(s.Since); waits && !s.Since.IsZero() && lasts >= after {
		m := add(gapless.NotifyUndecided, fmt.Sprintf("undecided/%d", r.Cursor), now, "%s is at step %d of %d for %s: %s",
			r.To, r.Cursor+1, len(r.Plan), lasts.Round(time.Minute), rollout.Describe(step))
		m.Reason, m.Hint = r.Waiting, fmt.Sprintf("gapless promote %s, gapless resume %s or gapless abort %s", s.App, s.App, s.App)
		if m.Reason == "" && r.Verdict != nil {
			m.Reason = r.Verdict.Reason
		}
	}
	return out
}

// outcomeOf tells how a rollout ended.
func outcomeOf(r gapless.Rollout) notify.Message {
	m := notify.Message{Key: r.ID + "/" + string(r.Outcome), Time: r.Finished.UTC(), App: r.App, Reason: r.Reason, Hint: r.Hint, Rollout: tellRollout(r)}
	what := r.To
	if what == "" {
		what = "a new release"
	}
	switch {
	case r.Outcome == gapless.Promoted && r.Kind == "rollback": // by a person, or by what watches after promote
		m.Event, m.Text = gapless.NotifyRolledBack, fmt.Sprintf("%s: went back from %s, %s serves again", r.App, r.From, what)
	case r.Outcome == gapless.TakenBack && r.From == r.To:
		m.Event, m.Text = gapless.NotifyRolledBack, fmt.Sprintf("%s: the %s was taken back, %s serves as before", r.App, r.Kind, r.From)
	case r.Outcome == gapless.TakenBack:
		m.Event, m.Text = gapless.NotifyRolledBack, fmt.Sprintf("%s: %s was taken back, %s serves", r.App, what, r.From)
	case r.Outcome == gapless.NothingStarted && r.From != "":
		m.Event, m.Text = gapless.NotifyFailed, fmt.Sprintf("%s: %s of %s failed, %s serves", r.App, r.Kind, what, r.From)
	case r.Outcome == gapless.NothingStarted:
		m.Event, m.Text = gapless.NotifyFailed, fmt.Sprintf("%s: %s of %s failed", r.App, r.Kind, what)
	case r.From != "" && r.From != r.To:
		m.Event, m.Text = gapless.NotifyPromoted, fmt.Sprintf("%s: %s serves, it was %s", r.App, what, r.From)
	default:
		m.Event, m.Text = gapless.NotifyPromoted, fmt.Sprintf("%s: %s of %s is done", r.App, r.Kind, what)
	}
	if m.Reason != "" {
		m.Text += ": " + m.Reason
	}
	return m
}

func tellRollout(r gapless.Rollout) *notify.Rollout {
	out := &notify.Rollout{ID: r.ID, Kind: r.Kind, From: r.From, To: r.To, Outcome: string(r.Outcome), Weight: r.Weight, Steps: len(r.Plan), Verdict: r.Verdict}
	if r.Cursor < len(r.Plan) && r.Outcome == gapless.Running {
		out.Step, out.Doing = r.Cursor+1, rollout.Describe(r.Plan[r.Cursor])
	}
	return out
}
