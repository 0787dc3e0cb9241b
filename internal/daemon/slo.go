package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/judge"
	"gapless/internal/notify"
	"gapless/internal/rollout"
)

const (
	lookAtSLO = 10 * time.Second
	saveSLO   = time.Minute // what was counted since is lost with a daemon that is killed
	sloNote   = "slo"
)

// slos watch the objectives of all apps, from what the edges counted. What
// was counted is in the store under sloNote.
type slos struct {
	mu    sync.Mutex
	of    map[string]*sloOf
	saved time.Time
}

// sloOf is one app's.
type sloOf struct {
	judge.Budget
	Acted string `json:"acted,omitempty"` // rollout that was ended or paused for it

	Rollout   string     `json:"rollout,omitempty"`  // whose candidate is counted apart
	Candidate judge.Ring `json:"candidate,omitzero"` // what it got

	counted map[string]judge.Count // per release, what the edges said at the last look; nil: nothing yet
}

// watchSLO looks until ctx ends.
func (d *Daemon) watchSLO(ctx context.Context) {
	d.slos.mu.Lock()
	err := d.store.Note(ctx, sloNote, &d.slos.of)
	d.slos.mu.Unlock()
	if err != nil && gapless.CodeOf(err) != gapless.NotFound {
		d.log.Warn("what was counted for SLOs is lost", "err", err)
	}
	tick := time.NewTicker(lookAtSLO)
	defer tick.Stop()
	for {
		if d.anySLO() {
			d.lookAtSLO(ctx, time.Now(), d.router.totals.sum(d.router.reports(ctx), d.router.present()).Releases)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *Daemon) anySLO() bool {
	for _, a := range d.allApps() {
		if d.sloTarget(a.runner.State()) > 0 {
			return true
		}
	}
	return false
}

// sloTarget is what the release that serves promises; 0: nothing.
func (d *Daemon) sloTarget(s rollout.State) float64 {
	if rel := d.lastRelease(s); rel != nil {
		return rel.Spec.SLO
	}
	return 0
}

// served is what users got of a release: answers of its instances, and none.
// Whom a client did not wait for is left out.
func served(t gapless.ReleaseTraffic) judge.Count {
	left := min(t.Status[0], t.Aborted)
	c := judge.Count{Bad: t.Status[5] + t.Status[0] - left}
	for _, n := range t.Status {
		c.All += n
	}
	c.All -= left
	return c
}

// lookAtSLO takes in what the edges counted up to now, tells what burns, and
// does what it calls for to rollouts.
func (d *Daemon) lookAtSLO(ctx context.Context, now time.Time, traffic []gapless.ReleaseTraffic) {
	type deed struct {
		app, id, reason string
		back            bool
	}
	var deeds []deed
	d.slos.mu.Lock()
	watched := map[string]*sloOf{}
	for _, a := range d.allApps() {
		s := a.runner.State()
		target := d.sloTarget(s)
		if target == 0 {
			continue
		}
		x := d.slos.of[a.name]
		if x == nil {
			x = &sloOf{}
		}
		watched[a.name] = x
		x.count(a.name, s, now, traffic)
		burning, begun := x.Look(now, target)
		for _, b := range begun {
			d.tellBurning(s, target, b, x)
		}
		for _, b := range burning {
			if back, reason := x.calls(s, target, b, now); reason != "" {
				deeds = append(deeds, deed{a.name, s.Rollout.ID, reason, back})
			}
		}
	}
	d.slos.of = watched
	d.slos.mu.Unlock()
	for _, x := range deeds {
		var err error
		if x.back {
			err = d.abort(ctx, x.app, x.id, errors.New(x.reason))
		} else {
			err = d.halt(ctx, x.app, x.id, x.reason)
		}
		if err != nil { // it is looked at again
			d.log.Warn("act on an SLO", "app", x.app, "rollout", x.id, "err", err)
			continue
		}
		d.slos.mu.Lock()
		d.slos.of[x.app].Acted = x.id
		d.slos.mu.Unlock()
	}
	if len(deeds) > 0 || now.Sub(d.slos.saved) >= saveSLO {
		d.saveSLOs(ctx, now)
	}
}

func (d *Daemon) saveSLOs(ctx context.Context, now time.Time) {
	d.slos.mu.Lock()
	defer d.slos.mu.Unlock()
	if err := d.store.SetNote(ctx, sloNote, d.slos.of); err != nil {
		d.log.Warn("save what was counted for SLOs", "err", err)
	}
	d.slos.saved = now
}

// count adds what is new since the last look. The first one only learns where
// counters stand.
func (x *sloOf) count(app string, s rollout.State, now time.Time, traffic []gapless.ReleaseTraffic) {
	fresh := map[string]judge.Count{}
	var all judge.Count
	counted := map[string]judge.Count{}
	for _, t := range traffic {
		if t.App == app {
			counted[t.Release] = served(t)
			fresh[t.Release] = counted[t.Release].Minus(x.counted[t.Release])
			all = all.Plus(fresh[t.Release])
		}
	}
	first := x.counted == nil
	x.counted = counted
	if r := s.Rollout; s.Busy() && x.Rollout != r.ID {
		x.Rollout, x.Candidate = r.ID, judge.Ring{}
	}
	if first {
		return
	}
	x.Ring.Add(now, all)
	if s.Busy() && s.Rollout.To != s.Rollout.From {
		x.Candidate.Add(now, fresh[s.Rollout.To])
	}
}

// arms are what the candidate and stable got: in the short window or, where
// stable served nothing then, stable in the long one.
func (x *sloOf) arms(l judge.BurnLevel, now time.Time) (candidate, stable judge.Count) {
	candidate = x.Candidate.Over(now, l.Short)
	stable = x.Ring.Over(now, l.Short).Minus(candidate)
	if stable.All == 0 {
		stable = x.Ring.Over(now, l.Long).Minus(x.Candidate.Over(now, l.Long))
	}
	return candidate, stable
}

// calls says what a burn calls for: back, or a pause; no reason: nothing. Only
// a page that began in the rollout does, and once: who resumes knows of it.
func (x *sloOf) calls(s rollout.State, target float64, b judge.Burning, now time.Time) (back bool, reason string) {
	r := s.Rollout
	if !s.Forward() || b.Level.Name != judge.BurnPage || r.From == "" || r.From == r.To || r.Kind == "rollback" || x.Acted == r.ID || !b.Since.After(r.Started) {
		return false, ""
	}
	candidate, stable := x.arms(b.Level, now)
	shares := fmt.Sprintf("%s fails %s of %d requests, %s %s of %d", r.To, gapless.Percent(candidate.Share()), candidate.All, r.From, gapless.Percent(stable.Share()), stable.All)
	if judge.Blame(candidate, stable, target, b.Level.Rate) {
		return true, fmt.Sprintf("the SLO of %s burns %.0f times too fast: %s", gapless.Objective(target), b.Short.Burn(target), shares)
	}
	return false, fmt.Sprintf("the SLO of %s burns %.0f times too fast, and not by %s alone: %s", gapless.Objective(target), b.Short.Burn(target), r.To, shares)
}

// tellBurning tells people that a level is exceeded.
func (d *Daemon) tellBurning(s rollout.State, target float64, b judge.Burning, x *sloOf) {
	told := &notify.SLO{Target: target, Level: b.Level.Name, Burn: b.Long.Burn(target), Short: b.Short.Burn(target)}
	e := gapless.Event{Time: b.Since, App: s.App, Kind: "slo.burning", Level: "error", Message: fmt.Sprintf(
		"the SLO of %s burns too fast: %s of %d requests failed in %s, %s of %d in %s", gapless.Objective(target),
		gapless.Percent(b.Short.Share()), b.Short.All, gapless.Duration(b.Level.Short), gapless.Percent(b.Long.Share()), b.Long.All, gapless.Duration(b.Level.Long))}
	m := notify.Message{Key: fmt.Sprintf("slo/%s/%s/%d", s.App, b.Level.Name, b.Since.Unix()), Event: gapless.NotifyBurning, Time: b.Since.UTC(), App: s.App, SLO: told}
	release := ""
	if s.Busy() {
		e.Rollout, e.Release, release = s.Rollout.ID, s.Rollout.To, s.Rollout.To
		m.Rollout = tellRollout(*s.Rollout)
		candidate, stable := x.arms(b.Level, b.Since)
		c, o := candidate.Share(), stable.Share()
		told.Candidate, told.Stable = &c, &o
	}
	m.Text = s.App + ": " + e.Message
	d.emit(e)
	d.notices.tell(s.App, m, release, s.Stable)
}

// sloStatus is how an app stands; nil: it promises nothing.
func (d *Daemon) sloStatus(app string, s rollout.State, now time.Time) *api.SLO {
	target := d.sloTarget(s)
	if target == 0 {
		return nil
	}
	out := &api.SLO{Target: target}
	d.slos.mu.Lock()
	defer d.slos.mu.Unlock()
	x := d.slos.of[app]
	if x == nil {
		return out
	}
	hour := x.Ring.Over(now, time.Hour)
	out.Requests, out.Bad, out.Burn = hour.All, hour.Bad, hour.Burn(target)
	for _, l := range judge.BurnLevels() {
		if _, exceeded := x.Since[l.Name]; exceeded {
			out.Burning = append(out.Burning, l.Name)
		}
	}
	return out
}
