package daemon

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/rollout"
	"gapless/internal/snapshot"
)

// aDaemon is one without processes: an installation, and runners that do not run.
func aDaemon(t *testing.T) *Daemon {
	t.Helper()
	home, st := anInstallation(t)
	trees, err := snapshot.Open(home.Content())
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{ctx: t.Context(), home: home, store: st, trees: trees, log: slog.New(slog.DiscardHandler), apps: map[string]*app{},
		releases: map[string]*gapless.Release{}, router: &router{}, keeper: fakeKeeper(t), records: &recorder{home: home}, backup: make(chan struct{}, 1)}
	d.hub = &hub{store: st, log: d.log, listeners: map[chan gapless.Event]string{}}
	d.notices = newNotices(d)
	t.Cleanup(d.work.Wait)
	return d
}

// anApp makes an app known whose runner does not run.
func anApp(d *Daemon, s rollout.State) *app {
	a := &app{name: s.App, runner: &rollout.Runner{App: s.App, Journal: journal{d}, Log: d.log, Emit: d.emit}}
	a.runner.Init(s)
	d.apps[s.App] = a
	return a
}

func onAddress(name, path string, hosts ...string) gapless.App {
	return gapless.App{Name: name, Listen: []string{":8080"}, Path: path, Hosts: hosts, Source: "/" + name, Processes: []gapless.Process{{Name: "web", Instances: 1}}}
}

// TestConflict looks at all that an app is or will be served by.
func TestConflict(t *testing.T) {
	d := aDaemon(t)
	for i, spec := range []gapless.App{onAddress("prepared", "/a"), onAddress("stable", "/b"), onAddress("stable", "/c", "x.org"), onAddress("down", "/d")} {
		rel := &gapless.Release{App: spec.Name, Name: []string{"v1", "v1", "v2", "v1"}[i], Spec: spec}
		d.releases[rel.App+"/"+rel.Name] = rel
	}
	prepared := onAddress("prepared", "/a")
	anApp(d, rollout.State{App: "prepared", Down: true}).preparing = &preparation{spec: &prepared}
	anApp(d, rollout.State{App: "stable", Stable: "v1", Members: []rollout.Member{{ID: "x"}}, Rollout: &gapless.Rollout{To: "v2", Outcome: gapless.Running}})
	anApp(d, rollout.State{App: "down", Down: true, Rollout: &gapless.Rollout{To: "v1", Outcome: gapless.Promoted}})
	d.router.table.Routes = []gapless.Route{{App: "served", Listen: []string{":8080"}, Path: "/e"}}
	worker := onAddress("new", "/a")
	worker.Processes[0].Name = "worker"
	for _, c := range []struct {
		app  gapless.App
		with bool
	}{
		{onAddress("new", "/a"), true}, {onAddress("prepared", "/a"), false}, {onAddress("new", "/b"), true},
		{onAddress("new", "/c"), false}, {onAddress("new", "/c", "x.org", "y.org"), true}, {onAddress("stable", "/c", "x.org"), false},
		{onAddress("new", "/d"), false}, {onAddress("new", "/e"), true}, {worker, false},
	} {
		err := d.conflict(&c.app)
		if (err != nil) != c.with || c.with && (gapless.CodeOf(err) != gapless.Conflict || gapless.HintOf(err) == "") {
			t.Errorf("%s on %s %v: %v", c.app.Name, c.app.Path, c.app.Hosts, err)
		}
	}
}

// TestClaimTakesTheRoute starts apps that want the same route at the same
// time: one gets it.
func TestClaimTakesTheRoute(t *testing.T) {
	d := aDaemon(t)
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		anApp(d, rollout.State{App: name, Down: true})
	}
	errs := make(chan error, len(names))
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			_, _, err := d.claim(api.DeployRequest{Kind: "up", App: onAddress(name, "/")})
			errs <- err
		})
	}
	wg.Wait()
	got := 0
	for range names {
		if err := <-errs; err == nil {
			got++
		} else if gapless.CodeOf(err) != gapless.Conflict {
			t.Error(err)
		}
	}
	if got != 1 {
		t.Errorf("%d apps got the same route", got)
	}
}

// TestFailedRolloutLeavesTheState fails a rollout while somebody saves a newer
// state of the app: that one stays.
func TestFailedRolloutLeavesTheState(t *testing.T) {
	d := aDaemon(t)
	a := anApp(d, rollout.State{App: "shop", Seq: 5, Stable: "v1"})
	newer := rollout.State{App: "shop", Seq: 7, Stable: "v1"}
	if err := d.store.SaveApp(t.Context(), "shop", newer, nil); err != nil {
		t.Fatal(err)
	}
	d.fail(a, gapless.Rollout{ID: "r9", App: "shop", Started: time.Now()}, errors.New("build failed"))
	var s rollout.State
	if err := d.store.App(t.Context(), "shop", &s); err != nil || s.Seq != 7 {
		t.Errorf("%v: the state is that of %d", err, s.Seq)
	}
	r, err := d.store.Rollout(t.Context(), "r9")
	if err != nil || r.Outcome != gapless.NothingStarted || r.Reason != "build failed" {
		t.Errorf("%v: %+v", err, r)
	}
}

// TestDownWaitsForThePreparation takes an app down whose release is being made.
func TestDownWaitsForThePreparation(t *testing.T) {
	d := aDaemon(t)
	a := anApp(d, rollout.State{App: "a", Down: true})
	_, p, err := d.claim(api.DeployRequest{Kind: "up", App: onAddress("a", "/")})
	if err != nil {
		t.Fatal(err)
	}
	if told, err := a.bringDown(t.Context()); err != nil || told {
		t.Errorf("%v, told %v: the rollout that begins then would bring it up again", err, told)
	}
	go func() {
		<-p.ctx.Done()
		d.fail(a, p.rollout, errDown)
		a.settle()
	}()
	r, err := a.interrupt(t.Context(), errDown)
	if err != nil || r == nil || r.Reason != "the app was taken down" {
		t.Errorf("%v: %+v", err, r)
	}
	if told, err := a.bringDown(t.Context()); err != nil || !told {
		t.Errorf("%v, told %v", err, told)
	}
}
