package fault

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/load"
	"gapless/test/rig"
)

// countersOf reads every counter of what `gapless metrics` says. There is
// none while no daemon answers.
func countersOf(t *testing.T, r *rig.Rig) map[string]float64 {
	t.Helper()
	text, err := r.Client().Metrics(context.Background())
	if err != nil {
		if code := gapless.CodeOf(err); code != gapless.Unavailable && code != gapless.Internal {
			t.Error(err)
		}
		return nil
	}
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if bare, _, _ := strings.Cut(name, "{"); !strings.HasSuffix(bare, "_total") && !strings.HasSuffix(bare, "_count") && !strings.HasSuffix(bare, "_bucket") {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); err == nil {
			out[name] = v
		}
	}
	return out
}

// TestCountersOutliveEverything: the daemon is killed, everything is upgraded
// and the daemon is killed again, under load. No counter goes back, and in the
// end they are what the clients counted, to the request.
func TestCountersOutliveEverything(t *testing.T) {
	r := rig.New(t, "")
	next, err := rig.Binary("nextversion")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, r, 2, "")
	run := r.LoadAs(load.Config{Mix: load.Mix{KeepAlive: 60, KeepAliveClients: 6, Fresh: 60}}, "v1")

	stop, stopped := make(chan struct{}), make(chan int)
	go func() { // somebody who asks all the time
		before, asked := map[string]float64{}, 0
		for {
			select {
			case <-stop:
				stopped <- asked
				return
			case <-time.After(20 * time.Millisecond):
			}
			now := countersOf(t, r)
			if now != nil {
				asked++
			}
			for name, v := range now {
				if v < before[name] {
					t.Errorf("%s was %v, is %v", name, before[name], v)
				}
				before[name] = v
			}
		}
	}()
	served := func(more int) {
		t.Helper()
		n := run.Report().Requests
		rig.Eventually(t, 30*time.Second, "requests are served", func() bool { return run.Report().Requests >= n+more })
	}
	replaced := func(name string, pid int) {
		t.Helper()
		rig.Eventually(t, 20*time.Second, "another "+name, func() bool { return r.Proc(name).PID != pid })
	}
	served(200)
	daemon := r.Proc("daemon").PID
	rig.Kill(t, daemon)
	replaced("daemon", daemon)
	served(100)
	edge := r.Proc("edge").PID
	r.Must(0, "upgrade", "--from", next)
	replaced("edge", edge)
	served(100)
	daemon = r.Proc("daemon").PID
	rig.Kill(t, daemon)
	replaced("daemon", daemon)
	served(100)
	report := run.Stop()
	if report.Dropped > 0 || report.Bad > 0 {
		t.Errorf("%d dropped, %d bad", report.Dropped, report.Bad)
		tell(t, lost(run))
	}
	want := float64(report.Requests)
	name := `gapless_requests_total{app="http",release="v1"}`
	rig.Eventually(t, 10*time.Second, "all is counted", func() bool { return countersOf(t, r)[name] >= want })
	close(stop)
	if asked := <-stopped; asked < 20 {
		t.Errorf("void: it was asked %d times", asked)
	}
	now := countersOf(t, r)
	for name, want := range map[string]float64{
		name: want,
		`gapless_responses_total{app="http",class="2xx",release="v1"}`:       want,
		`gapless_response_seconds_bucket{app="http",release="v1",le="+Inf"}`: want,
	} {
		if now[name] != want {
			t.Errorf("%s is %v, the clients say %v", name, now[name], want)
		}
	}
	a := app(t, r)
	if len(a.Releases) != 1 || float64(a.Releases[0].Requests) != want {
		t.Errorf("status says %+v, the clients %v", a.Releases, want)
	}
	t.Logf("%v requests through two edges and four daemons", want)
}
