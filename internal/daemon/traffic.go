package daemon

import (
	"context"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/rollout"
)

// Hold implements api.Service.
func (d *Daemon) Hold(ctx context.Context, name string) (api.Traffic, error) {
	return d.traffic(ctx, name, func(s rollout.State) (rollout.State, error) { return rollout.Hold(s, true) })
}

// Unhold implements api.Service.
func (d *Daemon) Unhold(ctx context.Context, name string) (api.Traffic, error) {
	return d.traffic(ctx, name, func(s rollout.State) (rollout.State, error) { return rollout.Hold(s, false) })
}

// StartMaintenance implements api.Service.
func (d *Daemon) StartMaintenance(ctx context.Context, name string, m gapless.Maintenance) (api.Traffic, error) {
	m.Since = time.Now().UTC().Format(time.RFC3339)
	return d.traffic(ctx, name, func(s rollout.State) (rollout.State, error) { return rollout.Maintain(s, &m) })
}

// EndMaintenance implements api.Service.
func (d *Daemon) EndMaintenance(ctx context.Context, name string) (api.Traffic, error) {
	return d.traffic(ctx, name, func(s rollout.State) (rollout.State, error) { return rollout.Maintain(s, nil) })
}

// servedWithin is how long an edge may take to serve what was saved.
const servedWithin = 10 * time.Second

// traffic changes what a person wants of the traffic of an app, and returns
// when every edge serves that.
func (d *Daemon) traffic(ctx context.Context, name string, f func(rollout.State) (rollout.State, error)) (api.Traffic, error) {
	a, err := d.app(name)
	if err != nil {
		return api.Traffic{}, err
	}
	var want rollout.State
	if err := a.runner.Do(ctx, func(s rollout.State) (rollout.State, error) {
		if spec := d.specOf(name, s.Stable); spec != nil && spec.Process(gapless.WebProcess) == nil {
			return s, gapless.Errorf(gapless.Conflict, "%s has no web process, and so no traffic", name)
		}
		var err error
		want, err = f(s)
		return want, err
	}); err != nil {
		return api.Traffic{}, err
	}
	for end := time.Now().Add(servedWithin); ; {
		served, err := d.router.Observed(ctx, name)
		r := served.Route
		switch {
		case err == nil && served.Known && (r == nil || r.Held == want.Held && sameMaintenance(r.Maintenance, want.Maintenance)):
			return trafficOf(want), nil
		case time.Now().After(end):
			return api.Traffic{}, gapless.Errorf(gapless.Unavailable, "it is saved, and not every edge serves it yet").WithHint("see: gapless status --wide")
		}
		select {
		case <-ctx.Done():
			return api.Traffic{}, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// sameMaintenance compares by when it began, which is new each time.
func sameMaintenance(a, b *gapless.Maintenance) bool {
	return a == b || a != nil && b != nil && a.Since == b.Since
}

func trafficOf(s rollout.State) api.Traffic {
	t := api.Traffic{App: s.App, Held: s.Held}
	if m := s.Maintenance; m != nil {
		t.Maintenance = &api.MaintenanceStatus{Since: m.Since, Page: len(m.Page), Allow: m.Allow, RetryAfter: m.RetryAfter}
	}
	return t
}
