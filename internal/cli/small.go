package cli

import (
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

func (c *command) restart() *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use:   "restart [app]",
		Short: "Replace every instance by a new one of the same release, without a gap",
		Long: `Replace every instance by a new one of the release that serves, half of them at
a time, as a deployment would: the new ones are ready before old ones drain.
Files that changed since the last deploy do not matter; gapless deploy ships them.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.roll(cmd, "restart", f, args, func(client *api.Client, app string) (gapless.Rollout, error) {
				return client.Restart(cmd.Context(), app)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (c *command) scale() *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use:   "scale [app] N | PROCESS=N",
		Short: "Change the number of instances",
		Example: `  gapless scale 4
  gapless scale shop worker=2`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := scaleRequest(args[len(args)-1])
			if err != nil {
				return err
			}
			return c.roll(cmd, "scale", f, args[:len(args)-1], func(client *api.Client, app string) (gapless.Rollout, error) {
				return client.Scale(cmd.Context(), app, req)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func scaleRequest(arg string) (api.ScaleRequest, error) {
	process, number, named := strings.Cut(arg, "=")
	if !named {
		process, number = gapless.WebProcess, arg
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		return api.ScaleRequest{}, gapless.Errorf(gapless.Invalid, "%q is not a number of instances", arg).
			WithHint("write gapless scale 4, or gapless scale worker=2")
	}
	return api.ScaleRequest{Process: process, Instances: n}, nil
}

// roll asks for a rollout of a running app and watches it.
func (c *command) roll(cmd *cobra.Command, kind string, f watchFlags, args []string, ask func(*api.Client, string) (gapless.Rollout, error)) error {
	if err := f.check(); err != nil {
		return err
	}
	client, name, err := c.meant(cmd.Context(), args)
	if err != nil {
		return err
	}
	r, err := c.begin(cmd.Context(), client, name, kind, func() (gapless.Rollout, error) { return ask(client, name) })
	if err != nil {
		return err
	}
	return c.watch(cmd.Context(), client, r, f)
}

// releasesSheet is the table of releases.
var releasesSheet = sheet{"releases", []column{
	{head: "RELEASE"},
	{head: "ID", drop: 3},
	{head: "MADE", drop: 1},
	{head: "RUNTIME", drop: 2},
	{head: "RUNS", drop: 4, text: true},
}}

func (c *command) releases() *cobra.Command {
	var show tableFlags
	cmd := &cobra.Command{
		Use:   "releases [app]",
		Short: "List an app's releases, newest first",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, name, err := c.meant(cmd.Context(), args)
			if err != nil {
				return err
			}
			list, err := client.Releases(cmd.Context(), name)
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(list)
			}
			var rows [][]string
			for _, r := range list {
				rows = append(rows, []string{r.Name, r.ID, age(r.Created) + " ago", strings.TrimSpace(r.Runtime.Name + " " + r.Runtime.Version), runs(r)})
			}
			return c.term.sheet(releasesSheet, show, rows)
		},
	}
	show.add(cmd, releasesSheet, "leave no column out")
	return cmd
}

func runs(r gapless.Release) string {
	names := make([]string, 0, len(r.Commands))
	for name := range r.Commands {
		names = append(names, name)
	}
	sort.Strings(names)
	for i, name := range names {
		names[i] = name + ": " + strings.Join(r.Commands[name], " ")
	}
	return strings.Join(names, "; ")
}
