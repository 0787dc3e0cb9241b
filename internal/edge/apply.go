package edge

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	"gapless"
)

// keepCounts is how many releases that left the table are still reported.
const keepCounts = 64

func decodeTable(b []byte) (stored, error) {
	var t stored
	if err := json.Unmarshal(b, &t); err != nil {
		return t, gapless.Errorf(gapless.Invalid, "read route table: %w", err)
	}
	return t, nil
}

// apply serves a table: all of it or nothing. It returns after the host has
// stored it and every new request is routed by it.
func (e *Edge) apply(ctx context.Context, t gapless.Table) error {
	return e.serve(ctx, t, nil, true)
}

// serve is apply; without save it is a table that was stored, with its leases.
func (e *Edge) serve(ctx context.Context, t gapless.Table, kept map[string]keptLease, save bool) error {
	if err := check(t); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.state.Load()
	switch {
	case t.Version == old.table.Version:
		return nil
	case t.Version < old.table.Version:
		return gapless.Errorf(gapless.Conflict, "route table %d is older than %d, which is served", t.Version, old.table.Version)
	}

	draining := e.draining.Load()
	opened := map[string]*listener{}
	undo := func() {
		for _, l := range opened {
			l.Close()
		}
	}
	named := map[string]bool{}
	for _, r := range t.Routes {
		for _, addr := range r.Listen {
			named[addr] = true
			speaks := r.TLS.Secures(addr)
			if was := e.listeners[addr]; draining || was != nil && was.tls == speaks || opened[addr] != nil {
				continue
			}
			l, err := e.cfg.Host.Listener(ctx, addr)
			if err != nil {
				undo()
				return gapless.Errorf(gapless.Unavailable, "open listener %s: %w", addr, err)
			}
			opened[addr] = &listener{Listener: l, addr: addr, tls: speaks, done: make(chan struct{})}
		}
	}
	leases := e.nextLeases(t, old.table, kept)
	if !save {
		wereKept(leases, kept)
	} else if kept = keep(leases); !draining { // the generation that comes after stores its own
		if err := e.store(ctx, stored{t, kept}); err != nil {
			undo()
			return gapless.Errorf(gapless.Unavailable, "store route table: %w", err)
		}
		wereKept(leases, kept)
	}

	// From here on nothing fails. Instances leave before the new state is
	// served: a request that still comes by the old one does not get them.
	e.leases = leases
	e.version(t, old.table)
	st := e.build(t)
	e.forgetPages(t)
	for _, r := range t.Routes {
		for _, g := range r.Targets {
			if i := e.instances[targetOf(r.App, g)]; g.Draining {
				i.leave(g.Drain.Std())
			} else {
				i.stay()
			}
		}
	}
	for k, i := range e.instances {
		if !st.names(k) {
			i.leave(e.cfg.DrainTimeout)
			if i.stopProbe != nil {
				i.stopProbe()
				i.stopProbe = nil
			}
			if i.inFlight.Load() == 0 {
				delete(e.instances, k)
			}
		}
	}
	if draining {
		for _, i := range e.instances {
			i.partUnlessParting(time.Until(e.drainEnd))
		}
	}
	e.state.Store(st)
	close(old.changed)
	for addr, l := range opened {
		if was := e.listeners[addr]; was != nil { // it spoke http, and is to speak https; or the other way round
			was.shut()
			<-was.done
		}
		e.listeners[addr] = l
		e.open(l)
	}
	for addr, l := range e.listeners {
		if !named[addr] {
			l.shut()
			delete(e.listeners, addr)
		}
	}
	e.log.Debug("route table served", "version", t.Version, "routes", len(t.Routes))
	return nil
}

// store stores a new table.
func (e *Edge) store(ctx context.Context, s stored) error {
	e.saving.Lock()
	defer e.saving.Unlock()
	b, err := json.Marshal(s)
	if err == nil {
		err = e.cfg.Host.Save(ctx, b)
	}
	if err == nil {
		e.saved = s.Version
	}
	return err
}

// version gives each app the version of the table that brought its present
// route. e.mu is held.
func (e *Edge) version(t, before gapless.Table) {
	versions := map[string]uint64{}
	for _, r := range t.Routes {
		versions[r.App] = t.Version
		for _, was := range before.Routes {
			if was.App == r.App && reflect.DeepEqual(was, r) {
				versions[r.App] = e.versions[r.App]
			}
		}
	}
	e.versions = versions
	e.counters.Serve(versions)
}

// check refuses what Validate cannot know.
func check(t gapless.Table) error {
	if err := t.Validate(); err != nil {
		return err
	}
	for _, r := range t.Routes {
		if len(r.Path) == 0 || r.Path[0] != '/' {
			return gapless.Errorf(gapless.Invalid, "route of %s: path %q does not begin with /", r.App, r.Path)
		}
		for _, g := range r.Targets {
			known := g.Release == r.Stable || r.Preview != nil && g.Release == r.Preview.Release || r.Mirror != nil && g.Release == r.Mirror.Release
			for _, w := range r.Weights {
				known = known || w.Release == g.Release
			}
			for _, m := range r.Match {
				known = known || m.Release == g.Release
			}
			if !known && !g.Draining {
				return gapless.Errorf(gapless.Invalid, "route of %s: release %s of instance %s has no weight", r.App, g.Release, g.Instance)
			}
		}
	}
	return nil
}

func targetOf(app string, g gapless.Target) target {
	return target{app: app, id: g.Instance, release: g.Release, address: g.Address}
}

// build makes the state of a table with the instances and counters that are
// there already. e.mu is held.
func (e *Edge) build(t gapless.Table) *state {
	st := &state{table: t, listeners: map[string]*hosts{}, targets: map[target]bool{}, changed: make(chan struct{})}
	st.gates = e.openGates(t, e.state.Load().gates)
	queues := e.queuesOf(t)
	apps := map[[2]string]bool{}
	e.keepLogs(t)
	for _, spec := range t.Routes {
		spec = e.leased(spec)
		find := func(g gapless.Target) *instance {
			k := targetOf(spec.App, g)
			st.targets[k] = true
			i := e.instances[k]
			if i == nil {
				i = newInstance(k)
				i.since = e.now()
				e.prepareForLoops(i)
				e.instances[k] = i
			}
			i.via.trust(spec.UpstreamTLS)
			e.keepProbing(i, spec.Probe, g.Draining)
			return i
		}
		count := func(release string) *traffic {
			apps[[2]string{spec.App, release}] = true
			c := e.count(spec.App, release)
			c.log.Store(e.logs[spec.App])
			return c
		}
		r := newRoute(spec, e.cfg.limitsOf(spec, queues[spec.App], e.pagesOf(spec)), find, count)
		e.setBalance(r, spec)
		r.sessions = newSessions(spec, r, t.SessionKeys)
		r.mirror = e.newMirroring(r, spec, find)
		if w, ok := countedWeight(spec); ok {
			for _, s := range r.shares {
				s.arm = e.newArm(spec, r, s, w)
				st.arms = append(st.arms, s.arm)
			}
		}
		for _, addr := range spec.Listen {
			h := st.listeners[addr]
			if h == nil {
				h = newHosts()
				st.listeners[addr] = h
			}
			r := e.tls.route(r, spec, addr)
			h.logAs(e.logs[spec.App])
			h.add(r, spec.Hosts)
			if p := spec.Preview; p != nil && p.Host != "" {
				h.add(r.preview, []string{p.Host})
			}
		}
	}
	e.endMirrors(t)
	e.tls.furnish(st)
	e.forgetBudgets(t)
	for k := 0; len(e.counts)-len(apps) > keepCounts && k < len(e.counts); {
		if c := e.counts[k]; apps[[2]string{c.app, c.release}] {
			k++
			continue
		}
		delete(e.counted, [2]string{e.counts[k].app, e.counts[k].release})
		e.counts = append(e.counts[:k:k], e.counts[k+1:]...)
	}
	return st
}

func (e *Edge) count(app, release string) *traffic {
	k := [2]string{app, release}
	t := e.counted[k]
	if t == nil {
		t = &traffic{app: app, release: release, tempo: tempo{at: e.now()}}
		if e.counted == nil {
			e.counted = map[[2]string]*traffic{}
		}
		e.counts, e.counted[k] = append(e.counts, t), t
	}
	return t
}

// keepProbing starts the probe of an instance, with the settings of its
// route, and stops that of a draining one.
func (e *Edge) keepProbing(i *instance, h gapless.Health, draining bool) {
	if i.stopProbe != nil && (draining || i.probe != h) {
		i.stopProbe()
		i.stopProbe = nil
	}
	if i.stopProbe != nil || draining {
		return
	}
	ctx, cancel := context.WithCancel(e.ctx)
	i.probe, i.stopProbe = h, cancel
	go e.watchHealth(ctx, i, h)
}
