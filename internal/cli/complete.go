package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/daemon"
)

// completeWithin bounds how long a person waits for names after a tab. A
// daemon that does not answer in time, or does not run, completes nothing; it
// is never started or waited for.
const completeWithin = 300 * time.Millisecond

// offers are what may stand at one place of the command line.
type offers = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

func (c *command) completion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the script that completes gapless in your shell, with the names of what runs",
		Long: `Print the script that completes gapless in your shell. Names of apps, releases,
instances and rollouts are asked of the daemon that runs, for at most 300 ms.`,
		Example: `  source <(gapless completion bash)                        # this shell
  gapless completion bash > /etc/bash_completion.d/gapless # every shell
  gapless completion zsh > "${fpath[1]}/_gapless"
  gapless completion fish > ~/.config/fish/completions/gapless.fish`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(os.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(os.Stdout)
			case "fish":
				return root.GenFishCompletion(os.Stdout, true)
			}
			err := gapless.Errorf(gapless.Invalid, "no completion for %q", args[0])
			if near := gapless.Nearest(args[0], cmd.ValidArgs); near != "" {
				return err.WithHint("did you mean %s?", near)
			}
			return err.WithHint("there is one for bash, zsh and fish")
		},
	}
}

// complete gives a command the completion of its arguments and flags.
func (c *command) complete(cmd *cobra.Command) {
	if f := c.arguments(cmd.Name()); f != nil && cmd.ValidArgsFunction == nil && cmd.HasParent() && !cmd.Parent().HasParent() {
		cmd.ValidArgsFunction = f
	}
	if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 && cmd.Runnable() {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for name, f := range map[string]offers{
		"on-interrupt": listOf([]string{"detach\tlet the rollout go on", "abort\ttake the rollout back"}),
		"stream":       listOf([]string{"out", "err"}),
		"json":         listOf([]string{"object\tone answer", "stream\tevery event as a line, the answer as the last"}),
		"instance":     c.offerInstances,
		"name":         c.offerOnlyApps,
		"timeout":      listOf([]string{"1m", "10m", "1h"}),
		"listen":       listOf([]string{":8080", ":80"}),
		"env":          cobra.NoFileCompletions,
		"instances":    cobra.NoFileCompletions,
		"lines":        cobra.NoFileCompletions,
		"stop-timeout": cobra.NoFileCompletions,
	} {
		if name == "name" && (cmd.Name() == "install" || cmd.Name() == "uninstall") {
			f = cobra.NoFileCompletions // of a service
		}
		if cmd.Flags().Lookup(name) != nil || cmd.PersistentFlags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, f) // an error: the command has one of its own
		}
	}
}

// arguments are the names that a command of the first level takes.
func (c *command) arguments(name string) offers {
	switch name {
	case "status", "logs", "releases", "history", "promote", "pause", "resume", "abort", "restart", "down", "top":
		return c.offerApps
	case "rollback":
		return c.offerRollback
	case "scale":
		return c.offerScale
	case "show":
		return c.offerRollouts
	case "up", "deploy", "plan":
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"js", "mjs", "cjs", "ts"}, cobra.ShellCompDirectiveFilterFileExt
		}
	case "restore":
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"tar"}, cobra.ShellCompDirectiveFilterFileExt
		}
	case "backup":
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		}
	}
	return nil
}

func listOf(values []string) offers {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values, cobra.ShellCompDirectiveNoFileComp
	}
}

// running asks the daemon, if one runs, what there is.
func running[T any](cmd *cobra.Command, ask func(context.Context, *api.Client) (T, error)) (T, bool) {
	var none T
	home, err := daemon.DefaultHome()
	if err != nil {
		return none, false
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	answer, err := ask(ctx, api.NewClient(home.APISocket())) // one that does not wait for a daemon
	return answer, err == nil
}

func statusOf(cmd *cobra.Command) ([]api.AppStatus, bool) {
	st, ok := running(cmd, func(ctx context.Context, client *api.Client) (api.Status, error) { return client.Status(ctx) })
	return st.Apps, ok
}

func offerOf(apps []api.AppStatus) []string {
	names := make([]string, len(apps))
	for i, a := range apps {
		what := a.Stable + " serves"
		if a.Down || a.Stable == "" {
			what = "down"
		}
		names[i] = a.Name + "\t" + what
	}
	return names
}

// offerApps are the apps, for commands that take one.
func (c *command) offerApps(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.offerOnlyApps(cmd, args, typed)
}

func (c *command) offerOnlyApps(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	apps, _ := statusOf(cmd)
	return offerOf(apps), cobra.ShellCompDirectiveNoFileComp
}

// offerRollback are apps, and releases of the one that is meant.
func (c *command) offerRollback(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 || len(args) == 1 && releaseName.MatchString(args[0]) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found, _ := running(cmd, func(ctx context.Context, client *api.Client) ([]string, error) {
		var names []string
		app := ""
		if len(args) == 1 {
			app = args[0]
		} else {
			st, err := client.Status(ctx)
			if err != nil {
				return nil, err
			}
			names = offerOf(st.Apps)
			if a := meantIn(st.Apps); a != nil {
				app = a.Name
			}
		}
		if app == "" {
			return names, nil
		}
		list, err := client.Releases(ctx, app)
		if err != nil {
			return names, nil
		}
		for _, r := range list {
			names = append(names, r.Name+"\tof "+app+", made "+age(r.Created)+" ago")
		}
		return names, nil
	})
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// meantIn is the only app of this directory, or the only one at all.
func meantIn(apps []api.AppStatus) *api.AppStatus {
	if a := startedHere(apps); a != nil {
		return a
	}
	if len(apps) == 1 {
		return &apps[0]
	}
	return nil
}

// offerScale are apps, and "worker=" for the processes of the one that is meant.
func (c *command) offerScale(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	apps, _ := statusOf(cmd)
	var names []string
	a := meantIn(apps)
	switch len(args) {
	case 0:
		names = offerOf(apps)
	case 1:
		if found := only(apps, args[0]); len(found) > 0 {
			a = &found[0]
		} else {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	default:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if a == nil {
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	for _, process := range sortedKeys(a.Counts) {
		names = append(names, fmt.Sprintf("%s=\tof %s, now %d", process, a.Name, a.Counts[process]))
	}
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// offerInstances are labels of instances, and what is short for several of them.
func (c *command) offerInstances(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	apps, _ := statusOf(cmd)
	if len(args) > 0 {
		apps = only(apps, args[0])
	} else if a := meantIn(apps); a != nil {
		apps = []api.AppStatus{*a}
	}
	var labels, groups []string
	for _, a := range apps {
		for _, in := range a.Instances {
			labels = append(labels, fmt.Sprintf("%s\t%s %s", in.Label(), a.Name, in.State))
			for _, group := range []string{in.Release + "\tevery instance of it", in.Process + "\tevery instance of it"} {
				if !slices.Contains(groups, group) && !strings.HasPrefix(group, gapless.WebProcess+"\t") {
					groups = append(groups, group)
				}
			}
		}
	}
	return append(labels, groups...), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// offerRollouts are the rollouts of every app, newest first.
func (c *command) offerRollouts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found, _ := running(cmd, func(ctx context.Context, client *api.Client) ([]gapless.Rollout, error) {
		st, err := client.Status(ctx)
		if err != nil {
			return nil, err
		}
		var all []gapless.Rollout
		for _, a := range st.Apps {
			list, err := client.Rollouts(ctx, a.Name)
			if err != nil {
				break // what is known is offered
			}
			all = append(all, list[:min(len(list), 50)]...)
		}
		slices.SortStableFunc(all, func(a, b gapless.Rollout) int { return b.Started.Compare(a.Started) })
		return all, nil
	})
	ids := make([]string, len(found))
	for i, r := range found {
		ids[i] = fmt.Sprintf("%s\t%s %s %s, %s, %s ago", r.ID, r.App, r.Kind, fromTo(r), outcomeWord(r), age(r.Started))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
