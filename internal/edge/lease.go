package edge

import (
	"encoding/json"
	"reflect"
	"time"

	"gapless"
)

// lease is a promise that somebody judges the candidate of a route. When it
// is not renewed in time, the edge goes back to the route's fallback by itself.
type lease struct {
	time time.Duration
	due  time.Duration // of Clock
	over bool          // the fallback is served

	kept keptLease // as it was stored last
}

// stored is what an edge leaves to the one after it: the table, and what is
// left of the leases. So a restart neither prolongs a lease nor brings back
// what an edge fell back from.
type stored struct {
	gapless.Table
	Leases map[string]keptLease `json:"leases,omitempty"` // by app
}

type keptLease struct {
	Due  time.Duration `json:"due"` // of Clock; at most so late
	Over bool          `json:"over,omitempty"`
}

// nextLeases are the leases with a new table. A route that did not change
// keeps its lease as it is: a table that came for another app renews nothing
// and brings nothing back. kept are the leases that came with a stored table.
// e.mu is held.
func (e *Edge) nextLeases(t, before gapless.Table, kept map[string]keptLease) map[string]*lease {
	out := map[string]*lease{}
	now := Clock()
	for _, r := range t.Routes {
		if r.Lease == 0 {
			continue
		}
		l := &lease{time: r.Lease.Std(), due: now + r.Lease.Std()}
		if k, ok := kept[r.App]; ok {
			l.due = min(l.due, k.Due)
			l.over = k.Over || l.due <= now
		}
		for _, was := range before.Routes {
			if was.App == r.App && e.leases[r.App] != nil && reflect.DeepEqual(was.Weights, r.Weights) && reflect.DeepEqual(was.Fallback, r.Fallback) {
				l = e.leases[r.App]
			}
		}
		out[r.App] = l
	}
	return out
}

// keep is how leases are stored.
func keep(leases map[string]*lease) map[string]keptLease {
	var out map[string]keptLease
	for app, l := range leases {
		if out == nil {
			out = map[string]keptLease{}
		}
		out[app] = keptLease{l.due, l.over}
	}
	return out
}

// wereKept notes what was stored. e.mu is held.
func wereKept(leases map[string]*lease, kept map[string]keptLease) {
	for app, k := range kept {
		if l := leases[app]; l != nil {
			l.kept = k
		}
	}
}

// leased is the route as it is served: with its fallback once the lease ran out.
func (e *Edge) leased(r gapless.Route) gapless.Route {
	if l := e.leases[r.App]; l != nil && l.over {
		r.Weights = r.Fallback
	}
	return r
}

// renew says that somebody judged the candidate of an app at a moment of Clock.
func (e *Edge) renew(app string, judged time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.leases[app]
	switch {
	case l == nil:
		return nil // nothing is leased: the daemon may be a table ahead
	case l.over:
		return gapless.Errorf(gapless.Conflict, "the lease of %s ran out, its fallback is served", app)
	}
	l.due = max(l.due, min(judged, Clock())+l.time)
	return nil
}

// expireLeases serves the fallback of routes whose lease ran out.
func (e *Edge) expireLeases() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := Clock()
	var out []string
	for app, l := range e.leases {
		if !l.over && now >= l.due {
			l.over = true
			out = append(out, app)
		}
	}
	if len(out) == 0 {
		return
	}
	old := e.state.Load()
	st := e.build(old.table)
	e.state.Store(st)
	close(old.changed)
	for _, app := range out {
		e.news(app)
	}
	e.log.Warn("nobody renewed the lease, the fallback is served", "apps", out)
}

// fellBack lists the apps that are served by their fallback. e.mu is held.
func (e *Edge) fellBack() []string {
	var out []string
	for app, l := range e.leases {
		if l.over {
			out = append(out, app)
		}
	}
	return out
}

// storeEvery is how often an edge looks whether its leases are stored well enough.
const storeEvery = 500 * time.Millisecond

// storeLeases brings what is stored up to date where it matters, until the
// edge ends: a fallback at once, renewals so often that an edge that comes
// after this one has most of the lease left. What is stored is never later
// than what holds, so between the two the next edge falls back early at worst.
func (e *Edge) storeLeases() {
	tick := time.NewTicker(storeEvery)
	defer tick.Stop()
	for trouble := false; ; {
		select {
		case <-e.ctx.Done():
			return
		case <-tick.C:
		}
		if e.draining.Load() { // the generation that comes after stores its own
			return
		}
		err := e.storeLeasesIfDue()
		if err != nil && !trouble {
			e.log.Warn("the leases cannot be stored", "error", err)
		}
		trouble = err != nil
	}
}

func (e *Edge) storeLeasesIfDue() error {
	e.mu.Lock()
	due := false
	for _, l := range e.leases {
		due = due || l.over != l.kept.Over || l.due-l.kept.Due > l.time/4
	}
	t, kept := e.state.Load().table, keep(e.leases)
	e.mu.Unlock()
	if !due {
		return nil
	}
	if stored, err := e.storeAgain(t, kept); err != nil || !stored {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	wereKept(e.leases, kept)
	return nil
}

// storeAgain stores a table that was stored before, with other leases.
func (e *Edge) storeAgain(t gapless.Table, kept map[string]keptLease) (done bool, err error) {
	e.saving.Lock()
	defer e.saving.Unlock()
	if e.saved != t.Version {
		return false, nil // a new table is stored, with its leases
	}
	last, err := e.cfg.Host.Load(e.ctx)
	if err != nil {
		return false, err
	}
	var s stored
	if json.Unmarshal(last, &s) == nil && s.Version > t.Version {
		return false, nil // another generation is ahead, and so will this one be
	}
	b, err := json.Marshal(stored{t, kept})
	if err == nil {
		err = e.cfg.Host.Save(e.ctx, b)
	}
	return err == nil, err
}
