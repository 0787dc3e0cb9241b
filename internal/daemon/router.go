package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"gapless"
	"gapless/internal/keeper"
	"gapless/internal/rollout"
)

// router gives every live edge generation the whole table and reads back what
// they serve. It implements rollout.Router for all apps of the installation.
type router struct {
	ctx     context.Context // ends with the daemon
	home    Home
	keeper  *keeper.Client
	log     *slog.Logger
	wake    func(apps ...string) // lets the runners of these apps look, of none: all
	totals  totals               // of what edges counted
	pacing  pacing
	stables stables

	mu      sync.Mutex
	table   gapless.Table
	judged  map[string]time.Duration // per leased app: when its candidate was judged last, in the edges' clock
	changed map[string]uint64        // per app: the version that brought its present route
	edges   map[int]*generation      // live generations, by keeper's word
	gone    []last                   // processes that are gone, oldest first
}

// newRouter goes on from the table that the edges serve already.
func newRouter(ctx context.Context, home Home, k *keeper.Client, log *slog.Logger, wake func(apps ...string)) (*router, error) {
	r := &router{ctx: ctx, home: home, keeper: k, log: log, wake: wake,
		changed: map[string]uint64{}, judged: map[string]time.Duration{}, edges: map[int]*generation{}}
	data, err := lastTable(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("read the last table: %w", err)
	}
	if data != nil {
		if err := json.Unmarshal(data, &r.table); err != nil {
			return nil, fmt.Errorf("read the last table: %w", err)
		}
	}
	for _, route := range r.table.Routes {
		r.changed[route.App] = r.table.Version
	}
	live, err := liveEdges(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("look which edges live: %w", err)
	}
	r.totals.load(home.Totals(), live, log)
	return r, nil
}

// edge is told by keeper's watch which generations live.
func (r *router) edge(p keeper.Proc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch g := r.edges[p.Generation]; {
	case !p.Running && g != nil:
		r.lose(g)
	case p.Running && g == nil:
		g = r.newGeneration(p.Generation)
		r.edges[p.Generation] = g
		go g.run(r.ctx)
	}
}

// lose ends a generation whose process is gone. r.mu is held.
func (r *router) lose(g *generation) {
	delete(r.edges, g.number)
	g.end()
}

// generations lists the live generations, oldest first.
func (r *router) generations() []*generation {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*generation, 0, len(r.edges))
	for _, g := range r.edges {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *generation) int { return a.number - b.number })
	return out
}

// present is the table that all edges are to serve.
func (r *router) present() gapless.Table {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table
}

// judgedAt is when the candidates of leased routes were judged last.
func (r *router) judgedAt() map[string]time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.judged)
}

// Apply implements rollout.Router.
func (r *router) Apply(ctx context.Context, app string, route *gapless.Route) error {
	if route != nil {
		for _, addr := range route.Listen {
			if err := r.keeper.Listen(ctx, addr); err != nil {
				return err
			}
		}
	}
	r.mu.Lock()
	next := gapless.Table{Version: r.table.Version + 1, SessionKeys: r.table.SessionKeys}
	var before *gapless.Route
	for i := range r.table.Routes {
		if r.table.Routes[i].App == app {
			before = &r.table.Routes[i]
		} else {
			next.Routes = append(next.Routes, r.table.Routes[i])
		}
	}
	if route != nil {
		next.Routes = append(next.Routes, *route)
	}
	next.SessionKeys = r.keysFor(next)
	if err := next.Validate(); err != nil {
		r.mu.Unlock()
		return err
	}
	if !reflect.DeepEqual(before, route) || !reflect.DeepEqual(next.SessionKeys, r.table.SessionKeys) {
		r.table = next
		r.changed[app] = next.Version
	}
	r.mu.Unlock()
	return r.sync(ctx)
}

// sync brings every live generation to the present table, all at once.
func (r *router) sync(ctx context.Context) error {
	version, live := r.present().Version, r.generations()
	tried := make([]int, len(live))
	for i, g := range live {
		tried[i] = g.failures()
		g.poke()
	}
	var wg sync.WaitGroup
	errs := make([]error, len(live))
	for i, g := range live {
		wg.Go(func() { errs[i] = g.await(ctx, version, tried[i]) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// reports asks every live generation, for people.
func (r *router) reports(ctx context.Context) (out []gapless.EdgeReport) {
	live := r.generations()
	found := make([]gapless.EdgeReport, len(live))
	var wg sync.WaitGroup
	for i, g := range live {
		wg.Go(func() { found[i] = g.ask(ctx) })
	}
	wg.Wait()
	return slices.DeleteFunc(found, func(rep gapless.EdgeReport) bool { return rep.Start == "" })
}

// Observed implements rollout.Router, from what the edges said last. It asks
// nobody, so a generation that is frozen holds nobody up: it is unknown.
func (r *router) Observed(_ context.Context, app string) (rollout.Served, error) {
	served := rollout.Served{InFlight: map[string]int{}, Given: map[string]uint64{}, Unhealthy: map[string]bool{}, Refusing: map[string]bool{}, Failing: map[string]bool{}}
	r.mu.Lock()
	version := r.changed[app]
	for i := range r.table.Routes {
		if r.table.Routes[i].App == app {
			route := r.table.Routes[i]
			served.Route = &route
		}
	}
	r.mu.Unlock()
	live := r.generations()
	served.Known = len(live) > 0
	for k, g := range live {
		rep, fresh := g.report()
		served.Known = served.Known && fresh && rep.Version >= version
		served.FellBack = served.FellBack || slices.Contains(rep.FellBack, app)
		for _, in := range rep.Instances {
			if in.App != app {
				continue
			}
			served.InFlight[in.Instance] += in.InFlight
			served.Given[in.Instance] += in.Requests
			if k == len(live)-1 && !in.Healthy {
				served.Unhealthy[in.Instance] = true
			}
			if k == len(live)-1 && fresh && in.Refuses() {
				served.Refusing[in.Instance] = true
			}
			if k == len(live)-1 && fresh && in.Fails() {
				served.Failing[in.Instance] = true
			}
		}
	}
	return served, nil
}
