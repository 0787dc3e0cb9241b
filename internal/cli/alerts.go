package cli

import (
	"time"

	"github.com/spf13/cobra"

	"gapless"
)

func (c *command) alerts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alerts [app]",
		Short: "Show the alerts that fire, and clear one",
		Long: `Show the alerts that Alertmanager sent for the apps here and that fire: since
when, until when they count if nothing more is heard of them, and whether they
keep the app from being deployed.`,
		Example: `  gapless alerts
  gapless alerts clear 5f0c1a92be`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			all, err := client.Alerts(cmd.Context())
			if err != nil {
				return err
			}
			list := []gapless.Alert{}
			for _, a := range all {
				if len(args) == 0 || a.App == args[0] {
					list = append(list, a)
				}
			}
			if c.json {
				return c.term.json(list)
			}
			if len(list) == 0 {
				c.term.answerf("no alert fires")
				return nil
			}
			rows := [][]string{{"ALERT", "APP", "NAME", "SINCE", "COUNTS FOR", "DEPLOYS", "SUMMARY"}}
			for _, a := range list {
				left := max(0, time.Until(a.Until)).Round(time.Second)
				rows = append(rows, []string{a.ID, a.App, a.Name, age(a.Since) + " ago", left.String(), deploysOf(a), a.Summary})
			}
			c.term.table(rows)
			return nil
		},
	}
	cmd.AddCommand(c.alertsClear())
	return cmd
}

// alertLine is an alert in the status of its app.
func alertLine(a gapless.Alert) string {
	text := "alert " + a.Name
	if a.Summary != "" {
		text += " (" + a.Summary + ")"
	}
	text += " fires for " + age(a.Since)
	if a.Blocks {
		text += "; deploys are refused: gapless deploy --despite-alerts, or gapless alerts clear " + a.ID
	}
	return text
}

func deploysOf(a gapless.Alert) string {
	switch {
	case a.Blocks:
		return "refused"
	case a.Cleared:
		return "allowed (cleared)"
	}
	return "allowed"
}

func (c *command) alertsClear() *cobra.Command {
	return &cobra.Command{
		Use:   "clear ID",
		Short: "Keep an alert from refusing deploys, until it fires anew",
		Example: `  gapless alerts
  gapless alerts clear 5f0c1a92be`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			a, err := client.ClearAlert(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(a)
			}
			c.term.answerf("%s %s of %s keeps no deploy from beginning until it fires anew", good.Render("✓"), a.Name, a.App)
			return nil
		},
	}
}
