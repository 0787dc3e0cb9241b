package daemon

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/rollout"
)

// Promote implements api.Service.
func (d *Daemon) Promote(ctx context.Context, name string) (gapless.Rollout, error) {
	return d.steer(ctx, name, func(s rollout.State) (rollout.State, error) {
		if !s.Busy() {
			return rollout.Promote(s, nil)
		}
		rel, err := d.release(name, s.Rollout.To)
		if err != nil {
			return s, err
		}
		return rollout.Promote(s, rel)
	})
}

// Pause implements api.Service.
func (d *Daemon) Pause(ctx context.Context, name string) (gapless.Rollout, error) {
	return d.steer(ctx, name, rollout.Pause)
}

// Resume implements api.Service.
func (d *Daemon) Resume(ctx context.Context, name string) (gapless.Rollout, error) {
	return d.steer(ctx, name, rollout.Resume)
}

// Abort implements api.Service.
func (d *Daemon) Abort(ctx context.Context, name string) (gapless.Rollout, error) {
	a, err := d.app(name)
	if err != nil {
		return gapless.Rollout{}, err
	}
	if r, err := a.interrupt(ctx, errAborted); err != nil {
		return gapless.Rollout{}, err
	} else if r != nil {
		return *r, nil
	}
	return d.steer(ctx, name, func(s rollout.State) (rollout.State, error) {
		if !s.Busy() {
			return s, gapless.Errorf(gapless.Conflict, "no rollout of %s is under way", name).WithHint("start one with: gapless deploy")
		}
		return rollout.Abort(s, errAborted.Error(), time.Now()), nil
	})
}

// abort takes one rollout back for a reason that no person gave, also while
// its release is being made.
func (d *Daemon) abort(ctx context.Context, name, id string, reason error) error {
	a, err := d.app(name)
	if err != nil {
		return err
	}
	a.mu.Lock()
	made := a.preparing != nil && a.preparing.rollout.ID == id
	a.mu.Unlock()
	if made {
		if r, err := a.interrupt(ctx, reason); err != nil || r != nil {
			return err
		}
	}
	_, err = d.steer(ctx, name, func(s rollout.State) (rollout.State, error) {
		if err := stillForward(s, id); err != nil {
			return s, err
		}
		return rollout.Abort(s, reason.Error(), time.Now()), nil
	})
	return err
}

// halt holds one rollout where it is, for a reason that no person gave.
func (d *Daemon) halt(ctx context.Context, name, id, reason string) error {
	_, err := d.steer(ctx, name, func(s rollout.State) (rollout.State, error) {
		if err := stillForward(s, id); err != nil {
			return s, err
		}
		return rollout.PauseFor(s, reason)
	})
	return err
}

// stillForward refuses what is meant for a rollout that is over or on its way back.
func stillForward(s rollout.State, id string) error {
	if !s.Busy() || s.Rollout.ID != id || !s.Forward() {
		return gapless.Errorf(gapless.Conflict, "rollout %s of %s is not under way any more", id, s.App)
	}
	return nil
}

// steer changes the rollout that is under way.
func (d *Daemon) steer(ctx context.Context, name string, f func(rollout.State) (rollout.State, error)) (gapless.Rollout, error) {
	a, err := d.app(name)
	if err != nil {
		return gapless.Rollout{}, err
	}
	if a.making() {
		return gapless.Rollout{}, gapless.Errorf(gapless.Conflict, "the new release of %s is still being made", name).
			WithHint("watch it with: gapless status -f %s, or end it with: gapless abort %s", name, name)
	}
	var out gapless.Rollout
	err = a.runner.Do(ctx, func(s rollout.State) (rollout.State, error) {
		s, err := f(s)
		if err == nil {
			out = *s.Rollout
		}
		return s, err
	})
	return out, err
}

// Rollback implements api.Service.
func (d *Daemon) Rollback(ctx context.Context, name, release string) (gapless.Rollout, error) {
	a, err := d.app(name)
	if err != nil {
		return gapless.Rollout{}, err
	}
	if a.making() {
		return gapless.Rollout{}, gapless.Errorf(gapless.Conflict, "a new release of %s is being made", name).
			WithHint("take it back with: gapless abort %s", name)
	}
	if s := a.runner.State(); s.Busy() {
		return gapless.Rollout{}, gapless.Errorf(gapless.Conflict, "a %s of %s is under way (%s → %s)", s.Rollout.Kind, name, s.Rollout.From, s.Rollout.To).
			WithHint("take it back with: gapless abort %s", name)
	}
	if release == "" {
		if release, err = d.before(ctx, a); err != nil {
			return gapless.Rollout{}, err
		}
	}
	to, err := d.release(name, release)
	if err != nil {
		return gapless.Rollout{}, d.noRelease(ctx, name, release)
	}
	d.claiming.Lock()
	defer d.claiming.Unlock()
	if err := d.conflict(&to.Spec); err != nil {
		return gapless.Rollout{}, err
	}
	return d.begin(ctx, name, func(s rollout.State, id string, _ *gapless.Release) (rollout.State, error) {
		return rollout.BeginRollback(s, id, to, counts(s, to, d.specOf(name, s.Stable)), time.Now())
	})
}

// noRelease says that an app has no such release, and which one may have been meant.
func (d *Daemon) noRelease(ctx context.Context, app, name string) error {
	err := gapless.Errorf(gapless.NotFound, "%s has no release %q", app, name)
	list, _ := d.store.Releases(ctx, app)
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = r.Name
	}
	if near := gapless.Nearest(name, names); near != "" {
		return err.WithHint("did you mean %s? list them with: gapless releases %s", near, app)
	}
	return err.WithHint("list them with: gapless releases %s", app)
}

// before is the release that served before the present one.
func (d *Daemon) before(ctx context.Context, a *app) (string, error) {
	s := a.runner.State()
	list, err := d.store.Rollouts(ctx, a.name, 1000)
	if err != nil {
		return "", err
	}
	for _, r := range list {
		if r.Outcome == gapless.Promoted && r.To == s.Stable && r.From != "" && r.From != r.To {
			return r.From, nil
		}
	}
	return "", gapless.Errorf(gapless.Conflict, "nothing served before %s", s.Stable).
		WithHint("name a release: gapless releases %s lists them", a.name)
}

// Rollouts implements api.Service.
func (d *Daemon) Rollouts(ctx context.Context, name string) ([]gapless.Rollout, error) {
	if _, err := d.app(name); err != nil {
		return nil, err
	}
	list, err := d.store.Rollouts(ctx, name, 100)
	if err != nil {
		return nil, err
	}
	return d.sign(ctx, list)
}

// Plan implements api.Service.
func (d *Daemon) Plan(_ context.Context, req api.DeployRequest) (api.Plan, error) {
	if err := checkRequest(req); err != nil {
		return api.Plan{}, err
	}
	s := rollout.State{App: req.App.Name}
	if a, err := d.app(req.App.Name); err == nil {
		s = a.runner.State()
	}
	plan := api.Plan{App: req.App.Name, From: s.Stable}
	old := 0
	for _, m := range s.Members {
		if m.Process == gapless.WebProcess && m.Role == rollout.Stable {
			old++
		}
	}
	before := d.specOf(req.App.Name, s.Stable)
	rel := &gapless.Release{Spec: req.App}
	plan.Steps = rollout.Compile(&req.App, counts(s, rel, before), old)
	for _, step := range plan.Steps {
		plan.Text = append(plan.Text, rollout.Describe(step))
	}
	if before != nil {
		last, err := d.release(req.App.Name, s.Stable)
		if err != nil {
			return plan, err
		}
		secrets, err := d.complete(last, &req)
		if err != nil {
			return plan, err
		}
		plan.Changes = append(changes(before, &req.App), d.outlook(last, req, secrets)...)
	}
	return plan, nil
}

// changes lists the settings that differ, by their names in JSON.
func changes(before, after *gapless.App) []string {
	var out []string
	a, b := reflect.ValueOf(*before), reflect.ValueOf(*after)
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		switch name {
		case "Env", "EnvFiles", "Flags", "Processes":
			continue
		}
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			out = append(out, fmt.Sprintf("%s: %s → %s", lower(name), said(a.Field(i)), said(b.Field(i))))
		}
	}
	for _, p := range after.Processes {
		old := before.Process(p.Name)
		switch {
		case old == nil:
			out = append(out, "new process "+p.Name)
			continue
		case old.Run != p.Run:
			out = append(out, fmt.Sprintf("%s run: %s → %s", p.Name, old.Run, p.Run))
		}
		if old.Instances != p.Instances {
			out = append(out, fmt.Sprintf("%s instances: %d → %d", p.Name, old.Instances, p.Instances))
		}
	}
	for _, p := range before.Processes {
		if after.Process(p.Name) == nil {
			out = append(out, "process "+p.Name+" goes")
		}
	}
	return out
}

// said writes a setting for people: short, and without what is not set.
func said(v reflect.Value) string {
	if v.IsZero() {
		return "none"
	}
	if text, ok := v.Interface().(fmt.Stringer); ok && v.Kind() != reflect.Pointer {
		return text.String()
	}
	var parts []string
	switch v.Kind() {
	case reflect.Pointer:
		return said(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			parts = append(parts, said(v.Index(i)))
		}
		return strings.Join(parts, ", ")
	case reflect.Struct:
		for i := range v.NumField() {
			if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); !v.Field(i).IsZero() {
				parts = append(parts, name+" "+said(v.Field(i)))
			}
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprint(v.Interface())
}

func lower(name string) string { return string(name[0]|0x20) + name[1:] }
