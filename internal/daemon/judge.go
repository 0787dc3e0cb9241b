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
	c.Phi, c.PhiSlow, c.Alone = phi, slow, !known && len(d.router.serving(to.App, from)) < 2
	spec := to.Spec.Judge
	asked := c
	asked.PMax, asked.Alpha, asked.Errors, asked.Slower, asked.Budget = spec.MaxErrors, spec.Alpha, spec.Errors, spec.Slower, spec.Budget
	j, err := judge.New(asked)
	if err != nil { // what it does not take: the usual one
		d.log.Warn("make a judge as configured", "app", to.App, "err", err)
		j, err = judge.New(c)
	}
	if err != nil {
		d.log.Error("make a judge", "app", to.App, "err", err)
		return nil
	}
	return rollout.JudgeBy(j)
}
