package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

// The commands that keep the traffic of an app waiting, or away.

func (c *command) hold() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Keep an app's new requests waiting for a moment",
		Long: `Keep an app's new requests waiting, as while a database is switched over. Each
waits up to the app's hold (5 s by default), then gets 503 with Retry-After.
What is in flight goes on, and rollouts do, too. For longer: gapless maintenance.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(c.switches("on", &cobra.Command{
		Short: "Let new requests wait", Example: `  gapless hold on shop && ./switch-over.sh; gapless hold off shop`,
	}, (*api.Client).Hold), c.switches("off", &cobra.Command{
		Short: "Let requests go on", Long: "Let requests go on: those that wait, and new ones.",
	}, (*api.Client).Unhold))
	return cmd
}

func (c *command) maintenance() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "maintenance",
		Short: "Answer an app's requests with a page while something is done to it",
		Long: `Answer an app's requests with 503, Retry-After and a page while something is done
to it. What is in flight goes on, instances keep running and being probed, and
rollouts go on. It stays on through deployments, upgrades and restarts.`,
		Args: cobra.NoArgs,
	}
	var page string
	var m gapless.Maintenance
	var after time.Duration
	on := c.switches("on", &cobra.Command{
		Short: "Answer with 503 and a page, but for allowed addresses",
		Example: `  gapless maintenance on
  gapless maintenance on shop --page sorry.html --allow 203.0.113.7 --allow 10.0.0.0/8 --retry-after 10m`,
	}, func(client *api.Client, ctx context.Context, app string) (api.Traffic, error) {
		if after < 0 || after > 0 && after < time.Second {
			return api.Traffic{}, gapless.Errorf(gapless.Invalid, "--retry-after %s is less than a second", after).WithHint("write 1s, 10m, 1h")
		}
		m.RetryAfter = gapless.Duration(after)
		if err := readPage(&m, page); err != nil {
			return api.Traffic{}, err
		}
		if err := m.Validate(); err != nil {
			return api.Traffic{}, err
		}
		return client.StartMaintenance(ctx, app, m)
	})
	on.Flags().StringVar(&page, "page", "", "a file of at most 64 KiB: "+strings.Join(gapless.PageExtensions(), ", "))
	on.Flags().StringArrayVar(&m.Allow, "allow", nil, "an address or network that is let through; may be repeated")
	on.Flags().DurationVar(&after, "retry-after", 0, "when clients are asked to come back (default 1m)")
	cmd.AddCommand(on, c.switches("off", &cobra.Command{
		Short: "Let requests through again", Example: "  gapless maintenance off shop",
	}, (*api.Client).EndMaintenance))
	return cmd
}

// readPage reads the page of a maintenance.
func readPage(m *gapless.Maintenance, file string) error {
	if file == "" {
		return nil
	}
	m.Type = gapless.PageType(filepath.Ext(file))
	if m.Type == "" {
		return gapless.Errorf(gapless.Invalid, "%s is of no kind that a page can be", file).WithHint("its name must end in %s", strings.Join(gapless.PageExtensions(), ", "))
	}
	info, err := os.Stat(file)
	if err != nil {
		return gapless.Errorf(gapless.Invalid, "read the page: %w", err)
	}
	if !info.Mode().IsRegular() {
		return gapless.Errorf(gapless.Invalid, "read the page: %s is not a file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return gapless.Errorf(gapless.Invalid, "read the page: %w", err)
	}
	defer func() { _ = f.Close() }()
	m.Page, err = io.ReadAll(io.LimitReader(f, gapless.MaxPage+1))
	switch {
	case err != nil:
		return gapless.Errorf(gapless.Invalid, "read the page: %w", err)
	case len(m.Page) == 0:
		return gapless.Errorf(gapless.Invalid, "read the page: %s is empty", file)
	case len(m.Page) > gapless.MaxPage:
		return gapless.Errorf(gapless.Invalid, "%s is larger than %d KiB", file, gapless.MaxPage>>10).WithHint("let it load its images and styles from elsewhere")
	}
	return nil
}

// switches completes a command that changes what becomes of an app's traffic.
func (c *command) switches(word string, cmd *cobra.Command, change func(*api.Client, context.Context, string) (api.Traffic, error)) *cobra.Command {
	cmd.Use = word + " [app]"
	cmd.Args = cobra.MaximumNArgs(1)
	cmd.ValidArgsFunction = c.arguments("pause")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, name, err := c.meant(cmd.Context(), args)
		if err != nil {
			return err
		}
		t, err := change(client, cmd.Context(), name)
		if err != nil {
			return err
		}
		if c.json {
			return c.answer(t)
		}
		lines := trafficLines(t)
		if len(lines) == 0 {
			lines = []string{"requests of " + name + " go through"}
		}
		for _, line := range lines {
			c.term.answerf("%s %s", good.Render("✓"), line)
		}
		return nil
	}
	return cmd
}

// trafficLines say what a person did to the traffic of an app.
func trafficLines(t api.Traffic) []string {
	var out []string
	if m := t.Maintenance; m != nil {
		line := t.App + " is in maintenance since " + m.Since
		if len(m.Allow) > 0 {
			line += ", but for " + strings.Join(m.Allow, ", ")
		}
		out = append(out, line+"; end it: gapless maintenance off "+t.App)
	}
	if t.Held {
		out = append(out, "new requests of "+t.App+" wait; let them go on: gapless hold off "+t.App)
	}
	return out
}
