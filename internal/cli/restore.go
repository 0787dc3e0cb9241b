package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless/internal/daemon"
)

func (c *command) restore() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Go back to what a backup knows; everything must be down",
		Long: `Put a backup in the place of what gapless knows now, which is set aside in
$GAPLESS_HOME/before-restore-<time>. The file is read and checked before
anything is changed. While an app runs it is refused: gapless would lose what
it knows of it.

Release trees are not part of a backup: they stay as they are. The key to
secrets and environments is part of it if it was made --with-key; otherwise the
one that is here stays.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := daemon.DefaultHome()
			if err != nil {
				return err
			}
			res, err := daemon.Restore(cmd.Context(), home, args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(res)
			}
			c.term.answerf("%s restored, as of %s (%s ago)", good.Render("✓"), res.Created.UTC().Format(time.RFC3339), age(res.Created))
			if res.Aside != "" {
				c.term.answerf("  what was known before is in %s", res.Aside)
			}
			if len(res.Missing) > 0 {
				c.term.hintf("no release tree is here of: %s; ship them again with: gapless deploy", strings.Join(res.Missing, ", "))
			}
			if len(res.Locked) > 0 {
				c.term.hintf("the key that is here does not open the secrets of: %s; put secrets.key in GAPLESS_HOME before they start, or set them again and deploy", strings.Join(res.Locked, ", "))
			}
			switch {
			case len(res.Apps) > 0:
				c.term.hintf("%s comes up again with gapless itself: systemctl start gapless, or gapless up in the directory of an app", strings.Join(res.Apps, ", "))
			default:
				c.term.hintf("start an app with: gapless up")
			}
			return nil
		},
	}
}
