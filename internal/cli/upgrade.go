package cli

import (
	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/daemon"
)

func (c *command) upgrade() *cobra.Command {
	var from string
	var undo bool
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Let what runs go on with this binary, without a gap",
		Long: `Replace keeper, the daemon and the edge by those of another gapless, while apps
serve and rollouts go on: keeper becomes the new binary in the same process,
the daemon starts again, and a new edge takes over before the old one drains.
If one of them does not come up, all go back by themselves.

The installation runs from a copy in $GAPLESS_HOME/bin and keeps the copy
before. The next start of the machine starts the binary that the service
names: replace that one too, as a package manager does, then upgrade.`,
		Example: `  gapless upgrade                    # to the binary that this command is
  gapless upgrade --from ./gapless   # to another one
  gapless upgrade --undo             # to the one before`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := daemon.DefaultHome()
			if err != nil {
				return err
			}
			switch {
			case undo && from != "":
				return gapless.Errorf(gapless.Invalid, "--undo and --from exclude each other")
			case !undo && from == "":
				if from, err = daemon.Executable(); err != nil {
					return err
				}
			}
			done, err := daemon.Upgrade(cmd.Context(), home, from, c.term.sayf)
			if err != nil {
				return err
			}
			switch {
			case c.json:
				return c.term.json(done)
			case !done.Changed:
				c.term.answerf("gapless %s runs here already", done.Version)
			default:
				c.term.answerf("gapless %s → %s", done.Before, done.Version)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "binary to go to (default: the one that this command is)")
	cmd.Flags().BoolVar(&undo, "undo", false, "go back to the binary before")
	return cmd
}
