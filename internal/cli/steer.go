package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

// The commands that steer a rollout that is under way.

func (c *command) promote() *cobra.Command {
	return c.steer(&cobra.Command{
		Use:   "promote [app]",
		Short: "Give the new release all traffic now: skip what is left of judging and pausing",
		Long: `Give the new release all traffic now and finish its rollout: what is left of
judging and pausing is skipped. It still has to be ready, and is still taken
back if it crashes on the way. What is not proven of it yet is told: that is
what you accept.`,
	}, func(client *api.Client, ctx context.Context, name string) (gapless.Rollout, error) {
		r, err := client.Promote(ctx, name)
		if text := accepted(r); err == nil && text != "" {
			c.term.sayf("  %s", text)
		}
		return r, err
	})
}

func (c *command) resume() *cobra.Command {
	return c.steer(&cobra.Command{
		Use:   "resume [app]",
		Short: "Go on with a rollout that waits, with its next step",
		Long: `Go on with a rollout that waits for a person or was paused, with its next step.
To skip all steps: gapless promote.`,
	}, (*api.Client).Resume)
}

func (c *command) abort() *cobra.Command {
	return c.steer(&cobra.Command{
		Use:   "abort [app]",
		Short: "Take the rollout that is under way back",
		Long: `Take the rollout that is under way back: traffic goes back to the old release,
then the new one is stopped. Exit code 3 says that this is what happened; 1 that
nothing of the new release had started, as while it is still being made. Once
the new release is promoted it stays, and what is left of the plan is left out
(exit code 0); going back then is: gapless rollback.`,
	}, (*api.Client).Abort)
}

func (c *command) pause() *cobra.Command {
	return &cobra.Command{
		Use:   "pause [app]",
		Short: "Hold the rollout that is under way where it is",
		Long: `Hold the rollout that is under way where it is. Traffic stays as it is, and a
new release that is worse is still taken back.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, name, err := c.meant(cmd.Context(), args)
			if err != nil {
				return err
			}
			r, err := client.Pause(cmd.Context(), name)
			if err != nil {
				return err
			}
			if c.json {
				return c.answer(r)
			}
			c.term.answerf("%s the %s of %s (%s) is paused at %s", good.Render("✓"), r.Kind, r.App, fromTo(r), gapless.Percent(r.Weight))
			c.term.hintf("go on: gapless resume %s · all traffic now: gapless promote %s · take it back: gapless abort %s", name, name, name)
			return nil
		},
	}
}

// steer completes a command that changes the rollout under way and watches
// what comes of it.
func (c *command) steer(cmd *cobra.Command, change func(*api.Client, context.Context, string) (gapless.Rollout, error)) *cobra.Command {
	var f watchFlags
	cmd.Args = cobra.MaximumNArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(); err != nil {
			return err
		}
		client, name, err := c.meant(cmd.Context(), args)
		if err != nil {
			return err
		}
		from := time.Now()
		r, err := change(client, cmd.Context(), name)
		if err != nil {
			return err
		}
		return c.watchFrom(cmd.Context(), client, r, f, from)
	}
	f.add(cmd)
	return cmd
}

// accepted says what a person accepts who promotes a release of which not
// everything is proven; "" if nothing was judged, or all is proven.
func accepted(r gapless.Rollout) string {
	v := r.Verdict
	switch {
	case v == nil || v.Kind == gapless.NotWorse:
		return ""
	case v.NoData:
		return "accepted without evidence: no request of " + r.To + " was judged"
	}
	text := "accepted as it is known now: "
	if v.Bound > 0 && v.Bound < 1 {
		text += fmt.Sprintf("at most %.3g points more bad answers than %s", 100*v.Bound, r.From)
	} else {
		text += "no bound on bad answers"
	}
	for _, p := range v.Proofs {
		switch {
		case p.Test == gapless.TestErrors:
		case p.Proven:
			text += fmt.Sprintf(", %s at most %s slower", p.Test, gapless.Percent(p.Margin))
		default:
			text += fmt.Sprintf(", %s not proven", p.Test)
		}
	}
	return text + " (95 %)"
}
