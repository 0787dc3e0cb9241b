package cli

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"gapless/internal/daemon"
)

func (c *command) backup() *cobra.Command {
	var withKey bool
	cmd := &cobra.Command{
		Use:   "backup [FILE]",
		Short: "Save what gapless knows in one file; nothing has to be stopped",
		Long: `Save the database, the secrets of all apps and the environments of all releases
in one tar file that only its owner may read. Secrets and environments are
encrypted in it, as they are in GAPLESS_HOME; the key to them, secrets.key, is
in it only --with-key. Keep a copy of the key apart from the backups: without
it they cannot be opened on another machine. The release trees are not in a
backup. Without FILE it is made in this directory.

gapless also saves the database by itself once a day and keeps the last three
of these, in $GAPLESS_HOME/backups.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := daemon.DefaultHome()
			if err != nil {
				return err
			}
			file := "gapless-backup-" + time.Now().UTC().Format("20060102T150405Z") + ".tar"
			if len(args) > 0 {
				file = args[0]
			}
			if file, err = filepath.Abs(file); err != nil {
				return err
			}
			size, err := daemon.Backup(cmd.Context(), home, file, Version, withKey)
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(map[string]any{"file": file, "size": size, "with_key": withKey})
			}
			c.term.answerf("%s saved in %s (%s)", good.Render("✓"), file, kilobytes(size))
			if withKey {
				c.term.hintf("whoever has this file can read the secrets in it")
			} else {
				c.term.hintf("keep a copy of %s apart from it: the secrets in it cannot be opened otherwise", home.VaultKey())
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&withKey, "with-key", false, "put the key to secrets and environments in, too")
	return cmd
}

func kilobytes(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%d kB", (n+1023)>>10)
	}
	return megabytes(n)
}
