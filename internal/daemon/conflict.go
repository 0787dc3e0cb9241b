package daemon

import (
	"slices"

	"gapless"
)

// specs are the configurations of all apps that are served, rolled out or
// being made a release of.
func (d *Daemon) specs() []*gapless.App {
	d.mu.Lock()
	apps := make([]*app, 0, len(d.apps))
	for _, a := range d.apps {
		apps = append(apps, a)
	}
	d.mu.Unlock()
	var out []*gapless.App
	for _, a := range apps {
		a.mu.Lock()
		if a.preparing != nil {
			out = append(out, a.preparing.spec)
		}
		a.mu.Unlock()
		s := a.runner.State()
		if s.Idle() {
			continue
		}
		names := []string{s.Stable}
		if s.Busy() {
			names = append(names, s.Rollout.To)
		}
		for _, name := range names {
			if spec := d.specOf(a.name, name); spec != nil {
				out = append(out, spec)
			}
		}
	}
	return out
}

// conflict names the app that has the same address, host and path already: in
// the served table, or in what is to be served.
func (d *Daemon) conflict(app *gapless.App) error {
	if app.Process(gapless.WebProcess) == nil {
		return nil
	}
	d.router.mu.Lock()
	taken := slices.Clone(d.router.table.Routes)
	d.router.mu.Unlock()
	for _, spec := range d.specs() {
		if spec.Process(gapless.WebProcess) != nil {
			taken = append(taken, routeOf(spec))
		}
	}
	if err := mixed(routeOf(app), taken); err != nil {
		return err
	}
	return collision(routeOf(app), taken)
}

// routeOf is where an app wants its requests from.
func routeOf(app *gapless.App) gapless.Route {
	return gapless.Route{App: app.Name, Listen: app.Listen, Hosts: app.Hosts, Path: app.Path, TLS: app.TLS}
}

func collision(want gapless.Route, taken []gapless.Route) error {
	for _, o := range taken {
		if o.App != want.App && want.Collides(o) {
			return gapless.Errorf(gapless.Conflict, "%s serves %s%s already, or is about to", o.App, o.Listen[0], o.Path).
				WithHint("give one of the two another address (--listen), host or path in gapless.yaml, or take %s down: gapless down %s", o.App, o.App)
		}
	}
	return nil
}
