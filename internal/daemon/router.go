package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"gapless"
	"gapless/internal/edge"
	"gapless/internal/keeper"
	"gapless/internal/rollout"
)

// router gives every live edge generation the whole table and reads back what
// they serve. It implements rollout.Router for all apps of the installation.
type router struct {
	home   Home
	keeper *keeper.Client
	log    *slog.Logger

	mu      sync.Mutex
	table   gapless.Table
	renewed map[string]time.Time // per app: when its lease was renewed
	changed map[string]uint64    // per app: the version that brought its present route
	edges   map[int]*edgeConn    // live generations, by keeper's word
}

// edgeConn is the control connection to one generation; its own lock keeps a
// slow generation from holding up the others.
type edgeConn struct {
	mu     sync.Mutex
	client *edge.Client // nil while not connected
	latest uint64       // version it acknowledged
}

// newRouter goes on from the table that the edges serve already.
func newRouter(ctx context.Context, home Home, k *keeper.Client, log *slog.Logger) (*router, error) {
	r := &router{home: home, keeper: k, log: log, changed: map[string]uint64{}, renewed: map[string]time.Time{}, edges: map[int]*edgeConn{}}
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
	return r, nil
}

// edge is told by keeper's watch which generations live.
func (r *router) edge(p keeper.Proc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !p.Running {
		if e := r.edges[p.Generation]; e != nil {
			go e.close()
		}
		delete(r.edges, p.Generation)
		return
	}
	if r.edges[p.Generation] == nil {
		r.edges[p.Generation] = &edgeConn{}
	}
}

func (e *edgeConn) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		_ = e.client.Close()
		e.client = nil
	}
}

// with calls f with a connected client, and drops the connection when f fails.
func (e *edgeConn) with(ctx context.Context, socket string, f func(*edge.Client) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client == nil {
		c, err := edge.Dial(ctx, socket)
		if err != nil {
			return err
		}
		e.client = c
	}
	err := f(e.client)
	if err != nil && gapless.CodeOf(err) != gapless.Conflict && gapless.CodeOf(err) != gapless.Invalid {
		_ = e.client.Close()
		e.client = nil
	}
	return err
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
	next := gapless.Table{Version: r.table.Version + 1}
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
	if err := next.Validate(); err != nil {
		r.mu.Unlock()
		return err
	}
	if !reflect.DeepEqual(before, route) {
		r.table = next
		r.changed[app] = next.Version
	}
	r.mu.Unlock()
	return r.sync(ctx)
}

// sync brings every live generation to the present table.
func (r *router) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	r.mu.Lock()
	table := r.table
	edges := make(map[int]*edgeConn, len(r.edges))
	for g, e := range r.edges {
		edges[g] = e
	}
	r.mu.Unlock()
	var wg sync.WaitGroup
	errs := make(chan error, len(edges))
	for g, e := range edges {
		wg.Go(func() {
			err := e.with(ctx, r.home.EdgeSocket(g), func(c *edge.Client) error {
				if e.latest >= table.Version {
					return nil
				}
				if err := c.Apply(ctx, table); err != nil {
					return err
				}
				e.latest = table.Version
				return nil
			})
			if err != nil {
				errs <- fmt.Errorf("edge generation %d: %w", g, err)
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs // the first one, nil if none
}

// reports asks every live generation. known is false where one did not answer.
func (r *router) reports(ctx context.Context) (out []gapless.EdgeReport, known bool) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	r.mu.Lock()
	edges := make(map[int]*edgeConn, len(r.edges))
	for g, e := range r.edges {
		edges[g] = e
	}
	r.mu.Unlock()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for g, e := range edges {
		wg.Go(func() {
			err := e.with(ctx, r.home.EdgeSocket(g), func(c *edge.Client) error {
				rep, err := c.Report(ctx)
				if err == nil {
					mu.Lock()
					out = append(out, rep)
					mu.Unlock()
					e.latest = rep.Version
				}
				return err
			})
			if err != nil {
				r.log.Debug("report", "generation", g, "err", err)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b gapless.EdgeReport) int { return a.Generation - b.Generation })
	return out, len(out) == len(edges) && len(out) > 0
}

// Observed implements rollout.Router.
func (r *router) Observed(ctx context.Context, app string) (rollout.Served, error) {
	served := rollout.Served{InFlight: map[string]int{}, Given: map[string]uint64{}, Unhealthy: map[string]bool{}}
	r.mu.Lock()
	version := r.changed[app]
	for i := range r.table.Routes {
		if r.table.Routes[i].App == app {
			route := r.table.Routes[i]
			served.Route = &route
		}
	}
	r.mu.Unlock()
	reports, known := r.reports(ctx)
	for _, rep := range reports {
		known = known && rep.Version >= version
		for _, in := range rep.Instances {
			if in.App != app {
				continue
			}
			served.InFlight[in.Instance] += in.InFlight
			served.Given[in.Instance] += in.Requests
			if rep.Generation == reports[len(reports)-1].Generation && !in.Healthy {
				served.Unhealthy[in.Instance] = true
			}
		}
	}
	served.Known = known
	if served.Route != nil && served.Route.Lease > 0 {
		r.renew(ctx, app)
	}
	for _, rep := range reports {
		served.FellBack = served.FellBack || slices.Contains(rep.FellBack, app)
	}
	return served, nil
}

// renewEvery is how often a lease is renewed while its rollout is looked after.
const renewEvery = time.Second

// renew tells every generation that somebody judges the candidate of an app.
// One that fell back already says so in its report.
func (r *router) renew(ctx context.Context, app string) {
	r.mu.Lock()
	due := time.Since(r.renewed[app]) >= renewEvery
	if due {
		r.renewed[app] = time.Now()
	}
	edges := make(map[int]*edgeConn, len(r.edges))
	for g, e := range r.edges {
		edges[g] = e
	}
	r.mu.Unlock()
	if !due {
		return
	}
	for g, e := range edges {
		err := e.with(ctx, r.home.EdgeSocket(g), func(c *edge.Client) error { return c.Renew(ctx, app) })
		if err != nil && gapless.CodeOf(err) != gapless.Conflict {
			r.log.Warn("renew the lease", "app", app, "generation", g, "err", err)
		}
	}
}

// run keeps generations that came up late or again at the present table.
func (r *router) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := r.sync(ctx); err != nil && ctx.Err() == nil {
				r.log.Warn("bring edges up to date", "err", err)
			}
		}
	}
}
