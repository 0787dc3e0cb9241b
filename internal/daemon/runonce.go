package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/keeper"
	"gapless/internal/supervise"
)

// Limits of commands that are run once.
const (
	onceTime    = time.Hour // where nobody says another
	onceMost    = 24 * time.Hour
	onceKept    = 10 * time.Minute // how long it is known how one ended
	onceAtATime = 50
	oncePrefix  = "once:" // no app's name has a colon
)

// onces are the commands that are run once. keeper holds them like instances,
// so that they outlive the daemon and their output is in the app's log.
type onces struct {
	d *Daemon

	mu    sync.Mutex
	known map[string]*once // by ID
}

// once is one of them. Its exported fields are what keeper remembers.
type once struct {
	Once  api.Once      `json:"once"`
	End   time.Time     `json:"end"`
	Grace time.Duration `json:"grace"`

	over   bool // its time is over; guarded by onces.mu
	exit   *gapless.Exit
	exited chan struct{} // closed when exit is set
}

// RunOnce implements api.Service.
func (d *Daemon) RunOnce(ctx context.Context, name string, req api.OnceRequest) (api.Once, error) {
	limit := req.Timeout.Std()
	if limit == 0 {
		limit = onceTime
	}
	switch {
	case len(req.Command) == 0 || req.Command[0] == "":
		return api.Once{}, gapless.Errorf(gapless.Invalid, "no command was given").WithHint("gapless run-once %s -- node task.js", name)
	case slices.ContainsFunc(req.Command, func(s string) bool { return strings.ContainsRune(s, 0) }):
		return api.Once{}, gapless.Errorf(gapless.Invalid, "the command holds a NUL byte")
	case limit > onceMost:
		return api.Once{}, gapless.Errorf(gapless.Invalid, "a timeout of %s is over a day", req.Timeout)
	}
	a, err := d.app(name)
	if err != nil {
		return api.Once{}, err
	}
	if a.runner.State().Down {
		return api.Once{}, gapless.Errorf(gapless.Conflict, "%s is down", name).WithHint("start it with: gapless up")
	}
	rel, process, _, err := d.meant(name, api.ExecRequest{Release: req.Release, Process: req.Process})
	if err != nil {
		return api.Once{}, err
	}
	env, err := d.vault.environment(rel)
	if err != nil {
		return api.Once{}, err
	}
	c, err := d.sup.Command(rel, process, env.of(process), "", req.Command)
	if err != nil {
		return api.Once{}, err
	}
	o, err := d.onces.add(rel, limit)
	if err != nil {
		return api.Once{}, err
	}
	if err := d.onces.start(ctx, o, c); err != nil {
		d.onces.drop(o)
		return api.Once{}, err
	}
	d.work.Go(func() { d.onces.mind(o) })
	if a.runner.State().Down { // it began to go down after we looked
		return api.Once{}, errors.Join(gapless.Errorf(gapless.Conflict, "%s is going down", name), d.onces.stop(ctx, o))
	}
	return o.Once, nil
}

// add takes a free number for a command of a release.
func (l *onces) add(rel *gapless.Release, limit time.Duration) (*once, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	running, taken := 0, map[string]bool{}
	for _, o := range l.known {
		if o.exit == nil {
			running++
		}
		if o.Once.App == rel.App {
			taken[o.Once.Label] = true
		}
	}
	if running >= onceAtATime {
		return nil, gapless.Errorf(gapless.TooMany, "%d commands run already", running).WithHint("wait until one of them has ended")
	}
	n := 1
	for taken[fmt.Sprintf("%s/once.%d", rel.Name, n)] {
		n++
	}
	now := time.Now().UTC().Truncate(time.Millisecond) // as the log has it
	o := &once{End: now.Add(limit), Grace: rel.Spec.Grace.Std(), exited: make(chan struct{}), Once: api.Once{
		ID: oncePrefix + rel.App + "." + newID(now), App: rel.App, Label: fmt.Sprintf("%s/once.%d", rel.Name, n), Started: now}}
	l.known[o.Once.ID] = o
	return o, nil
}

func (l *onces) start(ctx context.Context, o *once, c supervise.Command) error {
	meta, err := json.Marshal(o)
	if err != nil {
		return err
	}
	spec := keeper.Spec{ID: o.Once.ID, Argv: c.Argv, Env: c.Env, Dir: c.Dir, Grace: o.Grace, Meta: string(meta),
		Log: &keeper.Log{Path: c.Log.Path, Label: o.Once.Label, MaxSize: c.Log.MaxSize, MaxAge: c.Log.MaxAge, Keep: c.Log.Keep}}
	if c.User != nil {
		spec.UID, spec.GID, spec.Groups = &c.User.UID, &c.User.GID, c.User.Groups
	}
	if _, err := l.d.keeper.Start(ctx, spec); err != nil {
		if gapless.CodeOf(err) == gapless.Unavailable {
			_ = l.d.keeper.Signal(l.d.ctx, o.Once.ID, syscall.SIGKILL) // the answer may have been lost
		}
		return gapless.Errorf(gapless.NotStarted, "start %s: %w", c.Argv[0], err)
	}
	return nil
}

// mind ends a command when its time is over, and forgets it when it has been
// over for a while.
func (l *onces) mind(o *once) {
	timer := time.NewTimer(time.Until(o.End))
	defer timer.Stop()
	select {
	case <-l.d.ctx.Done():
		return
	case <-o.exited:
	case <-timer.C:
		l.mu.Lock()
		o.over = true
		l.mu.Unlock()
		if err := l.stop(l.d.ctx, o); err != nil && l.d.ctx.Err() == nil {
			l.d.log.Warn("end a command whose time is over", "id", o.Once.ID, "err", err)
		}
	}
	select {
	case <-l.d.ctx.Done():
	case <-time.After(onceKept):
		if err := l.d.keeper.Forget(l.d.ctx, o.Once.ID); err != nil && l.d.ctx.Err() == nil {
			l.d.log.Warn("forget a command", "id", o.Once.ID, "err", err)
		}
		l.drop(o)
	}
}

func (l *onces) drop(o *once) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, o.Once.ID)
}

// stop ends a command and all that it started: SIGTERM, grace, SIGKILL.
func (l *onces) stop(ctx context.Context, o *once) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := l.d.keeper.Signal(ctx, o.Once.ID, sig); err != nil && gapless.CodeOf(err) != gapless.NotFound {
			return fmt.Errorf("end %s: %w", o.Once.Label, err)
		}
		select {
		case <-o.exited:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(o.Grace):
		}
	}
	return gapless.Errorf(gapless.Unavailable, "%s cannot be ended", o.Once.Label)
}

// stopAll ends the commands of an app that goes down.
func (l *onces) stopAll(ctx context.Context, app string) error {
	l.mu.Lock()
	var running []*once
	for _, o := range l.known {
		if o.Once.App == app && o.exit == nil {
			running = append(running, o)
		}
	}
	l.mu.Unlock()
	errs := make(chan error, len(running))
	for _, o := range running {
		go func() { errs <- l.stop(ctx, o) }()
	}
	var all error
	for range running {
		all = errors.Join(all, <-errs)
	}
	return all
}

// releases are those of an app that a command runs in.
func (l *onces) releases(app string) (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.known {
		if o.Once.App == app && o.exit == nil {
			name, _, _ := strings.Cut(o.Once.Label, "/")
			names = append(names, name)
		}
	}
	return names
}

// exited takes in what keeper says of one that ended.
func (l *onces) exited(p keeper.Proc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.known[p.ID]
	if o == nil || o.exit != nil {
		return
	}
	o.exit = &gapless.Exit{Code: -1, At: time.Now()}
	if p.Exit != nil {
		o.exit = p.Exit
	}
	close(o.exited)
}

// adopt takes over those that an earlier daemon started.
func (l *onces) adopt(ctx context.Context) error {
	list, err := l.d.keeper.List(ctx)
	if err != nil {
		return err
	}
	for _, p := range list {
		if !strings.HasPrefix(p.ID, oncePrefix) {
			continue
		}
		o := &once{exited: make(chan struct{})}
		if err := json.Unmarshal([]byte(p.Meta), o); err != nil || o.Once.ID != p.ID {
			l.d.log.Warn("a process is none of ours and left alone", "process", p.ID, "err", err)
			continue
		}
		l.mu.Lock()
		l.known[p.ID] = o
		l.mu.Unlock()
		if !p.Running {
			l.exited(p)
		}
		l.d.work.Go(func() { l.mind(o) })
	}
	return nil
}

func (l *onces) find(app, id string) (*once, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.known[id]; o != nil && o.Once.App == app {
		return o, nil
	}
	return nil, gapless.Errorf(gapless.NotFound, "%s has no command %q", app, id).
		WithHint("how one ended is known for %s; its output is in: gapless logs %s --instance once", onceKept, app)
}

// StopOnce implements api.Service.
func (d *Daemon) StopOnce(ctx context.Context, app, id string) error {
	o, err := d.onces.find(app, id)
	if err != nil {
		return err
	}
	return d.onces.stop(ctx, o)
}

// OnceOutput implements api.Service.
func (d *Daemon) OnceOutput(ctx context.Context, app, id string) (iter.Seq2[api.OnceOutput, error], error) {
	o, err := d.onces.find(app, id)
	if err != nil {
		return nil, err
	}
	return func(yield func(api.OnceOutput, error) bool) {
		told := 0
		if !d.onces.follow(ctx, o, &told, yield) {
			return
		}
		d.onces.mu.Lock()
		last := api.OnceOutput{Exit: o.exit, Over: o.over}
		d.onces.mu.Unlock()
		yield(last, nil)
	}, nil
}

// follow yields what o prints until it has ended; false: nobody listens any more.
func (l *onces) follow(ctx context.Context, o *once, told *int, yield func(api.OnceOutput, error) bool) bool {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-o.exited:
			cancel()
		case <-stop:
		}
	}()
	opt := keeper.ReadOptions{Lines: 1 << 30, Since: o.Once.Started.Add(-time.Second), Follow: true, Filter: func(line keeper.Line) bool {
		return line.Label == o.Once.Label && !line.Time.Before(o.Once.Started)
	}}
	say := func(line keeper.Line, err error) bool {
		if err != nil {
			yield(api.OnceOutput{}, err)
			return false
		}
		return yield(api.OnceOutput{Line: &api.LogLine{Time: line.Time, Label: line.Label, Stream: line.Stream, Text: line.Text}}, nil)
	}
	path := l.d.home.AppLog(o.Once.App)
	for line, err := range keeper.ReadLogs(running, path, opt) {
		*told++
		if !say(line, err) {
			return false
		}
	}
	if ctx.Err() != nil {
		return false
	}
	// Its last words are in the log before its exit is told: those that came
	// while we looked away are after the ones that we told.
	opt.Follow = false
	n := 0
	for line, err := range keeper.ReadLogs(ctx, path, opt) {
		if n++; n > *told {
			*told++
			if !say(line, err) {
				return false
			}
		}
	}
	return ctx.Err() == nil
}
