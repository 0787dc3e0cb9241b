package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"gapless"
)

// man is hidden: packagers and `make man` use it.
func (c *command) man() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write a man page for each command into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := writeMan(cmd.Root(), args[0], buildTime()); err != nil {
				return gapless.Errorf(gapless.Unavailable, "write the man pages: %w", err).WithHint("name a directory that you may write to")
			}
			pages, err := filepath.Glob(filepath.Join(args[0], "gapless*.1"))
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(map[string]any{"pages": pages})
			}
			c.term.answerf("%s wrote %d man pages to %s; read one with: man -l %s", good.Render("✓"), len(pages), args[0], filepath.Join(args[0], "gapless.1"))
			return nil
		},
	}
}

func writeMan(root *cobra.Command, dir string, at time.Time) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	return doc.GenManTree(root, &doc.GenManHeader{Title: "GAPLESS", Section: "1", Source: "gapless " + Version, Manual: "gapless", Date: &at}, dir)
}

// buildTime is SOURCE_DATE_EPOCH, so that pages can be reproduced, else now.
func buildTime() time.Time {
	if s, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(s, 0).UTC()
	}
	return time.Now()
}
