package daemon

import (
	"context"

	"gapless"
	"gapless/internal/judge"
	"gapless/internal/rollout"
)

// readJudge reads the judge of a rollout that an earlier daemon began.
var readJudge = rollout.ReadJudge[judge.Judge]

// judge makes the judge of a rollout from one release of an app to another,
// nil where there is nothing to compare.
func (d *Daemon) judge(ctx context.Context, from string, to *gapless.Release) rollout.Judge {
	if from == "" || from == to.Name {
		return nil
	}
	c := judge.Config{Candidate: to.Name, Stable: from}
	c.Record, c.Latency = d.router.record(ctx, to.App, from)
	phi, slow, known := d.router.dispersion(to.App, from)
	c.Phi, c.PhiSlow, c.Unsure, c.Alone = phi, slow, !known, !known && len(d.router.serving(to.App, from)) < 2
	c, refused := configured(c, to.Spec.Judge)
	for _, err := range refused { // of a release from before they were checked
		d.log.Warn("the usual number is used, the one that is configured is refused", "app", to.App, "release", to.Name, "err", err)
	}
	j, err := judge.New(c)
	if err != nil {
		d.log.Error("make a judge", "app", to.App, "err", err)
		return nil
	}
	return rollout.JudgeBy(j)
}

// configured sets the numbers that a release configures, each on its own: one
// that is refused keeps none of the others out.
func configured(c judge.Config, spec gapless.JudgeSpec) (_ judge.Config, refused []error) {
	set := []func(*judge.Config){
		func(c *judge.Config) { c.PMax = spec.MaxErrors },
		func(c *judge.Config) { c.Alpha = spec.Alpha },
		func(c *judge.Config) { c.Errors = spec.Errors },
		func(c *judge.Config) { c.Budget = spec.Budget },
	}
	for i, margin := range spec.Slower {
		set = append(set, func(c *judge.Config) { c.Slower[i] = margin })
	}
	for _, f := range set {
		next := c
		f(&next)
		if _, err := judge.New(next); err != nil {
			refused = append(refused, err)
			continue
		}
		c = next
	}
	return c, refused
}
