package cli

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

func (c *command) logs() *cobra.Command {
	var req api.LogRequest
	cmd := &cobra.Command{
		Use:   "logs [app]",
		Short: "Show what the instances printed",
		Example: `  gapless logs -f
  gapless logs shop --instance v3/1 --lines 200
  gapless logs shop --instance worker --stream err`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Lines < 0 {
				return gapless.Errorf(gapless.Invalid, "--lines %d is negative", req.Lines).
					WithHint("write how many of the last lines to show, as in --lines 200; 0 with -f shows only new ones")
			}
			client, name, err := c.meant(cmd.Context(), args)
			if err != nil {
				return err
			}
			for line, err := range client.Logs(cmd.Context(), name, req) {
				if err != nil {
					if cmd.Context().Err() != nil {
						return nil // Ctrl-C is how one leaves
					}
					return err
				}
				if err := c.logLine(line); err != nil {
					if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
						return nil // gapless logs | head
					}
					return err
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&req.Follow, "follow", "f", false, "go on with new lines")
	f.IntVarP(&req.Lines, "lines", "n", 100, "how many of the last lines")
	f.StringVarP(&req.Instance, "instance", "i", "", "only of these: v3, v3/1, worker, v3/worker.1")
	f.StringVar(&req.Stream, "stream", "", "only out, or only err")
	return cmd
}

func (c *command) logLine(l api.LogLine) error {
	if c.json {
		return c.term.jsonLine(l)
	}
	mark := "│"
	if l.Stream == "err" {
		mark = bad.Render("┃")
	}
	when := l.Time.Local().Format("15:04:05.000")
	if c.term.piped {
		when = l.Time.UTC().Format(time.RFC3339Nano)
	}
	return c.term.printf("%s %s %s %s\n", faint.Render(when), bold.Render(l.Label), mark, l.Text)
}
