// Package daemon is the wiring of the control plane: it opens the store,
// connects to keeper and the edges, supervises instances, runs one rollout
// runner per app and serves the API. It also holds what the other processes
// of an installation are started by. All knowledge is in the packages that it
// ties together. Only the command line calls it.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"gapless"
	"gapless/internal/acme"
	"gapless/internal/api"
	"gapless/internal/keeper"
	"gapless/internal/rollout"
	"gapless/internal/snapshot"
	"gapless/internal/store"
	"gapless/internal/supervise"
)

// Daemon is a running control plane.
type Daemon struct {
	ctx        context.Context // ends with the process: work outlives the request that asked for it
	home       Home
	version    string
	log        *slog.Logger
	key        []byte // keys the hashes of releases
	vault      *vault
	store      *store.Store
	trees      *snapshot.Store // what releases share
	keeper     *keeper.Client
	sup        *supervise.Supervisor
	router     *router
	hub        *hub
	hooks      hooks
	complained complained
	failed     failed
	onces      onces
	meter      meter
	tokens     tokens
	network    *network
	certs      *acme.Manager
	listening  sync.Mutex // held while addresses are given back
	claiming   sync.Mutex // held while it is looked whether what an app wants to serve is free, until it counts as taken
	damage     *damage    // nil: the database is whole
	records    *recorder
	order      order
	backup     chan struct{}  // looks whether a backup is due
	work       sync.WaitGroup // runners, and releases under preparation

	aside   aside // behind the journal
	notices *notices
	alerts  alerts
	slos    slos

	mu       sync.Mutex
	apps     map[string]*app
	releases map[string]*gapless.Release // by app/name; releases never change
}

// Run is the daemon process: it serves until ctx ends or keeper is gone.
func Run(ctx context.Context, home Home, version string) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &Daemon{ctx: ctx, home: home, version: version, log: processLog("daemon"),
		apps: map[string]*app{}, releases: map[string]*gapless.Release{},
		records: &recorder{home: home}, vault: &vault{home: home}, backup: make(chan struct{}, 1)}
	if err := home.Make(); err != nil {
		return err
	}
	if d.key, err = readKey(home.Key()); err != nil {
		return err
	}
	if err := d.vault.removeDrafts(); err != nil {
		d.log.Warn("clear what a write of secrets left", "err", err)
	}
	if d.trees, err = snapshot.Open(home.Content()); err != nil {
		return err
	}
	if unlock, err := lockStore(ctx, home, false); err != nil {
		d.log.Warn("a restore could come in between", "err", err)
	} else {
		defer unlock()
	}
	if d.store, d.damage, err = openStore(ctx, home, d.log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.store.Close()) }()
	d.hooks.d = d
	d.meter.d = d
	d.notices = newNotices(d)
	d.onces.d, d.onces.known = d, map[string]*once{}
	door := &api.Server{Service: d, Gate: d, Log: d.log}
	d.network = &network{home: home, handler: door.Remote(), log: d.log}
	d.hub = &hub{store: d.store, log: d.log, listeners: map[chan gapless.Event]string{}}

	if d.keeper, err = dialKeeper(ctx, home); err != nil {
		return err
	}
	defer func() { _ = d.keeper.Close() }()
	if err := greet(ctx, d.keeper, d.log); err != nil {
		return err
	}
	defer hold(ctx, home, 0, d.log)()
	if d.router, err = newRouter(ctx, home, d.keeper, d.log, d.wake); err != nil {
		return err
	}
	if err := d.openCertificates(); err != nil {
		return err
	}
	defer d.certs.Close()
	if err := d.mend(ctx); err != nil {
		return err
	}
	if d.rebooted(ctx, bootFile) {
		d.log.Info("the machine was started again: everything starts from the store")
	}
	procs, err := d.watch(ctx)
	if err != nil {
		return fmt.Errorf("watch keeper: %w", err)
	}
	d.sup = supervise.New(supervise.Config{Host: keeperHost{d.keeper}, Home: string(home), Log: d.log, Changed: func() { d.wake() }, KeepUnknown: d.damage != nil})
	defer d.sup.Close()
	if err := d.sup.Adopt(ctx, d.adopted); err != nil {
		return fmt.Errorf("take over running instances: %w", err)
	}
	defer func() {
		cancel()
		d.work.Wait()
	}()
	if err := d.onces.adopt(ctx); err != nil {
		return fmt.Errorf("take over running commands: %w", err)
	}
	if err := d.loadApps(ctx); err != nil {
		return err
	}
	if err := d.loadAlerts(ctx); err != nil {
		d.log.Warn("the alerts that fired are not known", "err", err)
	}
	d.work.Go(func() { d.backUp(ctx) })
	d.work.Go(func() { d.collectOften(ctx) })
	d.work.Go(func() { d.serveNetwork(ctx) })
	d.work.Go(func() { d.router.renewKeys(ctx) })
	d.work.Go(func() { d.router.keepTotals(ctx) })
	d.work.Go(func() { d.router.keepStables(ctx) })
	d.work.Go(func() { d.keepCertificates(ctx) })
	d.work.Go(func() { d.notices.run(ctx) })
	d.work.Go(func() { d.watchAlerts(ctx) })
	d.work.Go(func() { d.watchSLO(ctx) })

	ln, err := listenUnix(home.APISocket())
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: door.Local(), ReadHeaderTimeout: 10 * time.Second, ConnContext: api.ConnContext}
	serveErr := make(chan error, 1)
	go func() { serveErr <- srv.Serve(ln) }()
	defer func() { _ = srv.Close() }()
	d.log.Info("daemon serves", "home", home, "version", version)

	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-serveErr:
			return fmt.Errorf("serve the API: %w", err)
		case <-d.store.Damaged():
			return errors.New("the database is damaged: the next daemon sets it aside")
		case p, open := <-procs:
			if open {
				d.process(p)
				continue
			}
			if procs, err = d.rewatch(ctx); err != nil {
				return err
			}
			d.wake()
		}
	}
}

// process takes in what keeper says of one process.
func (d *Daemon) process(p keeper.Proc) {
	switch {
	case p.Kind == keeper.KindEdge:
		d.router.edge(p)
		d.wake()
	case strings.HasPrefix(p.ID, hookPrefix):
		if !p.Running {
			d.hooks.see(p)
			d.wake()
		}
	case p.Kind == keeper.KindInstance && !p.Running && strings.HasPrefix(p.ID, oncePrefix):
		d.onces.exited(p)
	case p.Kind == keeper.KindInstance && !p.Running:
		d.sup.Exited(fromKeeper(p))
	}
}

// wake makes the runners of some apps look, of none: all.
func (d *Daemon) wake(apps ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(apps) == 0 {
		for _, a := range d.apps {
			a.runner.Wake()
		}
	}
	for _, name := range apps {
		if a := d.apps[name]; a != nil {
			a.runner.Wake()
		}
	}
}

// loadApps goes on with every app where the last daemon left it.
func (d *Daemon) loadApps(ctx context.Context) error {
	names, err := d.store.Apps(ctx)
	if err != nil {
		return err
	}
	known, running := map[string]bool{}, map[string]bool{}
	var states []rollout.State
	for _, name := range names {
		var s rollout.State
		if err := d.store.App(ctx, name, &s); err != nil {
			return err
		}
		if err := d.abandon(ctx, name, s); err != nil {
			d.log.Warn("end what the last daemon did not begin", "app", name, "err", err) // a full disk must not keep us from starting
		}
		known[name] = true
		if observed, err := (fleet{d, d.sup}).Observe(ctx, name); err == nil && len(observed) == 0 && !s.Down {
			d.order.begin(name, s.Counts)
		}
		if s.Busy() {
			running[s.Rollout.ID] = true
		}
		states = append(states, sane(s, time.Now()))
	}
	if err := d.hooks.adopt(ctx, running); err != nil {
		return err
	}
	for _, s := range states {
		d.addApp(s)
	}
	for _, r := range d.router.table.Routes {
		if !known[r.App] && d.damage == nil { // its app was never saved
			if err := d.router.Apply(ctx, r.App, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// abandon ends rollouts whose release was still being made when the last
// daemon died: nothing of them had started.
func (d *Daemon) abandon(ctx context.Context, name string, s rollout.State) error {
	list, err := d.store.Rollouts(ctx, name, 20)
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.Outcome != gapless.Running || s.Rollout != nil && s.Rollout.ID == r.ID {
			continue
		}
		r.Outcome, r.Finished, r.Reason = gapless.NothingStarted, time.Now(), "the daemon was restarted while the release was being made"
		r.Hint = "deploy again"
		d.notices.tell(name, outcomeOf(r), s.Stable) // before it is saved: it is not looked at again
		if err := d.store.SaveRollout(ctx, &r); err != nil {
			return err
		}
		d.hub.emit(gapless.Event{Time: time.Now(), App: name, Rollout: r.ID, Release: r.To, Kind: finished, Level: "error", Message: r.Reason})
	}
	return nil
}

// addApp begins to run an app; it ends with the daemon.
func (d *Daemon) addApp(s rollout.State) *app {
	a := &app{name: s.App, runner: &rollout.Runner{App: s.App, Fleet: fleet{d, d.sup}, Router: d.router,
		Journal: journal{d}, Evidence: d.router, Hooks: &d.hooks, Meter: &d.meter, Release: d.release, ReadJudge: readJudge, Emit: d.emit, Log: d.log}}
	a.runner.Init(s)
	d.mu.Lock()
	d.apps[s.App] = a
	d.mu.Unlock()
	d.work.Go(func() { _ = a.runner.Run(d.ctx) })
	d.work.Go(func() { d.synthesize(d.ctx, a) })
	return a
}

func (d *Daemon) app(name string) (*app, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.apps[name]; a != nil {
		return a, nil
	}
	err := gapless.Errorf(gapless.NotFound, "no app %q", name)
	if near := gapless.Nearest(name, slices.Collect(maps.Keys(d.apps))); near != "" {
		return nil, err.WithHint("did you mean %s? If it is a new app, start it with: gapless up", near)
	}
	return nil, err.WithHint("start it with: gapless up · gapless status lists what was started")
}

// release reads a release once; it never changes.
func (d *Daemon) release(app, name string) (*gapless.Release, error) {
	key := app + "/" + name
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.releases[key]; r != nil {
		return r, nil
	}
	r, err := d.store.Release(d.ctx, app, name)
	if err != nil {
		return nil, err
	}
	d.releases[key] = r
	return r, nil
}

// adopted tells the supervisor what an instance that it found was made from.
func (d *Daemon) adopted(app, name, process string) (*gapless.Release, map[string]string) {
	rel, err := d.release(app, name)
	if err != nil {
		d.log.Warn("unknown release runs", "app", app, "release", name, "err", err)
		return nil, nil
	}
	env, err := d.vault.environment(rel)
	if err != nil {
		d.log.Warn("adopt", "app", app, "release", name, "err", err)
	}
	return rel, env.of(process)
}

func listenUnix(path string) (net.Listener, error) {
	// keeper runs one daemon at a time: what lies there is left over.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("clear %s: %w", path, err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect %s: %w", path, err), ln.Close())
	}
	return ln, nil
}
