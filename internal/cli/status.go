package cli

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

// statusSheet is the table of instances.
var statusSheet = sheet{"status", []column{
	{head: "INSTANCE"},
	{head: "STATE", drop: 1},
	{head: "FOR", drop: 4},
	{head: "IN FLIGHT", drop: 5, right: true},
	{head: "REQUESTS", drop: 3, right: true},
	{head: "MEMORY", drop: 2, right: true},
	{head: "RESTARTS", drop: 6, right: true},
	{head: "CPU TIME", wide: true, right: true},
	{head: "PID", wide: true, right: true},
	{head: "ADDRESS", wide: true},
	{head: "ID", wide: true},
}}

func (c *command) status() *cobra.Command {
	var follow bool
	var show tableFlags
	f := watchFlags{onInterrupt: "detach"}
	cmd := &cobra.Command{
		Use:     "status [app]",
		Aliases: []string{"ps"},
		Short:   "Show apps, releases and instances",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := show.pick(statusSheet); err != nil {
				return err
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			st, err := client.Status(cmd.Context())
			if api.NoDaemon(err) && c.whyNoDaemon(err) != err {
				return err
			}
			if api.NoDaemon(err) && len(args) > 0 {
				return gapless.Errorf(gapless.NotFound, "no app %q: nothing runs here", args[0]).WithHint("start an app with: gapless up")
			}
			if api.NoDaemon(err) {
				if c.json {
					return c.term.json(api.Status{Version: Version})
				}
				c.term.answerf("nothing runs here")
				c.term.hintf("start an app with: gapless up")
				return nil
			}
			if err != nil {
				return err
			}
			if len(args) > 0 {
				apps := st.Apps
				if st.Apps = only(st.Apps, args[0]); len(st.Apps) == 0 {
					return noApp(apps, args[0])
				}
			}
			if follow {
				return c.followApp(cmd.Context(), client, st, f)
			}
			if c.json {
				return c.term.json(st)
			}
			return c.printStatus(st, show)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "follow the rollout that is under way")
	show.add(cmd, statusSheet, "leave no column out; also show process IDs, addresses, releases of the past and gapless's own processes")
	return cmd
}

// followApp watches the rollout of the one app that has one.
func (c *command) followApp(ctx context.Context, client *api.Client, st api.Status, f watchFlags) error {
	for _, a := range st.Apps {
		if a.Rollout != nil && a.Rollout.Outcome == gapless.Running {
			return c.watch(ctx, client, *a.Rollout, f)
		}
	}
	return gapless.Errorf(gapless.NotFound, "no rollout is under way").WithHint("see: gapless status")
}

func only(apps []api.AppStatus, name string) []api.AppStatus {
	for _, a := range apps {
		if a.Name == name {
			return []api.AppStatus{a}
		}
	}
	return nil
}

func (c *command) printStatus(st api.Status, show tableFlags) error {
	for _, n := range st.Notes {
		c.term.errorf("%s", n.Message)
		if n.Hint != "" {
			c.term.hintf("%s", n.Hint)
		}
	}
	if len(st.Apps) == 0 {
		c.term.answerf("no apps")
		c.term.hintf("start one with: gapless up")
	}
	for i, a := range st.Apps {
		if i > 0 {
			c.term.answerf("")
		}
		if err := c.printApp(a, show); err != nil {
			return err
		}
	}
	if show.wide {
		c.term.answerf("")
		rows := [][]string{{"PROCESS", "PID", "MEMORY"}}
		for _, p := range st.Procs {
			name := p.Name
			if p.Generation > 0 {
				name += fmt.Sprintf(" (generation %d)", p.Generation)
			}
			rows = append(rows, []string{name, fmt.Sprint(p.PID), megabytes(p.Memory)})
		}
		c.term.table(rows)
		c.term.answerf("gapless %s · home %s · limits: %s", st.Version, st.Home, st.Limits)
	}
	return nil
}

func (c *command) printApp(a api.AppStatus, show tableFlags) error {
	switch {
	case a.Down && len(a.Instances) == 0:
		c.term.answerf("%s  down", bold.Render(a.Name))
		return nil
	case a.Stable == "":
		c.term.answerf("%s  nothing serves yet", bold.Render(a.Name))
	default:
		c.term.answerf("%s  %s  %s", bold.Render(a.Name), weights(a), link(a))
	}
	if a.Traffic != nil {
		for _, line := range trafficLines(*a.Traffic) {
			c.term.answerf("  %s", line)
		}
	}
	if line := directed(a); line != "" {
		c.term.answerf("  %s", line)
	}
	if r := a.Rollout; r != nil && r.Outcome == gapless.Running {
		c.term.answerf("  %s %s under way, step %d of %d", r.Kind, fromTo(*r), min(r.Cursor+1, len(r.Plan)), len(r.Plan))
		if r.Waiting != "" {
			c.term.answerf("  waits for a person: %s", r.Waiting)
			c.term.answerf("  go on: gapless resume %s · all traffic now: gapless promote %s · take it back: gapless abort %s", a.Name, a.Name, a.Name)
			if v := r.Verdict; v != nil && v.Kind == gapless.Undecided && !v.NoData {
				if line := proofsLine(v); line != "" {
					c.term.answerf("  %s", line)
				}
			}
			for _, line := range undecidedLines(*r) {
				c.term.answerf("%s", line)
			}
		}
		for _, line := range append(metricLines(*r), copiesLines(*r, 3)...) {
			c.term.answerf("%s", line)
		}
	}
	if w := a.Watch; w != nil {
		c.term.answerf("  %s", watchLine(*w, time.Now()))
	}
	if o := a.SLO; o != nil && len(o.Burning) > 0 {
		c.term.answerf("  the SLO of %s burns too fast (%s): %d of %d requests failed in the last hour", gapless.Objective(o.Target), strings.Join(o.Burning, ", "), o.Bad, o.Requests)
	}
	for _, al := range a.Alerts {
		c.term.answerf("  %s", alertLine(al))
	}
	var rows [][]string
	var notes []string
	for _, in := range a.Instances {
		state := string(in.State)
		if !in.Healthy {
			state += ", unhealthy"
		}
		row := []string{in.Label(), state, age(in.Since), fmt.Sprint(in.InFlight), fmt.Sprint(in.Requests), megabytes(in.Memory), fmt.Sprint(in.Restarts),
			fmt.Sprintf("%.1f s", in.CPU), fmt.Sprint(in.PID), in.Address, in.ID}
		rows = append(rows, row)
		if in.Reason != "" {
			notes = append(notes, fmt.Sprintf("  %s: %s", in.Label(), in.Reason))
		}
	}
	if err := c.term.sheet(statusSheet, show, rows); err != nil {
		return err
	}
	for _, n := range append(notes, certNotes(a)...) {
		c.term.answerf("%s", n)
	}
	for _, t := range a.Releases {
		if show.wide || presentRelease(a, t.Release) {
			c.term.answerf("  %s  %s", t.Release, figures(t))
		}
	}
	return nil
}

// presentRelease reports whether a release serves, is to, or has instances:
// one that was taken back long ago only has counters.
func presentRelease(a api.AppStatus, name string) bool {
	return name == a.Stable || a.Rollout != nil && a.Rollout.Outcome == gapless.Running && name == a.Rollout.To ||
		slices.ContainsFunc(a.Weights, func(w gapless.Weight) bool { return w.Release == name }) ||
		slices.ContainsFunc(a.Instances, func(in api.InstanceStatus) bool { return in.Release == name })
}

// watchLine tells of a release that was promoted and is watched still.
func watchLine(w api.Watch, now time.Time) string {
	left := gapless.Duration(max(0, w.Until.Sub(now)).Round(time.Second))
	return fmt.Sprintf("%s is watched for another %s: if it breaks, %s, which stays warm, serves again", w.Release, left, w.Before)
}

func weights(a api.AppStatus) string {
	if len(a.Weights) == 0 {
		return a.Stable
	}
	parts := make([]string, 0, len(a.Weights))
	for _, w := range a.Weights {
		parts = append(parts, w.Release+" "+gapless.Percent(w.Share))
	}
	return strings.Join(parts, " · ")
}

// directed says what decides beside the coin, "" if nothing does.
func directed(a api.AppStatus) string {
	var parts []string
	if s := a.Sessions; s != nil && s.Sticky {
		parts = append(parts, "sticky for "+s.TTL.String())
	}
	if s := a.Sessions; s != nil && s.Skew {
		parts = append(parts, "pages keep their release")
	}
	for _, m := range a.Match {
		var says []string
		if m.Header != "" {
			says = append(says, m.Header+": "+m.Value)
		}
		if m.Cookie != "" {
			says = append(says, "cookie "+m.Cookie+"="+m.Content)
		}
		parts = append(parts, strings.Join(says, " and ")+" goes to "+m.Release)
	}
	return strings.Join(parts, " · ")
}

// link is where an app answers, as one would type it.
func link(a api.AppStatus) string {
	scheme, listen, usual := address(a)
	if listen == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	if len(a.Hosts) > 0 {
		host = a.Hosts[0]
	}
	if port != usual {
		host = net.JoinHostPort(host, port)
	}
	return scheme + host + a.Path
}

func milliseconds(us uint64) string {
	return fmt.Sprintf("%.4g ms", float64(us)/1000)
}

func megabytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d MB", (n+1<<19)>>20)
}

func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	switch d := time.Since(t); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
