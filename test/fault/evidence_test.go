package fault

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"gapless"
	"gapless/internal/edge"
	"gapless/internal/keeper"
	"gapless/test/rig"
)

// seen is what clients saw of one release.
type seen struct{ requests, bad uint64 }

// census counts, by release, what every single request got.
type census struct {
	mu   sync.Mutex
	by   map[string]seen
	lost uint64 // without an answer
}

// ask lets n clients ask one after another until ctx ends.
func (c *census) ask(ctx context.Context, address string, n int) (wait func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			client := http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
			for ctx.Err() == nil {
				res, err := client.Get("http://" + address + "/")
				c.mu.Lock()
				if err != nil {
					c.lost++
				} else {
					s := c.by[res.Header.Get("x-release")]
					s.requests++
					if res.StatusCode >= 500 {
						s.bad++
					}
					c.by[res.Header.Get("x-release")] = s
				}
				c.mu.Unlock()
				if err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				time.Sleep(25 * time.Millisecond)
			}
		})
	}
	return wg.Wait
}

func (c *census) of(release string) seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[release]
}

// TestEvidenceSurvivesKills kills the daemon and the edge in turns while a
// candidate is judged that is as bad as stable. What the judge has in the end
// is what clients saw: never more, and less only by what died with an edge.
func TestEvidenceSurvivesKills(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	r.Write("BREAK", "500")
	r.Write("BREAK_SHARE", "0.3")
	// What both give is fine here, or the plan would wait for a person because of it.
	steps := "judge: { max_errors: 50% }\nsteps:\n  - start: 1\n  - warm\n  - weight: 25%\n  - judge: { within: 9s, on_undecided: rollback }\n  - promote\n"
	configure(r, 1, probe+steps)
	r.Rollout(0, "up")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := &census{by: map[string]seen{}}
	wait := c.ask(ctx, r.Address, 6)
	r.Write("VERSION", "2")
	before := c.of("v1")
	done := r.Go("deploy", "--json")
	rig.Eventually(t, 20*time.Second, "the candidate is asked", func() bool { return c.of("v2").requests > 10 })
	kills := 0
	for ; kills < 6; kills++ {
		rig.Kill(t, r.Proc([]string{"daemon", "edge"}[kills%2]).PID)
		time.Sleep(700 * time.Millisecond)
	}
	res := <-done
	cancel()
	wait()
	var ro gapless.Rollout
	if err := json.Unmarshal([]byte(res.Stdout), &ro); err != nil {
		t.Fatalf("exit %d\n%s\n%s", res.Code, res.Stdout, res.Stderr)
	}
	if ro.Verdict == nil {
		t.Fatalf("no verdict: %+v", ro)
	}
	got, client, stable := ro.Verdict.Evidence, c.of("v2"), c.of("v1")
	t.Logf("%d kills, %s (%s); the judge has %+v of v2 and %+v of v1; clients saw %+v of v2, %+v of v1, %d lost",
		kills, ro.Outcome, ro.Reason, got.Candidate, got.Stable, client, stable, c.lost)
	if client.requests < 100 || client.bad < 10 {
		t.Errorf("void: clients asked v2 %d times", client.requests)
	}
	if got.Candidate.Requests > client.requests+c.lost || got.Candidate.Bad > client.bad+c.lost {
		t.Error("the judge counted more of v2 than there was")
	}
	if got.Stable.Requests > stable.requests-before.requests+c.lost || got.Stable.Bad > stable.bad-before.bad+c.lost {
		t.Error("the judge counted more of v1 than there was")
	}
	if got.Candidate.Requests*10 < client.requests*7 || got.Candidate.Bad*10 < client.bad*7 {
		t.Error("the judge missed more than what could have died with the edges")
	}
}

// TestFrozenGeneration freezes an edge generation that drains. It is unknown
// what it serves, but a person who aborts is heard by the other one at once.
func TestFrozenGeneration(t *testing.T) {
	ctx := context.Background()
	r := rig.New(t, "")
	serve(t, r, 1, probe)
	old := r.Proc("edge")
	go func() { // keeps the old generation in its drain
		_, _, _, _ = get(r.Address, "/slow?ms=25000", 40*time.Second)
	}()
	rig.Eventually(t, 10*time.Second, "a request is under way", func() bool { return report(t, r, old.Generation).Connections > 0 })
	k, err := keeper.Dial(ctx, keeper.SocketPath(r.Home+"/run"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	next, err := k.NewEdge(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 10*time.Second, "the next generation serves", func() bool {
		c, err := edge.Dial(ctx, r.Home+"/run/edge-"+strconv.Itoa(next)+".sock")
		if err != nil { // it is not there, or nobody listens yet
			return false
		}
		c.Close()
		return report(t, r, next).Version > 0
	})
	if err := k.Retire(ctx, old.Generation); err != nil {
		t.Fatal(err)
	}
	c, err := edge.Dial(ctx, r.Home+"/run/edge-"+strconv.Itoa(old.Generation)+".sock")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	configure(r, 1, probe+"steps:\n  - start: 1\n  - warm\n  - weight: 25%\n  - judge: 60s\n  - promote\n")
	r.Write("VERSION", "2")
	done := r.Go("deploy", "--json")
	rig.Eventually(t, 30*time.Second, "the candidate is judged", func() bool { return len(app(t, r).Weights) == 2 })
	if err := syscall.Kill(old.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	thawed := false
	thaw := func() {
		if !thawed {
			thawed = true
			_ = syscall.Kill(old.PID, syscall.SIGCONT)
		}
	}
	defer thaw()
	version := report(t, r, next).Version
	began := time.Now()
	if _, err := r.Client().Abort(ctx, "http"); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 10*time.Second, "the healthy edge serves another table", func() bool { return report(t, r, next).Version > version })
	took := time.Since(began)
	t.Logf("the abort was served %s after it was asked for", took)
	if took > time.Second {
		t.Errorf("a frozen generation held an abort up for %s", took)
	}
	longest := time.Duration(0)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		began := time.Now()
		r.Look() // it asks the edges, and waits for the engine's round
		longest = max(longest, time.Since(began))
	}
	t.Logf("a look at everything took at most %s meanwhile", longest)
	if longest > 2*time.Second {
		t.Errorf("a frozen generation held everybody up for %s", longest)
	}
	if a := app(t, r); a.Rollout.Outcome != gapless.Running {
		t.Errorf("%s, although it is unknown what the frozen generation serves", a.Rollout.Outcome)
	}
	thaw()
	res := <-done
	if res.Code != 3 {
		t.Errorf("deploy: exit %d\n%s", res.Code, res.Stderr)
	}
	whole(t, r, "v1", 1)
}
