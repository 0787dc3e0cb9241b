package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

// shown is what `gapless show --json` prints.
type shown struct {
	Rollout gapless.Rollout `json:"rollout"`
	Events  []gapless.Event `json:"events"`
	Back    string          `json:"taken_back_by,omitempty"` // the rollout that took back later what this one promoted
}

func (c *command) show() *cobra.Command {
	return &cobra.Command{
		Use:   "show [ROLLOUT | APP]",
		Short: "Show everything about one rollout: plan, verdict, events; the last one if none is named",
		Example: `  gapless show                          # the last one of this directory's app
  gapless show shop                     # the last one of that app
  gapless show 20260102t030405-abcde    # one that gapless history lists`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			id := ""
			if len(args) > 0 {
				id = args[0]
			} else if id, err = c.lastRollout(cmd.Context(), client); err != nil {
				return err
			}
			r, err := client.Rollout(cmd.Context(), id)
			if gapless.CodeOf(err) == gapless.NotFound {
				if list, none := client.Rollouts(cmd.Context(), id); none == nil && len(list) > 0 { // it is an app's name
					r, err = client.Rollout(cmd.Context(), list[0].ID)
				}
			}
			if err != nil {
				if gapless.CodeOf(err) == gapless.NotFound {
					err = gapless.Errorf(gapless.NotFound, "no rollout %q", id).WithHint("list them with: gapless history")
				}
				return err
			}
			events, err := pastEvents(cmd.Context(), client, r)
			if err != nil {
				return err
			}
			back, err := takenBackBy(cmd.Context(), client, r)
			if err != nil {
				return err
			}
			if c.json {
				return c.answer(shown{r, events, back})
			}
			c.printRollout(r, events, back)
			return nil
		},
	}
}

// takenBackBy is the rollout by which the watch took back what r promoted; ""
// if it did not.
func takenBackBy(ctx context.Context, client *api.Client, r gapless.Rollout) (string, error) {
	if r.Outcome != gapless.Promoted {
		return "", nil
	}
	back, err := client.Rollout(ctx, gapless.BackID(r.ID))
	if gapless.CodeOf(err) == gapless.NotFound {
		return "", nil
	}
	return back.ID, err
}

// lastRollout is the newest one of the app of this directory.
func (c *command) lastRollout(ctx context.Context, client *api.Client) (string, error) {
	name, err := c.appName(ctx, client, nil)
	if err != nil {
		return "", err
	}
	list, err := client.Rollouts(ctx, name)
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", gapless.Errorf(gapless.NotFound, "%s had no rollout yet", name).WithHint("begin one with: gapless deploy")
	}
	return list[0].ID, nil
}

// quiet is how long the stream of a rollout that is under way may be silent
// before what came is all of the past.
const quiet = 300 * time.Millisecond

// pastEvents are the events of a rollout so far.
func pastEvents(ctx context.Context, client *api.Client, r gapless.Rollout) ([]gapless.Event, error) {
	past, cancel := context.WithCancel(ctx)
	defer cancel()
	var stop *time.Timer
	if r.Outcome == gapless.Running {
		stop = time.AfterFunc(quiet, cancel)
	}
	var events []gapless.Event
	for e, err := range client.Events(past, r.ID, 0) {
		if err != nil {
			if past.Err() != nil && ctx.Err() == nil {
				return events, nil
			}
			return events, err
		}
		if e.Kind == gapless.EventEvidence {
			continue // of now
		}
		events = append(events, e)
		if stop != nil {
			stop.Reset(quiet)
		}
	}
	return events, nil
}

func (c *command) printRollout(r gapless.Rollout, events []gapless.Event, back string) {
	t := c.term
	t.answerf("%s  %s %s  %s", bold.Render(r.ID), r.App, fromTo(r), kindOf(r))
	line := fmt.Sprintf("  %s · began %s (%s ago)", outcomeWord(r), r.Started.Local().Format("2006-01-02 15:04:05"), age(r.Started))
	if !r.Finished.IsZero() {
		line += " · took " + took(r)
	}
	t.answerf("%s", line)
	if back != "" {
		t.answerf("  taken back later: %s", back)
	}
	if r.By != "" {
		t.answerf("  by %s", plainText(r.By))
	}
	if r.Waiting != "" {
		t.answerf("  waits for a person: %s", plainText(r.Waiting))
		for _, line := range undecidedLines(r) {
			t.answerf("%s", line)
		}
	}
	if r.Reason != "" {
		t.answerf("  why: %s", plainText(r.Reason))
	}
	if r.Hint != "" {
		t.answerf("  hint: %s", plainText(r.Hint))
	}
	if len(r.Plan) > 0 {
		t.answerf("")
		for i, step := range r.Plan {
			t.answerf("%s", planLine(r, i, step.String()))
		}
	}
	if r.Verdict != nil {
		t.answerf("")
		for _, line := range verdictLines(r) {
			t.answerf("%s", line)
		}
		if r.Verdict.Kind == gapless.NotWorse { // what else there is to say stands above and below
			t.answerf("  %s", plainText(r.Verdict.Reason))
		}
		for _, line := range append(explained(r), complaintLines(r, 5)...) {
			t.answerf("%s", line)
		}
	}
	if lines := courseLines(r, 8); len(lines) > 0 {
		t.answerf("")
		for _, line := range lines {
			t.answerf("%s", line)
		}
	}
	if lines := metricLines(r); len(lines) > 0 {
		t.answerf("")
		for _, line := range lines {
			t.answerf("%s", line)
		}
	}
	if lines := copiesLines(r, gapless.MostDifferences); len(lines) > 0 {
		t.answerf("")
		for _, line := range lines {
			t.answerf("%s", line)
		}
	}
	t.answerf("")
	for _, e := range events {
		mark, style := markOf(e)
		text := plainText(e.Message)
		if e.Kind == "instance.log" {
			text = e.Instance + " │ " + text
		}
		t.answerf("  %s %s %s", faint.Render(e.Time.Local().Format("15:04:05.000")), style.Render(mark), text)
	}
}

// planLine is one step of a plan, with a mark at where the rollout is.
func planLine(r gapless.Rollout, i int, text string) string {
	mark := " "
	switch {
	case i < r.Cursor:
		mark = good.Render("✓")
	case i == r.Cursor && r.Outcome == gapless.Running:
		mark = "▸"
	case i == r.Cursor && r.Outcome != gapless.Promoted:
		mark = bad.Render("✗")
	}
	return "  " + mark + " " + number(i+1, len(r.Plan)) + " " + text
}
