package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"gapless"
	"gapless/internal/edge"
	"gapless/internal/keeper"
	"gapless/internal/rollout"
)

// process is an edge process of which only the counters are real.
type process struct {
	start    string
	counters *edge.Counters
	dropped  uint64 // at its death: requests that no report had
}

func (p *process) report(generation int, version uint64) gapless.EdgeReport {
	rep := gapless.EdgeReport{Generation: generation, Start: p.start, Made: edge.Clock(), Version: version}
	rep.Seq, rep.Counters = p.counters.Report()
	return rep
}

func plainRouter(ctx context.Context, home Home) *router {
	return &router{ctx: ctx, home: home, log: slog.New(slog.DiscardHandler), wake: func(...string) {},
		judged: map[string]time.Duration{}, changed: map[string]uint64{}, edges: map[int]*generation{}}
}

// TestEvidenceIsCountedOnce plays random histories with the edges' counters,
// the daemon's memory of reports and the engine's fold as they are: edges
// count, free, die with their numbers given to others; reports are lost and
// late; the daemon dies and goes on from what it had saved. What is taken in
// is what was reported, once.
func TestEvidenceIsCountedOnce(t *testing.T) {
	const app = "shop"
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 5))
		r := plainRouter(t.Context(), "")
		procs := map[int]*process{}
		n, version := 0, uint64(1)
		begin := func(generation int) {
			n++
			procs[generation] = &process{start: fmt.Sprint("p", n), counters: &edge.Counters{}}
			procs[generation].counters.Serve(map[string]uint64{app: version})
			if r.edges[generation] == nil {
				r.edges[generation] = r.newGeneration(generation)
			}
		}
		begin(1)
		happened, lost := uint64(0), uint64(0)
		cursor, saved := rollout.Cursor{}, rollout.Cursor{}
		sum, savedSum := uint64(0), uint64(0)
		look := func() {
			tallies, next, err := r.Since(t.Context(), app, cursor)
			if err != nil {
				return
			}
			cursor = next
			for _, x := range tallies {
				sum += x.Requests
			}
		}
		var late []func()
		for range 150 {
			generation := slices.Sorted(maps.Keys(procs))[rng.IntN(len(procs))]
			p := procs[generation]
			switch rng.IntN(9) {
			case 0, 1, 2:
				for range 1 + rng.IntN(4) {
					p.counters.Add(edge.CounterKey{App: app, Release: "v2", Version: version, Weight: 0.25, Kind: []string{"", "5xx"}[rng.IntN(2)]}, false)
					happened++
					p.dropped++
				}
			case 3, 4: // a report arrives, now or later
				rep, g := p.report(generation, version), r.edges[generation]
				if rng.IntN(3) == 0 {
					late = append(late, func() { g.take(rep, nil) })
				} else {
					g.take(rep, nil)
					p.dropped = 0
				}
			case 5:
				look()
			case 6: // saved, and acknowledged unless that is lost
				saved, savedSum = cursor, sum
				r.Acknowledge(app, saved)
				if g := r.edges[generation]; rng.IntN(3) > 0 && g.rep.Start == p.start {
					p.counters.Acknowledge(app, g.kept[app])
				}
			case 7:
				version++
				for _, p := range procs {
					p.counters.Serve(map[string]uint64{app: version})
				}
			case 8:
				switch rng.IntN(4) {
				case 0: // the daemon dies
					for g, p := range procs { // else what died before it could be saved would be lost, and that is not to be tested
						if rep, _ := r.edges[g].report(); rep.Start != p.start {
							r.remember(rep)
						}
					}
					gone := r.gone
					r = plainRouter(t.Context(), "")
					for g, p := range procs {
						r.edges[g] = r.newGeneration(g)
						r.edges[g].take(p.report(g, version), nil)
						p.dropped = 0
					}
					r.gone, late = gone, nil
					cursor, sum = saved, savedSum
				case 1: // the edge dies, another one has its number
					lost += p.dropped
					begin(generation)
				case 2:
					begin(10 + n)
				case 3:
					if len(procs) > 1 {
						rep, _ := r.edges[generation].report()
						r.remember(rep)
						r.lose(r.edges[generation])
						delete(procs, generation)
						lost += p.dropped
					}
				}
			}
			if len(late) > 3 {
				late[rng.IntN(len(late))]()
			}
			if sum > happened {
				t.Fatalf("seed %d: %d were taken in, %d happened", seed, sum, happened)
			}
		}
		for g, p := range procs {
			r.edges[g].take(p.report(g, version), nil)
		}
		look()
		look()
		if want := happened - lost; sum < want || sum > happened {
			t.Fatalf("seed %d: %d were taken in, %d were reported, %d happened", seed, sum, want, happened)
		}
	}
}

// tableHost holds sockets and the table in memory, as keeper does.
type tableHost struct {
	l     *net.TCPListener
	table []byte
}

func (h *tableHost) Listener(context.Context, string) (net.Listener, error) {
	f, err := h.l.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}
func (h *tableHost) Save(_ context.Context, b []byte) error { h.table = b; return nil }
func (h *tableHost) Load(context.Context) ([]byte, error)   { return h.table, nil }

func answering(t *testing.T, status int) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// TestBadAnswerReachesTheJudge measures the way of a bad answer from a real
// edge to the evidence that the engine reads: it is woken by it, and does not
// wait for the next report that comes by itself.
func TestBadAnswerReachesTheJudge(t *testing.T) {
	dir, err := os.MkdirTemp("", "ev") // short: a socket lives in it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	home := Home(dir)
	if err := os.MkdirAll(home.Run(), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- edge.Run(ctx, edge.Config{Generation: 1, Socket: home.EdgeSocket(1), Host: &tableHost{l: l.(*net.TCPListener)}})
	}()
	defer func() {
		cancel()
		<-ended
	}()
	woken := make(chan []string, 1000)
	r := plainRouter(ctx, home)
	r.wake = func(apps ...string) { woken <- apps }
	r.table = gapless.Table{Version: 1, Routes: []gapless.Route{{
		App: "shop", Listen: []string{"web"}, Path: "/", Stable: "v1",
		Weights: []gapless.Weight{{Release: "v1", Share: 0}, {Release: "v2", Share: 1}},
		Targets: []gapless.Target{{Instance: "a", Release: "v1", Address: answering(t, 200)}, {Instance: "b", Release: "v2", Address: answering(t, 500)}},
	}}}
	r.changed["shop"] = 1
	r.edge(keeper.Proc{Kind: keeper.KindEdge, Generation: 1, Running: true})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if served, _ := r.Observed(ctx, "shop"); served.Known {
			if rep, _ := r.generations()[0].report(); rep.Seq > 1 { // not only the answer to the table
				break
			}
		}
		if time.Now().After(end) {
			t.Fatal("the edge is never known to serve")
		}
	}
	_, cursor, err := r.Since(ctx, "shop", nil)
	if err != nil {
		t.Fatal(err)
	}
	var times []time.Duration
	const n = 20
	for range n {
		for len(woken) > 0 {
			<-woken
		}
		began := time.Now()
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		for seen := false; !seen; {
			select {
			case apps := <-woken:
				if len(apps) > 0 && !slices.Equal(apps, []string{"shop"}) { // none: the watch has just begun
					t.Errorf("woken for %v", apps)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("a bad answer wakes nobody")
			}
			tallies, next, err := r.Since(ctx, "shop", cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range tallies {
				if x.Release != "v2" || x.Bad != 1 || x.Requests != 1 {
					t.Errorf("%+v", x)
				}
				seen = true
			}
			cursor = next
		}
		times = append(times, time.Since(began))
		time.Sleep(30 * time.Millisecond)
	}
	slices.Sort(times)
	t.Logf("from asking to evidence: p50 %s, max %s", times[n/2], times[n-1])
	if times[n/2] > 50*time.Millisecond {
		t.Errorf("p50 is %s", times[n/2])
	}
}
