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

// record is what the edges that live now counted of a release, at any weight,
// and how long its requests took.
func (r *router) record(ctx context.Context, app, release string) (all gapless.Arm, latency [gapless.LatencyBuckets]uint64) {
	for _, rep := range r.reports(ctx) {
		for _, t := range rep.Releases {
			if t.App != app || t.Release != release {
				continue
			}
			all.Requests += t.Requests
			all.Bad += t.Status[5] + t.Failed
			for b, n := range t.Latency[:min(len(t.Latency), len(latency))] {
				latency[b] += n
			}
		}
	}
	return all, latency
}
