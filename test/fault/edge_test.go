package fault

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"gapless/internal/edge"
	"gapless/internal/keeper"
	"gapless/internal/load"
	"gapless/test/rig"
)

// slack is what may come and go between the count of open connections and the
// moment of death.
const slack = 6

// judge checks that nothing was lost but what an edge had open when it died:
// one request for each connection, and every stream of HTTP/2.
func judge(t *testing.T, run *load.Run, deaths []rig.Death, open []int) {
	t.Helper()
	victims := make([]victim, len(deaths))
	for i, d := range deaths {
		victims[i] = victim{what: []string{"edge"}, death: d, open: open[i]}
	}
	blame(t, run, victims, nil)
}

// TestEdgeKilled kills the edge under load, again and again. Its successor
// accepts on the same sockets, so what connects meanwhile only waits.
func TestEdgeKilled(t *testing.T) {
	r := rig.New(t, "")
	serve(t, r, 2, probe)
	m := mix
	m.H2C = 20
	run := r.Load(m, "v1")
	settle()
	var deaths []rig.Death
	var open []int
	var outages []time.Duration
	for range times(6, 30) {
		e := r.Proc("edge")
		open = append(open, report(t, r, e.Generation).Connections)
		death := rig.Kill(t, e.PID)
		status, _, _, err := get(r.Address, "/", 5*time.Second)
		outage := time.Since(death.Sent)
		if err != nil || status != 200 {
			t.Errorf("the first request after the death: %d, %v", status, err)
		}
		deaths, outages = append(deaths, death), append(outages, outage)
		if next := r.Proc("edge"); next.Generation <= e.Generation {
			t.Errorf("generation %d after %d", next.Generation, e.Generation)
		}
		time.Sleep(1200 * time.Millisecond)
	}
	run.Stop()
	t.Logf("load:\n%s", run.Report())
	judge(t, run, deaths, open)
	// Times are for the benchmark (make bench); this only sees an edge that stays away.
	slices.Sort(outages)
	t.Logf("from the signal to an answer of the next edge: p50 %s, max %s", outages[len(outages)/2], outages[len(outages)-1])
	if most := outages[len(outages)-1]; most > 5*time.Second {
		t.Errorf("an edge was away for %s", most)
	}
	whole(t, r, "v1", 2)
}

// TestTwoEdges runs two generations side by side through a deployment, then
// retires the old one.
func TestTwoEdges(t *testing.T) {
	ctx := context.Background()
	r := rig.New(t, "")
	serve(t, r, 2, probe)
	run := r.Load(dense, "v1")
	settle()
	k, err := keeper.Dial(ctx, keeper.SocketPath(r.Home+"/run"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	old := r.Proc("edge").Generation
	next, err := k.NewEdge(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if next != old+1 {
		t.Errorf("generation %d after %d", next, old)
	}
	rig.Eventually(t, 5*time.Second, "the daemon sees both", func() bool {
		n := 0
		for _, p := range r.Look().Procs {
			if p.Name == "edge" {
				n++
			}
		}
		return n == 2
	})
	r.Write("VERSION", "2")
	r.Allow("v1", "v2")
	deploy := r.Rollout(0, "deploy")
	r.Allow("v2")
	a, b := report(t, r, old), report(t, r, next)
	if a.Version != b.Version || a.Version == 0 {
		t.Errorf("generation %d serves table %d, generation %d table %d", old, a.Version, next, b.Version)
	}
	requests := func(generation int) (n uint64) {
		for _, rel := range report(t, r, generation).Releases {
			n += rel.Requests
		}
		return n
	}
	if x, y := requests(old), requests(next); x == 0 || y == 0 {
		t.Errorf("void: generation %d had %d requests, generation %d %d", old, x, next, y)
	}
	drains := r.Drains(deploy.ID)
	if len(drains) != 2 {
		t.Errorf("%d instances were drained", len(drains))
	}
	settle()

	if err := k.Retire(ctx, old); err != nil {
		t.Fatal(err)
	}
	c, err := edge.Dial(ctx, r.Home+"/run/edge-"+strconv.Itoa(old)+".sock")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	rig.Eventually(t, 30*time.Second, "the old generation ends", func() bool {
		for _, p := range r.Look().Procs {
			if p.Name == "edge" && p.Generation == old {
				return false
			}
		}
		return true
	})
	t.Logf("the old generation ended %s after it was asked to", time.Since(began).Round(time.Millisecond))
	settle()
	if e := r.Proc("edge"); e.Generation != next {
		t.Errorf("generation %d serves, want %d", e.Generation, next)
	}
	lossless(t, r, run, 0)
	whole(t, r, "v2", 2)
	for _, err := range load.Overlaps(run.Samples(), drains, load.Slow, load.Upload, load.WebSocket) {
		t.Error(err)
	}
}
