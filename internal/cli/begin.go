package cli

import (
	"context"
	"time"

	"gapless"
	"gapless/internal/api"
)

// begin asks for a rollout. A daemon that went away before it answered may
// have begun it or not: its successor knows, and is asked again if not.
func (c *command) begin(ctx context.Context, client *api.Client, app, kind string, ask func() (gapless.Rollout, error)) (gapless.Rollout, error) {
	const tries = 5
	since := time.Now()
	for n := 1; ; n++ {
		r, err := ask()
		if err == nil || !api.NoDaemon(err) || n == tries {
			return r, err
		}
		st, lost := client.Status(ctx)
		if lost != nil {
			return r, err
		}
		for _, a := range only(st.Apps, app) {
			if a.Rollout != nil && a.Rollout.Kind == kind && !a.Rollout.Started.Before(since) {
				return *a.Rollout, nil
			}
		}
	}
}

// cameBack finishes an `up` that was not needed: this command started gapless,
// and the app was up when gapless was stopped, so it comes up by itself.
func (c *command) cameBack(ctx context.Context, client *api.Client, app *gapless.App, f watchFlags) (done bool, err error) {
	if !c.started {
		return false, nil
	}
	for end := time.Now().Add(app.StartTimeout.Std()); ; {
		st, err := client.Status(ctx)
		if err != nil {
			return true, err
		}
		found := only(st.Apps, app.Name)
		switch {
		case len(found) == 0 || found[0].Down:
			return false, nil
		case found[0].Rollout != nil && found[0].Rollout.Outcome == gapless.Running:
			return true, c.watch(ctx, client, *found[0].Rollout, f)
		case serves(found[0]):
			return true, c.again(found[0])
		case time.Now().After(end):
			return true, gapless.Errorf(gapless.TimedOut, "%s was up when gapless was stopped, and is not up again after %s", app.Name, app.StartTimeout).
				WithHint("see: gapless status %s · gapless logs %s", app.Name, app.Name)
		}
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// serves reports whether every instance of an app is ready.
func serves(a api.AppStatus) bool {
	want := 0
	for _, n := range a.Counts {
		want += n
	}
	for _, in := range a.Instances {
		if in.State == gapless.Ready {
			want--
		}
	}
	return want <= 0
}

func (c *command) again(a api.AppStatus) error {
	if c.json {
		return c.answer(a.Rollout)
	}
	c.term.answerf("%s %s %s serves again, as before gapless was stopped · %s", good.Render("✓"), a.Name, a.Stable, link(a))
	c.term.hintf("ship what is in this directory with: gapless deploy")
	return nil
}
