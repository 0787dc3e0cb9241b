package daemon

import (
	"context"
	"sync"

	"gapless"
	"gapless/internal/rollout"
	"gapless/internal/supervise"
)

// app is one app under the daemon's care.
type app struct {
	name   string
	runner *rollout.Runner

	mu        sync.Mutex
	preparing *preparation     // nil: no release is being made
	failed    *gapless.Rollout // the last rollout that never began; on a full disk nowhere else
}

// fleet implements rollout.Fleet for one app with processes of this machine.
type fleet struct {
	d   *Daemon
	sup *supervise.Supervisor
}

func (f fleet) Start(ctx context.Context, in gapless.Instance) error {
	rel, err := f.d.release(in.App, in.Release)
	if err != nil {
		return err
	}
	env, err := f.d.vault.environment(rel)
	if err != nil {
		return err
	}
	if !f.d.order.turn(ctx, in, &rel.Spec, f.sup.Observe) {
		return nil // asked again, as it is not observed
	}
	return f.sup.Start(ctx, in, rel, env.of(in.Process))
}

func (f fleet) Observe(_ context.Context, app string) ([]gapless.Instance, error) {
	var out []gapless.Instance
	for _, in := range f.sup.Observe() {
		if in.App == app {
			out = append(out, in)
		}
	}
	return out, nil
}

func (f fleet) Stop(ctx context.Context, id string) error { return f.sup.Stop(ctx, id) }

func (f fleet) Forget(_ context.Context, id string) error {
	f.sup.Forget(id)
	return nil
}

// journal implements rollout.Journal.
type journal struct{ d *Daemon }

func (j journal) Save(ctx context.Context, s rollout.State) error {
	if err := j.d.store.SaveApp(ctx, s.App, s, s.Rollout); err != nil {
		return err
	}
	j.d.aside.put(s.Clone(), j.d.work.Go, j.d.follow)
	return nil
}
