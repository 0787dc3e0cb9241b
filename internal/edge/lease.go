package edge

import (
	"reflect"
	"time"

	"gapless"
)

// lease is a promise that somebody judges the candidate of a route. When it
// is not renewed in time, the edge goes back to the route's fallback by itself.
type lease struct {
	time time.Duration
	due  int64 // edge clock
	over bool  // the fallback is served
}

// takeLeases begins the leases of a new table. A route that did not change
// keeps its lease as it is: a table that came for another app renews nothing
// and brings nothing back. e.mu is held.
func (e *Edge) takeLeases(t, before gapless.Table) {
	old := e.leases
	e.leases = map[string]*lease{}
	for _, r := range t.Routes {
		if r.Lease == 0 {
			continue
		}
		l := &lease{time: r.Lease.Std(), due: e.now() + int64(r.Lease)}
		for _, was := range before.Routes {
			if was.App == r.App && old[r.App] != nil && reflect.DeepEqual(was.Weights, r.Weights) && reflect.DeepEqual(was.Fallback, r.Fallback) {
				l = old[r.App]
			}
		}
		e.leases[r.App] = l
	}
}

// leased is the route as it is served: with its fallback once the lease ran out.
func (e *Edge) leased(r gapless.Route) gapless.Route {
	if l := e.leases[r.App]; l != nil && l.over {
		r.Weights = r.Fallback
	}
	return r
}

// renew says that somebody judges the candidate of an app.
func (e *Edge) renew(app string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.leases[app]
	switch {
	case l == nil:
		return nil // nothing is leased: the daemon may be a table ahead
	case l.over:
		return gapless.Errorf(gapless.Conflict, "the lease of %s ran out, its fallback is served", app)
	}
	l.due = e.now() + int64(l.time)
	return nil
}

// expireLeases serves the fallback of routes whose lease ran out.
func (e *Edge) expireLeases() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
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
