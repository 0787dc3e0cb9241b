package daemon

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"gapless"
	"gapless/internal/edge"
	"gapless/internal/keeper"
	"gapless/internal/rollout"
)

// realEdges are edges whose socket is held here, and a router that they serve.
type realEdges struct {
	*router
	t   *testing.T
	l   net.Listener
	url string
}

// startEdges starts generation 1 with a route of two releases, all of it to v2.
func startEdges(t *testing.T, stable, candidate string) *realEdges {
	dir, err := os.MkdirTemp("", "lt") // short: a socket lives in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	home := Home(dir)
	if err := os.MkdirAll(home.Run(), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	e := &realEdges{router: plainRouter(t.Context(), home), t: t, l: l, url: "http://" + l.Addr().String()}
	e.table = gapless.Table{Version: 1, Routes: []gapless.Route{{
		App: "shop", Listen: []string{"web"}, Path: "/", Stable: "v1",
		Weights: []gapless.Weight{{Release: "v1", Share: 0}, {Release: "v2", Share: 1}},
		Targets: []gapless.Target{{Instance: "a", Release: "v1", Address: stable}, {Instance: "b", Release: "v2", Address: candidate}},
	}}}
	e.changed["shop"] = 1
	return e
}

// start starts one generation; stop ends it.
func (e *realEdges) start(generation int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- edge.Run(ctx, edge.Config{Generation: generation, Socket: e.home.EdgeSocket(generation), Host: &tableHost{l: e.l.(*net.TCPListener)}})
	}()
	e.edge(keeper.Proc{Kind: keeper.KindEdge, Generation: generation, Running: true})
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		e.edge(keeper.Proc{Kind: keeper.KindEdge, Generation: generation})
	})
	e.t.Cleanup(stop)
	e.eventually("it is known to serve", func() bool {
		served, _ := e.Observed(e.t.Context(), "shop")
		return served.Known
	})
	return stop
}

func (e *realEdges) eventually(what string, ok func() bool) {
	e.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			e.t.Fatalf("never: %s", what)
		}
	}
}

func (e *realEdges) ask(n int) {
	e.t.Helper()
	for range n {
		res, err := http.Get(e.url)
		if err != nil {
			e.t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}

// paced reports whether every live edge counts by limits of this version.
func (e *realEdges) paced(version uint64) bool {
	all := e.generations()
	for _, g := range all {
		rep, fresh := g.report()
		if v, has := rep.Paced["shop"]; !fresh || rep.Paced == nil || v != version || has != (version > 0) {
			return false
		}
	}
	return len(all) > 0
}

// Every generation counts by the limits that the engine chose last, also one
// that comes later, and what it counts comes to the engine.
func TestEveryEdgeIsToldOfLimits(t *testing.T) {
	e := startEdges(t, answering(t, 200), answering(t, 200))
	_ = []any{rollout.Router(e.router), rollout.Evidence(e.router)}
	stop := e.start(1)
	limits := func(version uint64, d time.Duration) gapless.LatencyLimits {
		all := [gapless.Quantiles]time.Duration{d, d, d}
		return gapless.LatencyLimits{Version: version, Stable: "v1", Candidate: "v2", Quantile: all, Worse: all, Margin: all}
	}
	_, cursor, err := e.Since(t.Context(), "shop", nil)
	if err != nil {
		t.Fatal(err)
	}
	var sum gapless.Paces
	counted := func(want gapless.Pace) {
		t.Helper()
		e.eventually("all is counted", func() bool {
			tallies, next, err := e.Since(t.Context(), "shop", cursor)
			if err != nil {
				return false
			}
			for _, x := range tallies {
				if x.Release != "v2" {
					t.Errorf("%+v", x)
				}
				sum = sum.Plus(x.Paces)
			}
			cursor = next
			return sum.Worse[1] == want && sum.Margin[2] == want
		})
	}
	e.Pace("shop", limits(1, time.Hour))
	e.eventually("the limits hold", func() bool { return e.paced(1) })
	e.ask(5)
	counted(gapless.Pace{Fast: 5})
	e.Pace("shop", limits(2, time.Nanosecond))
	e.eventually("others hold", func() bool { return e.paced(2) })
	e.ask(3)
	counted(gapless.Pace{Fast: 5, Slow: 3})

	e.start(2)
	e.eventually("the next generation is told", func() bool { return e.paced(2) })
	stop()
	e.ask(4)
	counted(gapless.Pace{Fast: 5, Slow: 7})

	// Another rollout numbers its limits anew.
	e.Pace("shop", limits(2, time.Hour))
	e.eventually("the same number, other limits", func() bool {
		e.ask(1)
		tallies, next, _ := e.Since(t.Context(), "shop", cursor)
		cursor = next
		for _, x := range tallies {
			sum = sum.Plus(x.Paces)
		}
		return sum.Worse[0].Fast > 5
	})
	e.Pace("shop", gapless.LatencyLimits{})
	e.eventually("it is over", func() bool { return e.paced(0) })
	e.start(3)
	e.eventually("nobody counts", func() bool { return e.paced(0) })
}

// An edge that knows of no limits is sent none: it would cut the connection.
// What nobody has spoken about is left as it is.
func TestLimitsThatAreDue(t *testing.T) {
	one, none := gapless.LatencyLimits{Version: 1, Stable: "v1", Candidate: "v2"}, gapless.LatencyLimits{}
	other := one
	other.Candidate = "v3"
	of := func(l gapless.LatencyLimits) map[string]gapless.LatencyLimits {
		return map[string]gapless.LatencyLimits{"shop": l}
	}
	for what, c := range map[string]struct {
		limits, told map[string]gapless.LatencyLimits
		paced        map[string]uint64
		want         map[string]gapless.LatencyLimits
	}{
		"an old edge":              {of(one), nil, nil, nil},
		"a new edge":               {of(one), nil, map[string]uint64{}, of(one)},
		"told, not taken in yet":   {of(one), of(one), map[string]uint64{}, of(one)},
		"told":                     {of(one), of(one), map[string]uint64{"shop": 1}, nil},
		"told by another daemon":   {of(one), nil, map[string]uint64{"shop": 1}, of(one)},
		"other limits of a number": {of(one), of(other), map[string]uint64{"shop": 1}, of(one)},
		"over":                     {of(none), of(one), map[string]uint64{"shop": 1}, of(none)},
		"over, and it knows":       {of(none), of(none), map[string]uint64{}, nil},
		"nobody said anything":     {nil, nil, map[string]uint64{"shop": 1}, nil},
	} {
		p := pacing{limits: c.limits}
		if got := p.due(gapless.EdgeReport{Paced: c.paced}, c.told); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

// A look has what was counted since the one before, by all edges together.
func TestLooksAreOfWhatIsNew(t *testing.T) {
	r := plainRouter(t.Context(), "")
	r.table.Routes = []gapless.Route{{App: "shop", Targets: []gapless.Target{
		{Instance: "a", Release: "v1"}, {Instance: "b", Release: "v2"}, {Instance: "c", Release: "v1", Draining: true}, {Instance: "d", Release: "v0"}}}}
	seq := uint64(0)
	tell := func(generation int, start string, v1, v2 uint64) {
		seq++
		if r.edges[generation] == nil {
			r.edges[generation] = r.newGeneration(generation)
		}
		latency := func(n uint64) []uint64 { return []uint64{0, n, 2 * n} }
		r.edges[generation].take(gapless.EdgeReport{Generation: generation, Start: start, Seq: seq, Made: edge.Clock(), Releases: []gapless.ReleaseTraffic{
			{App: "shop", Release: "v1", Latency: latency(v1)}, {App: "shop", Release: "v2", Latency: latency(v2)}, {App: "till", Release: "v1", Latency: latency(77)}}}, nil)
	}
	look := func(what string, v1, v2 uint64) {
		t.Helper()
		l := r.Look("shop", "v1", "v2")
		if l.At.IsZero() || !slices.Equal(l.Instances, []string{"a", "b"}) {
			t.Errorf("%s: at %s, serving %v", what, l.At, l.Instances)
		}
		for _, x := range []struct {
			got  []uint64
			want uint64
		}{{l.Stable, v1}, {l.Candidate, v2}} {
			want := make([]uint64, gapless.LatencyBuckets)
			want[1], want[2] = x.want, 2*x.want
			if x.got == nil && x.want == 0 {
				continue
			}
			if !reflect.DeepEqual(x.got, want) {
				t.Errorf("%s: %v, want %d", what, x.got, x.want)
			}
		}
	}
	r.edges[1], r.edges[2] = r.newGeneration(1), r.newGeneration(2)
	tell(1, "a", 1000, 0)
	look("one edge has not spoken", 0, 0)
	tell(2, "b", 500, 0)
	look("the first one", 0, 0)
	look("nothing happened", 0, 0)
	tell(1, "a", 1010, 3)
	look("one counted", 10, 3)
	tell(1, "a", 1010, 4)
	tell(2, "b", 501, 1)
	look("both counted", 1, 2)
	r.Pace("shop", gapless.LatencyLimits{}) // instances warm up
	tell(1, "a", 1011, 6)
	look("nothing is limited yet", 1, 2)
	tell(1, "a2", 20, 5) // another process of that number; what the last word of the one before had is seen
	look("a new process", 20, 5)
	rep, _ := r.edges[2].report()
	r.lose(r.edges[2])
	r.remember(rep)
	look("one is gone", 0, 0)
	r.pacing.looks["shop"].at = time.Now().Add(-time.Minute)
	tell(1, "a2", 25, 9)
	look("another rollout of the same releases", 0, 0)
	if got := r.Look("shop", "v2", "v3"); got.Stable != nil || got.Candidate != nil {
		t.Errorf("the first look at others: %+v", got)
	}
	if got := r.Look("till", "v1", "v2"); got.Stable != nil || got.Instances != nil {
		t.Errorf("another app: %+v", got)
	}
}
