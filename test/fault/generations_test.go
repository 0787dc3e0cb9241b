package fault

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"gapless/internal/edge"
	"gapless/internal/keeper"
	"gapless/internal/load"
	"gapless/test/rig"
)

// TestTwentyEdges replaces the edge of the real binary twenty times, one
// right after the other, under load of every kind, http and https. Those that
// leave drain side by side. Nothing is lost, WebSockets are told to come back,
// and what the generations counted is together what the clients asked for.
func TestTwentyEdges(t *testing.T) {
	const generations = 20
	ctx := context.Background()
	cert, key, client := rig.Certificate(t, "edges.test")
	r := rig.New(t, "")
	r.App("http")
	secure := rig.FreeAddress(t)
	r.Write("gapless.yaml", fmt.Sprintf("app: http\nlisten: [%q, %q]\nhost: edges.test\ninstances: 2\ndrain: 5s\nbuild: false\n%s"+
		"tls: { cert: %q, key: %q, listen: %q, redirect: false }\n", r.Address, secure, probe, cert, key, secure))
	r.Rollout(0, "up")
	m := mix
	m.H2C, m.SlowTime = 20, 700*time.Millisecond
	run := r.LoadAs(load.Config{Mix: m, Host: "edges.test"}, "v1")
	safe := r.LoadAs(load.Config{URL: "https://" + secure, Host: "edges.test", TLS: client,
		Mix: load.Mix{KeepAlive: 20, KeepAliveClients: 4, Fresh: 10, WebSockets: 3}}, "v1")
	settle()
	k, err := keeper.Dial(ctx, keeper.SocketPath(r.Home+"/run"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	first := r.Proc("edge").Generation
	old := first
	for range generations {
		next, err := k.NewEdge(ctx)
		if err != nil {
			t.Fatal(err)
		}
		rig.Eventually(t, 20*time.Second, "the daemon sees the next generation", func() bool { return runs(r, next) })
		rig.Eventually(t, 20*time.Second, "the next generation serves", func() bool { return served(next, r) > 0 })
		if err := k.Retire(ctx, old); err != nil {
			t.Fatal(err)
		}
		c, err := edge.Dial(ctx, r.Home+"/run/edge-"+strconv.Itoa(old)+".sock")
		if err != nil {
			t.Fatal(err)
		}
		err = c.Drain(ctx)
		c.Close()
		if err != nil {
			t.Fatal(err)
		}
		old = next
		time.Sleep(time.Second) // every kind of client meets this one
	}
	if old != first+generations {
		t.Errorf("generation %d serves, want %d", old, first+generations)
	}
	secret := safe.Stop()
	t.Logf("https:\n%s", secret)
	if secret.Dropped > 0 || secret.Bad > 0 {
		t.Errorf("https: %d dropped, %d bad", secret.Dropped, secret.Bad)
		tell(t, lost(safe))
	}
	report := lossless(t, r, run, 0)
	if least := generations / 2; report.WSClosed[1001] < least || secret.WSClosed[1001] < least {
		t.Errorf("void: %d and %d WebSockets were closed with 1001, want %d or more", report.WSClosed[1001], secret.WSClosed[1001], least)
	}
	rig.Eventually(t, 40*time.Second, "one generation is left", func() bool {
		n := 0
		for _, p := range r.Look().Procs {
			if p.Name == "edge" {
				n++
			}
		}
		return n == 1 && runs(r, old)
	})
	asked, counted := report.Requests+secret.Requests, uint64(0)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if counted = countedFor(t, r, "http"); counted == uint64(asked) {
			break
		}
	}
	t.Logf("%d requests were asked for, %d counted", asked, counted)
	if counted != uint64(asked) {
		t.Errorf("%d requests were asked for, %d counted", asked, counted)
	}
}

// countedFor is what all edges counted for an app, also those that are gone.
func countedFor(t *testing.T, r *rig.Rig, app string) (n uint64) {
	t.Helper()
	text, err := r.Client().Metrics(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, `gapless_requests_total{app="`+app+`",`) {
			continue
		}
		f := strings.Fields(line)
		count, err := strconv.ParseFloat(f[len(f)-1], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		n += uint64(count)
	}
	return n
}

// runs reports whether the daemon knows of a generation of the edge.
func runs(r *rig.Rig, generation int) bool {
	for _, p := range r.Look().Procs {
		if p.Name == "edge" && p.Generation == generation {
			return true
		}
	}
	return false
}

// served is how many requests one generation has counted; 0 while it cannot
// be asked.
func served(generation int, r *rig.Rig) (n uint64) {
	c, err := edge.Dial(context.Background(), r.Home+"/run/edge-"+strconv.Itoa(generation)+".sock")
	if err != nil {
		return 0
	}
	defer c.Close()
	rep, err := c.Report(context.Background())
	if err != nil {
		return 0
	}
	for _, of := range rep.Releases {
		n += of.Requests
	}
	return n
}
