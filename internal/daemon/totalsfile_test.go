package daemon

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gapless"
)

// Daemons are killed and edges come and go between any two things that happen.
// What somebody is told never becomes less, and is what was counted but for
// what edges counted after the last save that ended before the next daemon.
func TestTotalsOutliveDaemons(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	lostSome := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 2))
		path := filepath.Join(t.TempDir(), "totals.json")
		type edge struct {
			edgeSim
			served, saved uint64 // in all; of it in the file
		}
		var live []*edge
		generations := func() (out []int) {
			for _, e := range live {
				out = append(out, e.rep.Generation)
			}
			return out
		}
		now := &totals{}
		now.load(path, nil, log)
		hear := func() (reports []gapless.EdgeReport) {
			for _, e := range live {
				reports = append(reports, e.report())
			}
			return reports
		}
		var counted, lost, before uint64
		var unsaved uint64 // of edges that ended: heard, and not in the file
		keep := func() {
			now.save(log)
			unsaved = 0
			for _, e := range live {
				e.saved = e.served
			}
		}
		started := 0
		for step := range 200 {
			switch n := rng.IntN(12); {
			case n == 0 && len(live) < 3:
				started++
				e := &edge{edgeSim: edgeSim{gapless.EdgeReport{Start: fmt.Sprint("p", started), Generation: 1 + started%4}}}
				if slices.Contains(generations(), e.rep.Generation) {
					continue
				}
				live = append(live, e)
			case n == 1 && len(live) > 0: // an edge ends; its last word is heard
				k := rng.IntN(len(live))
				now.take(live[k].report())
				now.end(live[k].rep.Start, true)
				unsaved += live[k].served - live[k].saved
				live = slices.Delete(live, k, k+1)
			case n == 2: // the daemon is killed, and an edge may die before there is another
				if len(live) > 0 && rng.IntN(2) == 0 {
					k := rng.IntN(len(live))
					lost += live[k].served - live[k].saved
					lostSome += int(live[k].served - live[k].saved)
					live = slices.Delete(live, k, k+1)
				}
				lost, unsaved = lost+unsaved, 0
				now = &totals{}
				now.load(path, generations(), log)
			case n == 3: // it ends, or saves by itself
				for _, rep := range hear() {
					now.take(rep)
				}
				keep()
			case n < 10 && len(live) > 0:
				n, e := rng.Uint64N(5), live[rng.IntN(len(live))]
				counted += n
				e.served += n
				e.serve(fmt.Sprint("v", rng.IntN(3)), n)
			default: // somebody asks
				var got uint64
				for _, x := range now.sum(hear(), shopTable("v1")).Releases {
					got += x.Requests
				}
				keep()
				if got < before || got != counted-lost {
					t.Fatalf("seed %d, step %d: %d requests, told of %d before, counted %d and lost %d", seed, step, got, before, counted, lost)
				}
				before = got
			}
		}
	}
	if lostSome == 0 {
		t.Error("no edge died that had something to lose")
	}
}

func TestTotalsFile(t *testing.T) {
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, nil))
	path := filepath.Join(t.TempDir(), "totals.json")
	e := &edgeSim{gapless.EdgeReport{Start: "p", Generation: 1, TLS: &gapless.TLSTraffic{Handshakes: 4, Resumed: 1, Open: 3},
		Logs: []gapless.LogTraffic{{App: "shop", Lines: 9, Dropped: 2}}, Shed: gapless.Shed{Requests: 5},
		Mirrors:   []gapless.MirrorTraffic{{App: "shop", Rollout: "r1", MirrorCounts: gapless.MirrorCounts{Release: "v2", Copied: 3, Compared: 2}}},
		Instances: []gapless.InstanceTraffic{{App: "shop", Instance: "a", Requests: 7, Ejections: 1, InFlight: 2}}}}
	e.serve("v1", 7)
	e.serve("v2", 1)
	table := shopTable("v1")
	table.Routes[0].Targets = []gapless.Target{{Instance: "a", Release: "v1"}}
	first := &totals{}
	first.load(path, []int{1}, log)
	want := first.sum([]gapless.EdgeReport{e.report()}, table)
	first.save(log)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}

	second := &totals{}
	second.load(path, []int{1}, log)
	if got := second.sum([]gapless.EdgeReport{e.report()}, table); fmt.Sprint(flat(got)) != fmt.Sprint(flat(want)) {
		t.Errorf("after a restart:\n%+v\nbefore:\n%+v", flat(got), flat(want))
	}
	before, _ := os.Stat(path)
	e.rep.Instances[0].InFlight = 0
	second.sum([]gapless.EdgeReport{e.report()}, table)
	second.save(log)
	if after, _ := os.Stat(path); !os.SameFile(before, after) {
		t.Error("it is written again though nothing was counted")
	}
	second.end("p", true)
	e.serve("v1", 1) // its last word
	second.take(e.report())
	second.save(log)
	data, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(data), `"start":"p"`) {
		t.Errorf("an edge that is gone is still in the file: %v", err)
	}
	third := &totals{}
	third.load(path, nil, log)
	if got := third.sum(nil, table); len(got.Releases) != 2 || got.Releases[0].Requests != 8 || got.Releases[0].Latency[7] != 8 || *got.TLS != (gapless.TLSTraffic{Handshakes: 4, Resumed: 1}) {
		t.Errorf("after the edge ended: %+v", got)
	}
	if said.Len() > 0 {
		t.Errorf("it said %s", said.String())
	}

	if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	fourth := &totals{}
	fourth.load(path, nil, log)
	if !strings.Contains(said.String(), "counters begin anew") {
		t.Errorf("half a file: %q", said.String())
	}
	fourth.take(e.report())
	fourth.save(log)
	fifth := &totals{}
	fifth.load(path, nil, log)
	if got := fifth.sum(nil, table); len(got.Releases) != 2 || got.Releases[0].Requests != 8 {
		t.Errorf("it does not recover: %+v", got.Releases)
	}

	// A place that cannot be written to is said once, and nobody waits for it.
	said.Reset()
	fifth.file.path = filepath.Join(path, "no", "directory")
	for range 3 {
		e.serve("v1", 1)
		fifth.take(e.report())
		fifth.save(log)
	}
	if n := strings.Count(said.String(), "counters may go back"); n != 1 {
		t.Errorf("said %d times: %s", n, said.String())
	}
}

// flat is a report in a form that can be printed and compared.
func flat(rep gapless.EdgeReport) (out []any) {
	out = append(out, rep.Shed, *rep.TLS)
	for _, x := range rep.Releases {
		out = append(out, fmt.Sprintf("%+v", x))
	}
	return append(out, rep.Instances, rep.Logs, rep.Mirrors)
}

// The file is bounded as what is told of is.
func TestTotalsFileIsBounded(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "totals.json")
	var size int64
	for i := range 60 { // lives of daemons and edges, a release in each
		now := &totals{}
		now.load(path, []int{1}, log)
		e := &edgeSim{gapless.EdgeReport{Start: fmt.Sprint("p", i), Generation: 1}}
		release := fmt.Sprint("v", i)
		e.serve(release, 3)
		now.sum([]gapless.EdgeReport{e.report()}, shopTable(release))
		now.save(log)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if i == 20 {
			size = info.Size()
		}
		if i == 59 && info.Size() > size+64 {
			t.Errorf("%d bytes after 20 releases, %d after 60", size, info.Size())
		}
	}
}
