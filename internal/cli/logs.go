package cli

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
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
  gapless logs shop --instance worker --stream err
  gapless logs shop --access -f`,
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
			lines := 0
			for line, err := range client.Logs(cmd.Context(), name, req) {
				if err != nil {
					if cmd.Context().Err() != nil {
						return nil // Ctrl-C is how one leaves
					}
					return err
				}
				lines++
				if err := c.logLine(line); err != nil {
					if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
						return nil // gapless logs | head
					}
					return err
				}
			}
			if lines == 0 && req.Instance != "" {
				c.noLines(cmd.Context(), client, name, req.Instance)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&req.Follow, "follow", "f", false, "go on with new lines")
	f.IntVarP(&req.Lines, "lines", "n", 100, "how many of the last lines")
	f.StringVarP(&req.Instance, "instance", "i", "", "only of these: v3, v3/1, worker, v3/worker.1")
	f.BoolVar(&req.Access, "access", false, "the lines of the access log instead (access_log in gapless.yaml)")
	f.StringVar(&req.Stream, "stream", "", "only out, or only err")
	return cmd
}

// noLines says why there is perhaps nothing to see of an instance: its name
// may be wrong. Those of former releases are not known any more, so that is
// no error.
func (c *command) noLines(ctx context.Context, client *api.Client, app, instance string) {
	st, err := client.Status(ctx)
	if err != nil {
		return
	}
	var labels []string
	for _, a := range only(st.Apps, app) {
		for _, in := range a.Instances {
			labels = append(labels, in.Label())
		}
	}
	switch near := gapless.Nearest(instance, labels); {
	case slices.Contains(labels, instance):
	case near != "":
		c.term.hintf("%s printed nothing; did you mean %s?", instance, near)
	case len(labels) > 0:
		c.term.hintf("%s printed nothing; what runs: %s", instance, strings.Join(labels, ", "))
	}
}

func (c *command) logLine(l api.LogLine) error {
	if c.json {
		return c.term.jsonLine(l)
	}
	if l.Stream == "access" {
		return c.term.printf("%s\n", l.Text) // with its own time
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
