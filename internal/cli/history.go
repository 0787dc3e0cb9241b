package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gapless"
)

// historySheet is the table of rollouts.
var historySheet = sheet{"history", []column{
	{head: "ROLLOUT"},
	{head: "KIND", drop: 3},
	{head: "RELEASES", drop: 1},
	{head: "OUTCOME"},
	{head: "BEGAN", drop: 2},
	{head: "TOOK", drop: 4},
	{head: "BY", drop: 6, text: true},
	{head: "WHY", drop: 5, text: true},
}}

func (c *command) history() *cobra.Command {
	var show tableFlags
	cmd := &cobra.Command{
		Use:   "history [app]",
		Short: "List an app's rollouts, newest first",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, name, err := c.meant(cmd.Context(), args)
			if err != nil {
				return err
			}
			list, err := client.Rollouts(cmd.Context(), name)
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(list)
			}
			var rows [][]string
			for _, r := range list {
				rows = append(rows, []string{r.ID, r.Kind, fromTo(r), outcomeWord(r), age(r.Started) + " ago", took(r), plainText(r.By), plainText(r.Reason)})
			}
			if err := c.term.sheet(historySheet, show, rows); err != nil {
				return err
			}
			c.term.hintf("everything about one of them: gapless show ROLLOUT")
			return nil
		},
	}
	show.add(cmd, historySheet, "leave no column out")
	return cmd
}

// outcomeWord is how a rollout ended, as people say it.
func outcomeWord(r gapless.Rollout) string {
	switch {
	case r.Outcome == gapless.TakenBack:
		return "taken back"
	case r.Outcome == gapless.Running && r.Waiting != "":
		return "waits"
	}
	return string(r.Outcome)
}

// took is how long a rollout lasted, or lasts.
func took(r gapless.Rollout) string {
	end := r.Finished
	if end.IsZero() {
		end = time.Now()
	}
	d := end.Sub(r.Started)
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
