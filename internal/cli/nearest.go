package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gapless"
)

// finish gives every command of the tree what all have in common: what was
// mistyped is refused with the nearest thing that exists, values are completed.
func (c *command) finish(root *cobra.Command) {
	root.SetFlagErrorFunc(flagError)
	for _, cmd := range commands(root) {
		if cmd.HasSubCommands() && !cmd.Runnable() {
			cmd.Args = cobra.ArbitraryArgs
			cmd.RunE = group
			cmd.DisableFlagsInUseLine = true
		}
		c.complete(cmd)
	}
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, cmd := range root.Commands() {
			if slices.Contains(g.names, cmd.Name()) {
				cmd.GroupID = g.title
			}
		}
	}
}

// groups are how the help lists commands; what is in none comes last.
var groups = []struct {
	title string
	names []string
}{
	{"Ship:", []string{"up", "plan", "deploy", "rollback", "restart", "scale", "run-once", "exec", "down"}},
	{"Look:", []string{"status", "top", "logs", "releases", "history", "show", "audit", "certs", "metrics", "alerts", "judge"}},
	{"Steer a rollout:", []string{"pause", "resume", "promote", "abort"}},
	{"Steer traffic:", []string{"hold", "maintenance"}},
	{"Configure:", []string{"init", "import", "config", "secrets", "notify"}},
	{"Gapless itself:", []string{"install", "uninstall", "upgrade", "backup", "restore", "keeper", "proxy", "demo", "api", "token", "completion", "version"}},
}

// commands is the tree of commands as a list, parents first, else by name.
func commands(root *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{root}
	subs := slices.SortedFunc(slices.Values(root.Commands()), func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	for _, sub := range subs {
		list = append(list, commands(sub)...)
	}
	return list
}

// group runs a command that only has others below it: help, or what was mistyped.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := gapless.Errorf(gapless.Invalid, "unknown command %q for %q", args[0], cmd.CommandPath())
	var known []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			known = append(append(known, sub.Name()), sub.Aliases...)
		}
	}
	if near := gapless.Nearest(args[0], known); near != "" {
		return err.WithHint("did you mean %s?", near)
	}
	return err.WithHint("see: %s --help", cmd.CommandPath())
}

// flagError says what is wrong with a flag, and which one was perhaps meant.
func flagError(cmd *cobra.Command, err error) error {
	if gapless.HintOf(err) != "" { // the flag's own words
		return err
	}
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	wrong := gapless.Errorf(gapless.Invalid, "%s", err)
	if unknown {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				known = append(known, f.Name)
			}
		})
		if near := gapless.Nearest(name, known); near != "" {
			return wrong.WithHint("did you mean --%s?", near)
		}
	}
	return wrong.WithHint("see: %s --help", cmd.CommandPath())
}
