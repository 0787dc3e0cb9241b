package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

func (c *command) audit() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "audit [app]",
		Short: "Show who asked for which change, oldest first",
		Long: `Show who asked for which change: of every app, or of one. On the machine itself
the user is told by the kernel, over the network it is the name of the token.
What was refused is listed, too. With --json each entry is one line (NDJSON).`,
		Example: `  gapless audit --since 24h
  gapless audit shop --json >shop-audit.ndjson`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.AuditRequest{}
			if len(args) > 0 {
				req.App = args[0]
			}
			var err error
			if req.Since, err = sinceTime(since, time.Now()); err != nil {
				return err
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			rows := [][]string{{"WHEN", "BY", "WHAT", "APP", "DETAIL", "OUTCOME"}}
			for a, err := range client.Audit(cmd.Context(), req) {
				if err != nil {
					return err
				}
				if c.json {
					if err := c.term.jsonLine(a); err != nil {
						return err
					}
					continue
				}
				rows = append(rows, []string{a.Time.Local().Format("2006-01-02 15:04:05"), plainText(a.Caller.String()), a.Verb, plainText(a.App), plainText(actDetail(a)), outcomeOf(a)})
			}
			if !c.json {
				c.term.table(rows)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only what is not older: 24h, 7d, or a time such as 2026-01-31T12:00:00Z")
	return cmd
}

// sinceTime reads a time, or how long ago it is.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := days(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, gapless.Errorf(gapless.Invalid, "--since %q is not a time", text).
		WithHint("write 24h, 7d, 2026-01-31 or 2026-01-31T12:00:00Z")
}

func actDetail(a gapless.Act) string {
	return strings.TrimSpace(a.Detail + " " + a.Rollout)
}

func outcomeOf(a gapless.Act) string {
	if a.Outcome == gapless.ActOK {
		return a.Outcome
	}
	return a.Outcome + ": " + plainText(a.Message)
}
