package cli

import (
	"context"
	"fmt"
	"time"

	"gapless"
	"gapless/internal/api"
)

// answer prints v as the answer: indented, or as the last line of a stream.
func (c *command) answer(v any) error {
	if c.stream {
		return c.term.jsonLine(v)
	}
	return c.term.json(v)
}

// outcome prints the last lines and returns the matching exit code.
func (c *command) outcome(ctx context.Context, client *api.Client, r gapless.Rollout, took time.Duration) error {
	facts := fmt.Sprintf("%.1fs", took.Seconds())
	switch r.Outcome {
	case gapless.Promoted:
		switch {
		case c.json:
		case r.Kind == "scale":
			c.term.answerf("%s %s is scaled · %s", good.Render("✓"), r.App, facts)
		default:
			c.term.answerf("%s %s %s serves 100 %% · %s%s", good.Render("✓"), r.App, r.To, facts, c.address(ctx, client, r))
		}
		return nil
	case gapless.TakenBack:
		c.term.sayf("%s %s %s was taken back: %s serves 100 %% · %s", bad.Render("✗"), r.App, r.To, r.From, facts)
		c.term.annotate("error", r.App+" "+r.To+" was taken back: "+r.Reason)
	default:
		c.term.sayf("%s %s %s failed · %s", bad.Render("✗"), r.App, r.Kind, facts)
		c.term.annotate("error", r.App+" "+r.Kind+" failed: "+r.Reason)
	}
	if r.Reason != "" {
		c.term.sayf("  %s", r.Reason)
	}
	if r.Hint != "" {
		c.term.hintf("%s", r.Hint)
	}
	next := "gapless deploy"
	if r.From == "" {
		next = "gapless up"
	}
	switch {
	case r.Instance != "":
		c.term.hintf("read all of its log: gapless logs %s --instance %s · after the fix: %s", r.App, r.Instance, next)
	case r.Verdict != nil && r.Verdict.Kind == gapless.Worse:
		c.term.hintf("read its log: gapless logs %s --instance %s · everything about it: gapless show %s · after the fix: %s", r.App, r.To, r.ID, next)
	}
	if r.Outcome == gapless.TakenBack {
		return &exitCode{gapless.RolledBack}
	}
	return &exitCode{gapless.NotStarted}
}

// waiting says for what a rollout waits and what to type.
func (c *command) waiting(r gapless.Rollout) {
	c.term.sayf("%s %s %s waits at %s: %s", bad.Render("!"), r.App, r.To, gapless.Percent(r.Weight), r.Waiting)
	if line := evidence(r); line != "" {
		c.term.sayf("  %s", line)
	}
	for _, line := range append(explained(r), append(complaintLines(r, 3), copiesLines(r, 3)...)...) {
		c.term.sayf("%s", line)
	}
	for _, line := range undecidedLines(r) {
		c.term.sayf("%s", line)
	}
	c.term.hintf("go on: gapless resume %s · all traffic now: gapless promote %s · take it back: gapless abort %s", r.App, r.App, r.App)
	c.term.annotate("warning", r.App+" "+r.To+" waits: "+r.Waiting)
}

// evidence is what the judge counted, for people; "" if it saw nothing yet.
func evidence(r gapless.Rollout) string {
	v := r.Verdict
	if v == nil || v.NoData {
		return ""
	}
	text := fmt.Sprintf("%s: %d of %d bad", r.To, v.Evidence.Candidate.Bad, v.Evidence.Candidate.Requests)
	if v.Evidence.Stable.Requests > 0 {
		text += fmt.Sprintf(" · %s: %d of %d bad", r.From, v.Evidence.Stable.Bad, v.Evidence.Stable.Requests)
	}
	return text
}

// needed says what would decide, for people; "" if that is not known.
func needed(v *gapless.Verdict) string {
	switch {
	case v == nil || v.Kind != gapless.Undecided:
		return ""
	case v.Needed.Bad > 0 && v.Needed.Requests > 0:
		return fmt.Sprintf("%d good requests needed to go on, or %d bad in a row to go back", v.Needed.Requests, v.Needed.Bad)
	case v.Needed.Bad > 0:
		// Nothing proves it good as long as the judge has no test for that.
		return fmt.Sprintf("%d bad in a row needed to go back; good ones end this step no sooner", v.Needed.Bad)
	case v.Needed.Requests > 0:
		return fmt.Sprintf("%d good requests needed to go on", v.Needed.Requests)
	}
	return ""
}

// address tells where a first release answers.
func (c *command) address(ctx context.Context, client *api.Client, r gapless.Rollout) string {
	if r.Kind != "up" {
		return ""
	}
	st, err := client.Status(ctx)
	if err != nil {
		return ""
	}
	for _, a := range st.Apps {
		if a.Name == r.App && len(a.Listen) > 0 {
			return " · " + link(a)
		}
	}
	return ""
}
