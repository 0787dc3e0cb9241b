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
	c := judge.Config{Candidate: to.Name, Stable: from, PMax: to.Spec.Judge.MaxErrors}
	if from == "" || from == to.Name {
		return nil
	}
	c.Record = d.router.record(ctx, to.App, from)
	j, err := judge.New(c)
	if err != nil { // a limit that it does not take: the usual one
		d.log.Warn("make a judge as configured", "app", to.App, "err", err)
		c.PMax = 0
		j, err = judge.New(c)
	}
	if err != nil {
		d.log.Error("make a judge", "app", to.App, "err", err)
		return nil
	}
	return rollout.JudgeBy(j)
}

// record is what the edges that live now counted of a release, at any weight.
func (r *router) record(ctx context.Context, app, release string) (all gapless.Arm) {
	reports := r.reports(ctx)
	for _, rep := range reports {
		for _, t := range rep.Releases {
			if t.App == app && t.Release == release {
				all.Requests += t.Requests
				all.Bad += t.Status[5] + t.Failed
			}
		}
	}
	return all
}
