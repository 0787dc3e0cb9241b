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
		{Use: "keeper", Short: "Run in the foreground; for systemd and containers",
			Long: `Run gapless in the foreground: keeper, which starts the daemon and the edge, and
every app that was up. SIGTERM drains and ends all of it. systemd runs this (see
gapless install), and it can be the first process of a container.`,
			Args: cobra.NoArgs,
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
