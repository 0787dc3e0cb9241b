package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/daemon"
)

// planned is what `gapless plan --json` prints.
type planned struct {
	api.Plan
	Files *fileChanges `json:"files,omitempty"` // against the tree of From; absent if it cannot be read
}

// changes reports whether a deploy would change something, as far as can be seen.
func (p planned) changes() bool {
	return p.From == "" || len(p.Changes) > 0 || p.Files == nil || p.Files.any()
}

func (c *command) plan() *cobra.Command {
	var f appFlags
	var detailed bool
	cmd := &cobra.Command{
		Use:   "plan [script | -- command …]",
		Short: "Show what a deploy would do, step by step, and change nothing",
		Long: `Show what a deploy of this directory would do: the steps exactly as they would
run, and what is different from the release that serves.

Exit codes: 0, with --detailed-exitcode 10 if a deploy would change something.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			earlier, err := c.earlier(cmd.Context(), "plan", &f, args, cmd.ArgsLenAtDash() >= 0)
			if err != nil {
				return err
			}
			app, env, err := f.load(args, cmd.ArgsLenAtDash() >= 0, earlier)
			if err != nil {
				return err
			}
			if err := c.refuseSecrets(cmd.Context(), client, app.Name, &f); err != nil {
				return err
			}
			plan, err := client.Plan(cmd.Context(), api.DeployRequest{Kind: "deploy", App: *app, Env: env})
			if err != nil {
				return err
			}
			p := planned{Plan: plan, Files: c.files(cmd.Context(), client, app, plan.From)}
			if c.json {
				err = c.answer(p)
			} else {
				c.printPlan(p)
			}
			if err == nil && detailed && p.changes() {
				return &exitCode{gapless.Changes}
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 10 if a deploy would change something")
	return cmd
}

// files compares the directory with the tree of the release that serves; nil
// if there is none, or it cannot be read.
func (c *command) files(ctx context.Context, client *api.Client, app *gapless.App, from string) *fileChanges {
	if from == "" || client.Remote() {
		return nil
	}
	list, err := client.Releases(ctx, app.Name)
	if err != nil {
		return nil
	}
	home, err := daemon.DefaultHome()
	if err != nil {
		return nil
	}
	for _, r := range list {
		if r.Name == from {
			return compare(app.Source, r.Tree, app.Build != "", append([]string{string(home)}, app.Shared...), r.Spec.Assets)
		}
	}
	return nil
}

func (c *command) printPlan(p planned) {
	t := c.term
	switch {
	case p.From == "":
		t.answerf("%s  nothing serves yet; this would be the first release", bold.Render(p.App))
	case !p.changes():
		t.answerf("%s  nothing differs from %s", bold.Render(p.App), p.From)
	default:
		t.answerf("%s  different from %s, which serves:", bold.Render(p.App), p.From)
		for _, change := range p.Changes {
			t.answerf("  ~ %s", plainText(change))
		}
		if p.Files == nil {
			t.answerf("  ? the files could not be compared")
		} else {
			p.Files.print(t)
		}
	}
	t.answerf("a deploy would")
	for i, text := range p.Text {
		t.answerf("  %s %s", number(i+1, len(p.Text)), plainText(text))
	}
}

// number is i as wide as n.
func number(i, n int) string { return fmt.Sprintf("%*d.", len(fmt.Sprint(n)), i) }

// print lists a few of the files.
func (f *fileChanges) print(t *term) {
	for _, part := range []struct {
		mark, what string
		names      []string
	}{{"~", "changed", f.Changed}, {"+", "new", f.Added}, {"-", "gone", f.Removed}} {
		const most = 5
		n := len(part.names)
		if n == 0 {
			continue
		}
		list := strings.Join(part.names[:min(n, most)], ", ")
		if n > most {
			list += fmt.Sprintf(" and %d more", n-most)
		}
		t.answerf("  %s %d %s %s: %s", part.mark, n, plural("file", n), part.what, plainText(list))
	}
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
