package daemon

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gapless"
)

// edgeSim is an edge process that counts.
type edgeSim struct{ rep gapless.EdgeReport }

func (e *edgeSim) serve(release string, n uint64) {
	k := slices.IndexFunc(e.rep.Releases, func(x gapless.ReleaseTraffic) bool { return x.Release == release })
	if k < 0 {
		k = len(e.rep.Releases)
		e.rep.Releases = append(e.rep.Releases, gapless.ReleaseTraffic{App: "shop", Release: release, Latency: make([]uint64, gapless.LatencyBuckets)})
	}
	x := &e.rep.Releases[k]
	x.Requests += n
	x.Status[2] += n
	x.Latency[7] += n
}

// report is a copy, as it comes over the socket.
func (e *edgeSim) report() gapless.EdgeReport {
	e.rep.Seq++
	e.rep.Made += time.Millisecond
	out := e.rep
	out.Releases = slices.Clone(e.rep.Releases)
	for i := range out.Releases {
		out.Releases[i].Latency = slices.Clone(out.Releases[i].Latency)
	}
	return out
}

func shopTable(release string) gapless.Table {
	return gapless.Table{Routes: []gapless.Route{{App: "shop", Stable: release, Weights: []gapless.Weight{{Release: release, Share: 1}}}}}
}

// However edges come, go, are asked late and answer out of order, what they
// counted is told, once, and never less of it than before.
func TestTotalsNeverGoBack(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var sum totals
		var live []*edgeSim
		var before, want uint64
		started := 0
		for step := range 300 {
			switch n := rng.IntN(10); {
			case n == 0 && len(live) < 3:
				started++
				live = append(live, &edgeSim{gapless.EdgeReport{Start: fmt.Sprint("p", started)}})
			case n == 1 && len(live) > 0: // its last word, heard twice and late
				k := rng.IntN(len(live))
				old := live[k].report()
				sum.take(live[k].report())
				sum.take(old)
				live = slices.Delete(live, k, k+1)
			case n < 8 && len(live) > 0:
				n := rng.Uint64N(5)
				want += n
				live[rng.IntN(len(live))].serve(fmt.Sprint("v", rng.IntN(3)), n)
			default:
				var reports []gapless.EdgeReport
				for _, e := range live {
					reports = append(reports, e.report())
				}
				var got, status, latency uint64
				for _, x := range sum.sum(reports, shopTable("v1")).Releases {
					got, status, latency = got+x.Requests, status+x.Status[2], latency+x.Latency[7]
				}
				if got != want || got < before || status != got || latency != got {
					t.Fatalf("seed %d, step %d: %d requests (%d by status, %d by latency), %d before, counted %d", seed, step, got, status, latency, before, want)
				}
				before = got
			}
		}
	}
}

// Of a hundred releases the last ones are told of, and a former one that gets
// a request is told of again. Instances that nobody knows are not.
func TestTotalsAreBounded(t *testing.T) {
	var sum totals
	e := &edgeSim{gapless.EdgeReport{Start: "p"}}
	var out gapless.EdgeReport
	for i := range 100 {
		release := fmt.Sprint("v", i)
		e.serve(release, 3)
		e.rep.Instances = []gapless.InstanceTraffic{{App: "shop", Instance: release + "/1", Requests: 3}}
		out = sum.sum([]gapless.EdgeReport{e.report()}, shopTable(release))
	}
	if n := len(out.Releases); n != formerReleases+1 {
		t.Errorf("%d releases", n)
	}
	if len(out.Instances) != 1 || len(sum.instances) != 1 || out.Instances[0].Requests != 3 {
		t.Errorf("%d instances, told of %+v", len(sum.instances), out.Instances)
	}
	e.serve("v0", 2)
	out = sum.sum([]gapless.EdgeReport{e.report()}, shopTable("v99"))
	if k := slices.IndexFunc(out.Releases, func(x gapless.ReleaseTraffic) bool { return x.Release == "v0" }); k < 0 || out.Releases[k].Requests != 2 {
		t.Errorf("v0 is not told of: %+v", out.Releases)
	}
	for i := range 100 { // processes that are gone are not kept
		sum.take((&edgeSim{gapless.EdgeReport{Start: fmt.Sprint("q", i), Made: time.Hour}}).report())
	}
	if len(sum.lives) > mostLast {
		t.Errorf("%d processes are remembered", len(sum.lives))
	}
}
