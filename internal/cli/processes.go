package cli

import (
	"github.com/spf13/cobra"

	"gapless/internal/daemon"
)

// processes are the commands that gapless starts itself by.
func (c *command) processes() []*cobra.Command {
	run := func(f func(cmd *cobra.Command, home daemon.Home) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			idleMemory()
			home, err := daemon.DefaultHome()
			if err != nil {
				return err
			}
			return f(cmd, home)
		}
	}
	return []*cobra.Command{
		{Use: "keeper", Short: "Run in the foreground; for systemd and containers", Args: cobra.NoArgs,
			RunE: run(func(cmd *cobra.Command, home daemon.Home) error {
				return daemon.RunKeeper(cmd.Context(), home, Version)
			})},
		{Use: "daemon", Hidden: true, Args: cobra.NoArgs, RunE: run(func(cmd *cobra.Command, home daemon.Home) error {
			return daemon.Run(cmd.Context(), home, Version)
		})},
		{Use: "edge", Hidden: true, Args: cobra.NoArgs, RunE: run(func(cmd *cobra.Command, home daemon.Home) error {
			return daemon.RunEdge(cmd.Context(), home)
		})},
	}
}
