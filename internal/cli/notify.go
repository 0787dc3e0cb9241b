package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"gapless"
)

func (c *command) notify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "Try out who is told what happens",
		Long: `Try out who is told what happens to an app: the targets of notify in
gapless.yaml. They belong to a release, as all of that file does: deploy first.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.notifyTest())
	return cmd
}

func (c *command) notifyTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test [app]",
		Short: "Send one message to each target and show what it answered",
		Long: `Send one message to each target of the app, at once and whatever events it asks
for, and show what it answered. Addresses are shown as they are written, without
what is secret in them. The exit code is 1 where a target did not take it.`,
		Example: `  gapless notify test
  gapless notify test shop --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, app, err := c.meant(cmd.Context(), args)
			if err != nil {
				return err
			}
			list, err := client.TestNotify(cmd.Context(), app)
			if err != nil {
				return err
			}
			failed := 0
			for _, a := range list {
				if !a.OK {
					failed++
				}
				if c.json {
					continue
				}
				mark := good.Render("✓")
				if !a.OK {
					mark = bad.Render("✗")
				}
				c.term.answerf("%s %s · told of: %s\n  %s", mark, a.Target, strings.Join(a.Events, ", "), a.Answer)
				if a.Hint != "" {
					c.term.hintf("%s", a.Hint)
				}
			}
			if c.json {
				if err := c.term.json(list); err != nil {
					return err
				}
			}
			if failed > 0 {
				return &exitCode{gapless.Internal}
			}
			return nil
		},
	}
}
