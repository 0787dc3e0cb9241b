package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gapless"
	"gapless/internal/edge"
	"gapless/internal/judge"
)

// stablesWorld is edges that count, and a router that looks every ten seconds.
type stablesWorld struct {
	*router
	t       *testing.T
	now     time.Time
	seq     uint64
	counted map[string]map[string]gapless.InstanceTraffic // by process and instance
}

func newStablesWorld(t *testing.T, instances ...string) *stablesWorld {
	w := &stablesWorld{router: plainRouter(t.Context(), Home(t.TempDir())), t: t, now: time.Now().Add(-8 * time.Minute), counted: map[string]map[string]gapless.InstanceTraffic{}}
	w.route(gapless.Weight{Release: "v1", Share: 1})
	w.instances(instances...)
	return w
}

func (w *stablesWorld) route(weights ...gapless.Weight) {
	w.table.Version++
	targets := []gapless.Target(nil)
	if len(w.table.Routes) > 0 {
		targets = w.table.Routes[0].Targets
	}
	w.table.Routes = []gapless.Route{{App: "shop", Stable: "v1", Weights: weights, Targets: targets}}
	w.changed["shop"] = w.table.Version
}

func (w *stablesWorld) instances(ids ...string) {
	w.table.Version++
	r := &w.table.Routes[0]
	r.Targets = nil
	for _, id := range ids {
		r.Targets = append(r.Targets, gapless.Target{Instance: id, Release: "v1"})
	}
	w.changed["shop"] = w.table.Version
}

// serve lets an edge process give each instance n requests, of which the
// first instance fails bad, and report.
func (w *stablesWorld) serve(start string, n, bad uint64) {
	of := w.counted[start]
	if of == nil {
		of = map[string]gapless.InstanceTraffic{}
		w.counted[start] = of
	}
	w.seq++
	rep := gapless.EdgeReport{Start: start, Seq: w.seq, Made: edge.Clock()}
	release := gapless.ReleaseTraffic{App: "shop", Release: "v1", Latency: make([]uint64, gapless.LatencyBuckets)}
	for i, g := range w.table.Routes[0].Targets {
		x := of[g.Instance]
		x.App, x.Instance, x.Requests = "shop", g.Instance, x.Requests+n
		if i == 0 {
			x.Bad += bad
		}
		of[g.Instance] = x
		x.Latency = []uint64{0, 0, x.Requests}
		rep.Instances = append(rep.Instances, x)
	}
	for _, x := range of {
		release.Requests += x.Requests
		release.Status[5] += x.Bad
		release.Latency[2] += x.Requests
	}
	rep.Releases = []gapless.ReleaseTraffic{release}
	w.stables.take(rep)
	thin := rep // without the histograms, as most reports are
	w.seq++
	thin.Seq, thin.Instances = w.seq, nil
	for _, x := range rep.Instances {
		x.Latency = nil
		thin.Instances = append(thin.Instances, x)
	}
	w.stables.take(thin)
}

func (w *stablesWorld) look() {
	w.now = w.now.Add(windowTime)
	w.stables.window(w.now, w.table.Routes, w.changed)
}

// windows is in how many windows instances were compared, and what they did.
func (w *stablesWorld) windows() (n int, bad, requests uint64) {
	if r := w.stables.apps["shop"]["v1"]; r != nil {
		for _, s := range r.Slices {
			n, bad, requests = n+s.Windows, bad+s.Bad, requests+s.Requests
		}
	}
	return n, bad, requests
}

func (w *stablesWorld) want(what string, windows int, bad, requests uint64) {
	w.t.Helper()
	if n, b, r := w.windows(); n != windows || b != bad || r != requests {
		w.t.Errorf("%s: %d windows, %d of %d bad; want %d, %d of %d", what, n, b, r, windows, bad, requests)
	}
}

func TestWindowsThatAreCompared(t *testing.T) {
	w := newStablesWorld(t, "a", "b")
	w.serve("e1", 1000, 9) // before somebody looked
	w.look()
	w.want("the first look", 0, 0, 0)
	for range 5 {
		w.serve("e1", 10, 1)
		w.look()
	}
	w.want("instances are new", 0, 5, 100)
	w.serve("e1", 10, 1)
	w.look()
	w.serve("e1", 10, 1)
	w.look()
	w.want("they are warm", 1, 7, 140)
	w.look()
	w.want("nothing happened", 1, 7, 140)
	w.serve("e2", 500, 50) // a second generation: what it did before is not known to be of this window
	w.serve("e1", 10, 0)
	w.look()
	w.want("another process", 2, 7, 160)
	w.serve("e2", 10, 2)
	w.serve("e1", 10, 2)
	w.look()
	w.want("two processes", 3, 11, 200)

	w.route(gapless.Weight{Release: "v1", Share: 0.9}, gapless.Weight{Release: "v2", Share: 0.1})
	for range 3 {
		w.serve("e1", 10, 1)
		w.look()
	}
	w.want("a rollout is judged", 3, 14, 260)
	w.route(gapless.Weight{Release: "v1", Share: 1})
	w.serve("e1", 10, 1)
	w.look()
	w.want("the window in which it ended", 3, 15, 280)
	w.serve("e1", 10, 1)
	w.look()
	w.want("it is over", 4, 16, 300)
	w.instances("a", "b", "c")
	for range 6 {
		w.serve("e1", 10, 1)
		w.look()
	}
	w.want("one is new", 4, 22, 480)
	w.serve("e1", 10, 1)
	w.look()
	w.serve("e1", 10, 1)
	w.look()
	w.want("it is warm", 5, 24, 540)
	w.instances("a")
	for range 3 {
		w.serve("e1", 10, 1)
		w.look()
	}
	w.want("one is left", 5, 27, 570)
	if _, _, known := w.dispersion("shop", "v1"); !known {
		t.Error("nothing is known")
	}
	if _, _, known := w.dispersion("shop", "v2"); known {
		t.Error("something is known of v2")
	}
}

// A daemon goes on from what the one before wrote down, and an edge that has
// just begun is not all that is known.
func TestRecordsOutliveTheDaemon(t *testing.T) {
	w := newStablesWorld(t, "a", "b")
	for range 20 {
		w.serve("e1", 50, 3)
		w.look()
	}
	errors, slow, known := w.dispersion("shop", "v1")
	all, latency := w.record(t.Context(), "shop", "v1")
	if !known || errors < 1.5 || all != (gapless.Arm{Requests: 1900, Bad: 57}) || latency[2] != 1900 {
		t.Fatalf("%v %v %v, %+v, %d", errors, slow, known, all, latency[2])
	}
	w.stables.save(w.home, w.log)
	if _, err := os.Stat(filepath.Dir(w.home.StableRecord("shop"))); err == nil {
		t.Error("the directory of an app that is gone is made anew")
	}
	if err := os.MkdirAll(filepath.Dir(w.home.StableRecord("shop")), 0o700); err != nil {
		t.Fatal(err)
	}
	w.stables.save(w.home, w.log)
	info, err := os.Stat(w.home.StableRecord("shop"))
	if err != nil || info.Size() > 64<<10 {
		t.Fatal(info, err)
	}
	next := plainRouter(t.Context(), w.home)
	next.stables.load(time.Now(), w.home, []string{"shop", "till"}, slog.New(slog.DiscardHandler))
	next.edges[1] = next.newGeneration(1)
	next.edges[1].take(gapless.EdgeReport{Start: "new", Seq: 1, Made: edge.Clock(), Releases: []gapless.ReleaseTraffic{{App: "shop", Release: "v1", Requests: 3, Latency: []uint64{3}}}}, nil)
	e, s, k := next.dispersion("shop", "v1")
	a, l := next.record(t.Context(), "shop", "v1")
	if e != errors || s != slow || k != known || a != all || l != latency {
		t.Errorf("%v %v %v, %+v", e, s, k, a)
	}
	if a, l := next.record(t.Context(), "shop", "v9"); a != (gapless.Arm{}) || l != [gapless.LatencyBuckets]uint64{} {
		t.Errorf("of a release that is not known: %+v", a)
	}
	next.edges[1].take(gapless.EdgeReport{Start: "new", Seq: 2, Made: edge.Clock(), Releases: []gapless.ReleaseTraffic{{App: "shop", Release: "v2", Requests: 30, Status: [6]uint64{5: 2}, Latency: []uint64{0, 28}}}}, nil)
	if a, l := next.record(t.Context(), "shop", "v2"); a != (gapless.Arm{Requests: 30, Bad: 2}) || l[1] != 28 {
		t.Errorf("what only an edge knows: %+v", a)
	}
	// What cannot be read is as if there were nothing.
	if err := os.WriteFile(w.home.StableRecord("shop"), []byte(`[{"release":`), 0o600); err != nil {
		t.Fatal(err)
	}
	next.stables.load(time.Now(), w.home, []string{"shop"}, slog.New(slog.DiscardHandler))
	absurd := stableRecord{Slices: []recordSlice{{Errors: judge.Dispersion{Spread: 1, Chance: -20}}}}
	if errors, _, _ := absurd.phi(); errors != 1 {
		t.Errorf("an absurd record gives %v", errors)
	}
	if _, _, known := next.dispersion("shop", "v1"); known {
		t.Error("half a file is known")
	}
}

// Nothing grows with the number of releases or processes.
func TestRecordsAreBounded(t *testing.T) {
	w := newStablesWorld(t, "a")
	for n := range 50 {
		w.note(fmt.Sprint("v", n))
		w.serve(fmt.Sprint("e", n), 1, 0)
	}
	if n := len(w.stables.apps["shop"]); n != mostStables {
		t.Errorf("records of %d releases", n)
	}
	if w.stables.apps["shop"]["v49"] == nil {
		t.Error("the newest is forgotten")
	}
	for _, c := range w.stables.lives {
		c.now.rep.Made -= 2 * goneFor
	}
	if w.look(); len(w.stables.lives) != 0 {
		t.Errorf("%d processes are remembered", len(w.stables.lives))
	}
}

func (w *stablesWorld) note(release string) {
	w.now = w.now.Add(sliceTime)
	w.stables.note(w.now, "shop", release, recordWindow{requests: 1})
}
