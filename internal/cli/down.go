package cli

import (
	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/daemon"
)

func (c *command) down() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "down [app]",
		Short: "Stop an app after its in-flight work ended; --all stops everything",
		Long: `Stop an app: the edge takes no new request for it, what is in flight ends, then
its instances are told to stop. Releases, history and logs stay, and gapless up
starts it again. With --all, gapless's own processes end, too.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all {
				if len(args) > 0 {
					return gapless.Errorf(gapless.Invalid, "--all and an app were given").WithHint("leave one of them out")
				}
				home, err := daemon.DefaultHome()
				if err != nil {
					return err
				}
				if err := daemon.Stop(cmd.Context(), home); err != nil {
					return err
				}
				if c.json {
					return c.term.json(map[string]any{"down": "all"})
				}
				c.term.answerf("%s everything is down", good.Render("✓"))
				return nil
			}
			client, name, err := c.meant(cmd.Context(), args)
			if err != nil {
				return err
			}
			if err := client.Down(cmd.Context(), name); err != nil {
				return err
			}
			if c.json {
				return c.term.json(map[string]any{"down": name})
			}
			c.term.answerf("%s %s is down", good.Render("✓"), name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every app, and gapless's own processes of this GAPLESS_HOME")
	return cmd
}
