package daemon

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/keeper"
	"gapless/internal/rollout"
)

// Deploy implements api.Service: it returns at once; the release is made and
// rolled out in the background.
func (d *Daemon) Deploy(ctx context.Context, req api.DeployRequest) (gapless.Rollout, error) {
	if err := checkRequest(req); err != nil {
		return gapless.Rollout{}, err
	}
	if err := d.stranger(req.App.Name); err != nil {
		return gapless.Rollout{}, err
	}
	if err := CheckTLS(&req.App, time.Now()); err != nil {
		return gapless.Rollout{}, err
	}
	if err := d.conflict(&req.App); err != nil {
		return gapless.Rollout{}, err
	}
	if err := d.refuseByAlerts(req); err != nil {
		return gapless.Rollout{}, err
	}
	if req.Replace {
		if err := d.clear(ctx, req.App.Name); err != nil {
			return gapless.Rollout{}, err
		}
	}
	a, p, err := d.claim(req)
	if err != nil {
		return gapless.Rollout{}, err
	}
	r := p.rollout
	err = d.listen(ctx, &req.App) // a port that is taken is told before anything is copied
	if err == nil {               // the app first: a rollout without one would never be ended
		err = a.runner.Do(ctx, func(s rollout.State) (rollout.State, error) { return s, nil })
	}
	if err == nil {
		err = d.store.SaveRollout(ctx, &r)
	}
	if err != nil {
		a.settle()
		d.tidy()
		return gapless.Rollout{}, err
	}
	d.work.Go(func() {
		defer d.tidy()
		defer a.settle()
		err := d.rollOut(p.ctx, a, req, r)
		switch {
		case err == nil:
		case d.ctx.Err() != nil: // the next daemon says so
			d.log.Info("a release is not made to its end", "app", a.name, "err", err)
		case p.ctx.Err() != nil:
			d.log.Info("a release is not made to its end", "app", a.name, "err", err)
			d.fail(a, r, context.Cause(p.ctx))
		default:
			d.fail(a, r, err)
		}
	})
	return r, nil
}

// clear takes a rollout that is under way back, or ends the making of its
// release, and waits until that is done.
func (d *Daemon) clear(ctx context.Context, name string) error {
	a, err := d.app(name)
	if err != nil {
		return nil // nothing to replace
	}
	if _, err := a.interrupt(ctx, errReplaced); err != nil {
		return err
	}
	if !a.runner.State().Busy() {
		return nil
	}
	err = a.runner.Do(ctx, func(s rollout.State) (rollout.State, error) {
		return rollout.Abort(s, errReplaced.Error(), time.Now()), nil
	})
	if err != nil {
		return err
	}
	for a.runner.State().Busy() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// claim marks the app as busy with a new rollout, and what it is to serve as
// taken.
func (d *Daemon) claim(req api.DeployRequest) (*app, *preparation, error) {
	d.claiming.Lock()
	defer d.claiming.Unlock()
	if err := d.conflict(&req.App); err != nil {
		return nil, nil, err
	}
	a, err := d.app(req.App.Name)
	if err != nil {
		a = d.addApp(rollout.State{App: req.App.Name, Down: true})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.runner.State()
	switch {
	case a.preparing != nil || s.Busy():
		return nil, nil, gapless.Errorf(gapless.Conflict, "a rollout of %s is under way", a.name).
			WithHint("watch it with: gapless status -f %s, or take its place with: gapless deploy --replace", a.name)
	case s.Down && len(s.Members) > 0:
		return nil, nil, gapless.Errorf(gapless.Conflict, "%s is being taken down", a.name).WithHint("try again when it is down")
	case d.elsewhere(s, &req.App) != "" && !req.Moved:
		return nil, nil, gapless.Errorf(gapless.Conflict, "%s was started from %s, and this is %s", a.name, d.elsewhere(s, &req.App), req.App.Source).
			WithHint("if it is another app, name it: --name; if %s moved here: --moved", a.name)
	case req.Kind == "up" && !s.Down && s.Stable != "":
		return nil, nil, gapless.Errorf(gapless.Conflict, "%s is up already (%s)", a.name, s.Stable).
			WithHint("ship what is in this directory with: gapless deploy")
	}
	p := &preparation{spec: &req.App, over: make(chan struct{}), rollout: gapless.Rollout{
		ID: newID(time.Now()), App: a.name, Kind: req.Kind, From: s.Stable, Outcome: gapless.Running, Started: time.Now().UTC()}}
	p.ctx, p.cancel = context.WithCancelCause(d.ctx)
	a.preparing = p
	return a, p, nil
}

// elsewhere is the directory that the app's last release was made from, if
// that is not this one's.
func (d *Daemon) elsewhere(s rollout.State, app *gapless.App) string {
	if last := d.lastRelease(s); last != nil && last.Spec.Source != app.Source {
		return last.Spec.Source
	}
	return ""
}

// listen makes keeper hold an app's addresses.
func (d *Daemon) listen(ctx context.Context, app *gapless.App) error {
	if app.Process(gapless.WebProcess) == nil {
		return nil
	}
	for _, addr := range app.Listen {
		if err := d.keeper.Listen(ctx, addr); err != nil {
			return err
		}
	}
	return nil
}

// tidy gives back what nothing uses any more. A socket that is held and not
// accepted from would let clients wait for nothing.
func (d *Daemon) tidy() {
	if err := d.unlisten(d.ctx); err != nil && d.ctx.Err() == nil {
		d.log.Warn("give back addresses", "err", err)
	}
}

// rollOut makes the release and begins its rollout.
func (d *Daemon) rollOut(ctx context.Context, a *app, req api.DeployRequest, r gapless.Rollout) error {
	say := func(format string, args ...any) {
		d.emit(note(r, "prepare", "", format, args...))
	}
	last := d.lastRelease(a.runner.State())
	secrets, err := d.complete(last, &req)
	if err != nil {
		return err
	}
	if last != nil {
		if differs := d.outlook(last, req, secrets); len(differs) > 0 {
			say("environment: %s", strings.Join(differs, ", "))
		}
	}
	rel, err := d.prepare(ctx, req, secrets, say)
	if err != nil {
		return err
	}
	say("%s is %s", rel.Name, rel.ID)
	from := a.runner.State().Stable // nothing else begins meanwhile
	judge := d.judge(ctx, from, rel)
	err = a.runner.Do(d.ctx, func(s rollout.State) (rollout.State, error) {
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		if s.Stable != from {
			judge = nil
		}
		s, err := rollout.Begin(s, r.ID, r.Kind, rel, counts(s, rel, d.specOf(a.name, s.Stable)), judge, time.Now())
		if err == nil && req.UntilDecided > 0 {
			s = rollout.UntilDecided(s, req.UntilDecided)
		}
		return s, err
	})
	if err != nil {
		return errors.Join(err, d.discard(d.ctx, rel))
	}
	return nil
}

func (d *Daemon) specOf(app, release string) *gapless.App {
	if release == "" {
		return nil
	}
	rel, err := d.release(app, release)
	if err != nil {
		return nil
	}
	return &rel.Spec
}

// counts is what the candidate gets: what its configuration says, but a
// `gapless scale` stays in force while that number in the file is unchanged.
func counts(s rollout.State, rel *gapless.Release, before *gapless.App) map[string]int {
	out := map[string]int{}
	for _, p := range rel.Spec.Processes {
		out[p.Name] = p.Instances
		if before == nil {
			continue
		}
		if old := before.Process(p.Name); old != nil && old.Instances == p.Instances {
			if n, ok := s.Counts[p.Name]; ok {
				out[p.Name] = n
			}
		}
	}
	return out
}

// fail ends a rollout that never began.
func (d *Daemon) fail(a *app, r gapless.Rollout, err error) {
	r.Outcome, r.Finished, r.Reason, r.Hint = gapless.NothingStarted, time.Now().UTC(), err.Error(), gapless.HintOf(err)
	if r.Hint == "" && errors.Is(err, syscall.ENOSPC) {
		r.Hint = "free some space on the disk that holds " + string(d.home)
	}
	a.mu.Lock()
	a.failed = &r
	a.mu.Unlock()
	d.notices.tell(a.name, outcomeOf(r), r.To, r.From)
	if err := d.store.SaveRollout(d.ctx, &r); err != nil {
		d.log.Error("save a failed rollout", "err", err)
	}
	d.emit(note(r, finished, "error", "nothing was started: %s", r.Reason))
}

func note(r gapless.Rollout, kind, level, format string, args ...any) gapless.Event {
	return gapless.Event{Time: time.Now(), App: r.App, Rollout: r.ID, Release: r.To, Kind: kind, Level: level,
		Message: fmt.Sprintf(format, args...)}
}

// Restart implements api.Service.
func (d *Daemon) Restart(ctx context.Context, name string) (gapless.Rollout, error) {
	return d.begin(ctx, name, func(s rollout.State, id string, rel *gapless.Release) (rollout.State, error) {
		return rollout.BeginRestart(s, id, rel, time.Now())
	})
}

// Scale implements api.Service.
func (d *Daemon) Scale(ctx context.Context, name string, req api.ScaleRequest) (gapless.Rollout, error) {
	if req.Instances < 0 || req.Instances > 1000 {
		return gapless.Rollout{}, gapless.Errorf(gapless.Invalid, "%d instances are not between 0 and 1000", req.Instances).
			WithHint("write a number from 0 to 1000, as in: gapless scale %s 4", name)
	}
	if req.Process == "" {
		req.Process = gapless.WebProcess
	}
	return d.begin(ctx, name, func(s rollout.State, id string, rel *gapless.Release) (rollout.State, error) {
		return rollout.BeginScale(s, id, rel, req.Process, req.Instances, time.Now())
	})
}

// begin starts a rollout of the stable release.
func (d *Daemon) begin(ctx context.Context, name string, f func(rollout.State, string, *gapless.Release) (rollout.State, error)) (gapless.Rollout, error) {
	a, err := d.app(name)
	if err != nil {
		return gapless.Rollout{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.preparing != nil {
		return gapless.Rollout{}, gapless.Errorf(gapless.Conflict, "a rollout of %s is under way", name).
			WithHint("watch it with: gapless status -f %s, or take it back with: gapless abort %s", name, name)
	}
	var out gapless.Rollout
	err = a.runner.Do(ctx, func(s rollout.State) (rollout.State, error) {
		var rel *gapless.Release
		if s.Stable != "" {
			if rel, err = d.release(name, s.Stable); err != nil {
				return s, err
			}
		}
		s, err := f(s, newID(time.Now()), rel)
		if err == nil {
			out = *s.Rollout
		}
		return s, err
	})
	return out, err
}

// Down implements api.Service: it returns when nothing of the app runs, or is
// about to.
func (d *Daemon) Down(ctx context.Context, name string) error {
	a, err := d.app(name)
	if err != nil {
		return err
	}
	for told := false; !told; {
		if _, err := a.interrupt(ctx, errDown); err != nil {
			return err
		}
		if told, err = a.bringDown(ctx); err != nil {
			return err
		}
	}
	if err := d.onces.stopAll(ctx, name); err != nil {
		return err
	}
	for !a.gone(d.router) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return d.unlisten(ctx)
}

// bringDown tells the runner to stop everything; not while a release is being
// made, whose rollout would bring the app up again.
func (a *app) bringDown(ctx context.Context) (told bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.preparing != nil {
		return false, nil
	}
	return true, a.runner.Do(ctx, func(s rollout.State) (rollout.State, error) {
		s.Down = true
		return s, nil
	})
}

func (a *app) gone(r *router) bool {
	if !a.runner.State().Idle() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, route := range r.table.Routes {
		if route.App == a.name {
			return false
		}
	}
	return true
}

// unlisten gives back the addresses that no route uses any more, and no
// rollout is about to use.
func (d *Daemon) unlisten(ctx context.Context) error {
	d.listening.Lock()
	defer d.listening.Unlock()
	used := d.wanted()
	held, err := d.keeper.Listeners(ctx)
	if err != nil {
		return err
	}
	d.router.mu.Lock()
	for _, route := range d.router.table.Routes {
		for _, addr := range route.Listen {
			used[addr] = true
		}
	}
	d.router.mu.Unlock()
	for _, addr := range held {
		if !used[addr] {
			if err := d.keeper.Unlisten(ctx, addr); err != nil && gapless.CodeOf(err) != gapless.NotFound {
				return err
			}
		}
	}
	return nil
}

// wanted are the addresses of releases that serve, are rolled out or being made.
func (d *Daemon) wanted() map[string]bool {
	out := map[string]bool{}
	for _, spec := range d.specs() {
		for _, addr := range spec.Listen {
			out[addr] = true
		}
	}
	return out
}

// Shutdown implements api.Service: every app goes down; keeper is stopped by the caller.
func (d *Daemon) Shutdown(ctx context.Context) error {
	d.mu.Lock()
	var names []string
	for name := range d.apps {
		names = append(names, name)
	}
	d.mu.Unlock()
	errs := make(chan error, len(names))
	for _, name := range names {
		go func() { errs <- d.Down(ctx, name) }()
	}
	var all error
	for range names {
		all = errors.Join(all, <-errs)
	}
	return all
}

// Releases implements api.Service.
func (d *Daemon) Releases(ctx context.Context, name string) ([]gapless.Release, error) {
	if _, err := d.app(name); err != nil {
		return nil, err
	}
	return d.store.Releases(ctx, name)
}

// Rollout implements api.Service.
func (d *Daemon) Rollout(ctx context.Context, id string) (gapless.Rollout, error) {
	r := d.present(id)
	if r == nil {
		var err error
		if r, err = d.store.Rollout(ctx, id); err != nil {
			return gapless.Rollout{}, err
		}
	}
	events, err := d.store.Events(ctx, id, 0)
	if err != nil {
		return gapless.Rollout{}, err
	}
	for _, e := range events {
		switch e.Kind {
		case gapless.EventFailing:
			if e.Failing != nil {
				r.Failing = append(r.Failing, *e.Failing)
			}
		case gapless.EventComplaint:
			r.Complaints = append(r.Complaints, gapless.LogCount{Text: e.Message, Count: e.Count})
		case "instance.log":
			r.LogTail = append(r.LogTail, e.Message)
		case "cause":
			r.Hint = e.Message
		}
	}
	if r.Outcome == gapless.Running && suspicious(r) {
		r.Failing, r.Complaints = d.router.failing(r.App, r.To), d.complained.of(r, d.complaints)
	}
	signed, err := d.sign(ctx, []gapless.Rollout{*r})
	if err != nil {
		return gapless.Rollout{}, err
	}
	return signed[0], nil
}

// present is a rollout as the engine knows it now: newer than what is saved
// while the disk is full. It is nil for those of the past.
func (d *Daemon) present(id string) *gapless.Rollout {
	d.mu.Lock()
	apps := slices.Collect(maps.Values(d.apps))
	d.mu.Unlock()
	for _, a := range apps {
		if r := a.runner.State().Rollout; r != nil && r.ID == id {
			return r
		}
		a.mu.Lock()
		r := a.failed
		a.mu.Unlock()
		if r != nil && r.ID == id {
			c := *r
			return &c
		}
	}
	return nil
}

// Events implements api.Service.
func (d *Daemon) Events(ctx context.Context, id string, since int64) (iter.Seq2[gapless.Event, error], error) {
	if _, err := d.Rollout(ctx, id); err != nil { // on a full disk only the engine knows of it
		return nil, err
	}
	return d.hub.follow(ctx, id, since, func() (gapless.Rollout, error) { return d.Rollout(ctx, id) }), nil
}

// Logs implements api.Service.
func (d *Daemon) Logs(ctx context.Context, name string, req api.LogRequest) (iter.Seq2[api.LogLine, error], error) {
	if _, err := d.app(name); err != nil {
		return nil, err
	}
	if req.Access {
		return d.accessLines(ctx, name, req)
	}
	if req.Stream != "" && req.Stream != "out" && req.Stream != "err" {
		return nil, gapless.Errorf(gapless.Invalid, "unknown stream %q", req.Stream).WithHint("known: out, err")
	}
	opt := keeper.ReadOptions{Lines: req.Lines, Follow: req.Follow, Filter: func(l keeper.Line) bool {
		return (req.Stream == "" || l.Stream == req.Stream) && matches(l.Label, req.Instance)
	}}
	return func(yield func(api.LogLine, error) bool) {
		for l, err := range keeper.ReadLogs(ctx, d.home.AppLog(name), opt) {
			if !yield(api.LogLine{Time: l.Time, Label: l.Label, Stream: l.Stream, Text: l.Text}, err) {
				return
			}
		}
	}, nil
}

// matches reports whether a label such as v3/worker.1 is meant by v3,
// v3/worker, worker or the whole label.
func matches(label, want string) bool {
	release, rest, _ := strings.Cut(label, "/")
	process, _, _ := strings.Cut(rest, ".")
	return want == "" || want == label || want == release || want == rest ||
		want == process || want == release+"/"+process
}
