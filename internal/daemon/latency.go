package daemon

import (
	"context"
	"maps"
	"sync"
	"time"

	"gapless"
	"gapless/internal/edge"
)

// pacing is what the router knows of how long requests take: by what limits of
// age the edges count, and how far somebody has looked at latencies. The zero
// value is ready.
type pacing struct {
	mu     sync.Mutex
	limits map[string]gapless.LatencyLimits // per app: what its runner said; Version 0: none
	looks  map[string]*looked               // per app
}

// looked is how far the latencies of two releases were seen: per edge process
// what it had counted.
type looked struct {
	stable, candidate string
	at                time.Time
	seen              map[string][2][]uint64 // by EdgeReport.Start: of stable, of the candidate
}

// Pace implements rollout.Pacer: every edge that can is told, those that come
// later too.
func (r *router) Pace(app string, limits gapless.LatencyLimits) {
	p := &r.pacing
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limits == nil {
		p.limits = map[string]gapless.LatencyLimits{}
	}
	p.limits[app] = limits // Version 0 is also that of instances that warm up: looks go on
}

// due is what an edge is to be told that reported rep and was told before what
// told says. What a runner said nothing of yet stays as it is: a daemon that
// has just started knows nothing better.
func (p *pacing) due(rep gapless.EdgeReport, told map[string]gapless.LatencyLimits) map[string]gapless.LatencyLimits {
	if rep.Paced == nil {
		return nil // it knows of no limits
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var out map[string]gapless.LatencyLimits
	for app, l := range p.limits {
		has, counts := rep.Paced[app]
		if l.Version == 0 && !counts || l.Version != 0 && has == l.Version && told[app] == l {
			continue
		}
		if out == nil {
			out = map[string]gapless.LatencyLimits{}
		}
		out[app] = l
	}
	return out
}

// pace tells the edge by what limits it is to count, if it does not.
func (g *generation) pace(ctx context.Context, w *edge.Watching) error {
	rep, _ := g.report()
	due := g.r.pacing.due(rep, g.paced)
	if len(due) == 0 {
		return nil
	}
	maps.Copy(g.paced, due)
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return w.Pace(ctx, due)
}

// lookAnew is after how long without a look the next one is a first one: it is
// of another rollout.
const lookAnew = 10 * time.Second

// Look implements rollout.Looker. The first look at two releases begins at the
// present, and so does that of a new daemon: older requests say nothing of the
// moment. It waits until every edge has spoken.
func (r *router) Look(app, stable, candidate string) gapless.LatencyLook {
	look := gapless.LatencyLook{At: time.Now(), Instances: r.serving(app, stable, candidate)}
	reports, whole, _ := r.evidence(app)
	p := &r.pacing
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.looks, func(_ string, l *looked) bool { return look.At.Sub(l.at) > lookAnew }) // its rollout is over
	l := p.looks[app]
	if first := l == nil || l.stable != stable || l.candidate != candidate; first {
		if !whole {
			return look
		}
		l = &looked{stable: stable, candidate: candidate, seen: map[string][2][]uint64{}}
		if p.looks == nil {
			p.looks = map[string]*looked{}
		}
		p.looks[app], l.at = l, look.At
		l.take(app, reports)
		return look
	}
	l.at = look.At
	look.Stable, look.Candidate = l.take(app, reports)
	return look
}

// take returns what was counted since the last time.
func (l *looked) take(app string, reports []gapless.EdgeReport) (stable, candidate []uint64) {
	seen := map[string][2][]uint64{} // what is not reported any more is forgotten
	more := [2][]uint64{make([]uint64, gapless.LatencyBuckets), make([]uint64, gapless.LatencyBuckets)}
	for _, rep := range reports {
		now, before := l.seen[rep.Start], l.seen[rep.Start]
		for _, t := range rep.Releases {
			if t.App != app {
				continue
			}
			for k, release := range [2]string{l.stable, l.candidate} {
				if t.Release == release {
					now[k] = t.Latency
					addGrowth(more[k], t.Latency, before[k])
				}
			}
		}
		if rep.Start != "" {
			seen[rep.Start] = now
		}
	}
	l.seen = seen
	return more[0], more[1]
}

// addGrowth adds by how much counts grew. Either may be shorter than the sum.
func addGrowth(sum, now, before []uint64) {
	for b := range min(len(sum), len(now)) {
		was := uint64(0)
		if b < len(before) {
			was = before[b]
		}
		sum[b] += now[b] - min(was, now[b])
	}
}

// serving are the instances of these releases that take requests.
func (r *router) serving(app string, releases ...string) (ids []string) {
	for _, route := range r.present().Routes {
		if route.App != app {
			continue
		}
		for _, t := range route.Targets {
			for _, release := range releases {
				if t.Release == release && !t.Draining {
					ids = append(ids, t.Instance)
				}
			}
		}
	}
	return ids
}
