package fault

import (
	"syscall"
	"testing"
	"time"

	"gapless/internal/load"
	"gapless/test/rig"
)

// TestInstanceKilled kills one of three instances: the others serve, it comes
// back, and what is lost was under way in it.
func TestInstanceKilled(t *testing.T) {
	r := rig.New(t, "")
	serve(t, r, 3, probe)
	run := r.Load(mix, "v1")
	settle()
	victim := app(t, r).Instances[0]
	death := rig.Kill(t, victim.PID)
	rig.Eventually(t, 10*time.Second, "it is started again", func() bool {
		for _, in := range app(t, r).Instances {
			if in.ID == victim.ID && in.PID != 0 && in.PID != victim.PID && in.State == "ready" {
				return in.Restarts == 1 && in.Exit != nil && in.Exit.Signal == "SIGKILL"
			}
		}
		return false
	})
	t.Logf("ready again after %s", time.Since(death.Sent).Round(time.Millisecond))
	settle()
	report := run.Stop()
	t.Logf("load:\n%s", report)
	gone := lost(run)
	for _, s := range gone {
		switch {
		case s.Instance != "" && s.Instance != victim.ID:
			t.Errorf("lost on %s, which was not killed: %s %s", s.Instance, s.Kind, s.Err)
		case s.Start.After(death.Gone):
			t.Errorf("lost %s after the death: %s %s", s.Start.Sub(death.Gone), s.Kind, s.Detail)
		case repeatable(s.Kind):
			t.Errorf("lost although it could be repeated: %s %s: %s", s.Kind, s.Err, s.Detail)
		}
	}
	t.Logf("%d lost, which were under way in it (%d in flight when it was looked at)", len(gone), victim.InFlight)
	if len(gone) > victim.InFlight+slack {
		t.Errorf("%d lost, %d in flight", len(gone), victim.InFlight)
		tell(t, gone)
	}
	whole(t, r, "v1", 3)
	// Repeated is what was under way in it and, until the edge has met a refused
	// connection, what was given to it after its death.
	r.Bounded(t, 0, victim.InFlight+slack+stale)
}

// TestInstanceStopped freezes an instance for 10 s. It accepts connections and
// never answers, so only the edge's probes can tell: they take it out, and put
// it back when it answers again.
func TestInstanceStopped(t *testing.T) {
	t.Parallel()
	r := rig.New(t, "")
	const interval, timeout = 200 * time.Millisecond, 300 * time.Millisecond
	serve(t, r, 3, "health: { path: /healthz, interval: 200ms, timeout: 300ms }\n")
	m := load.Mix{KeepAlive: 40, Fresh: 20}
	run := r.Load(m, "v1")
	settle()
	victim := app(t, r).Instances[0]
	if err := syscall.Kill(victim.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	t.Cleanup(func() { _ = syscall.Kill(victim.PID, syscall.SIGCONT) })
	healthy := func() bool {
		for _, in := range app(t, r).Instances {
			if in.ID == victim.ID {
				return in.Healthy
			}
		}
		t.Fatal("it was given up")
		return false
	}
	rig.Eventually(t, 3*(interval+timeout)+2*time.Second, "the probes take it out", func() bool { return !healthy() })
	out := time.Now()
	t.Logf("out after %s", out.Sub(stopped).Round(time.Millisecond))
	time.Sleep(time.Until(stopped.Add(10 * time.Second)))
	if err := syscall.Kill(victim.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	woken := time.Now()
	rig.Eventually(t, 5*time.Second, "the probes put it back", healthy)
	t.Logf("back after %s", time.Since(woken).Round(time.Millisecond))
	before := requests(t, r, victim.ID)
	settle()
	if after := requests(t, r, victim.ID); after <= before {
		t.Errorf("it gets no requests: %d, then %d", before, after)
	}
	report := run.Stop()
	t.Logf("load:\n%s", report)
	gone := lost(run)
	for _, s := range gone {
		if s.Start.After(out) || s.End.Before(stopped) {
			t.Errorf("lost while others served: %s %s from %s: %s", s.Kind, s.Err, s.Start.Sub(stopped), s.Detail)
		}
	}
	t.Logf("%d of %d requests lost: they were given to it in the %s until it was out", len(gone), report.Requests, out.Sub(stopped).Round(time.Millisecond))
	if len(gone) > 30 { // least in flight is picked: one that answers nothing soon gets nothing
		t.Errorf("%d lost", len(gone))
		tell(t, gone)
	}
	if in := whole(t, r, "v1", 3); in.Rollout == nil || in.Rollout.Kind != "up" {
		t.Errorf("a rollout began: %+v", in.Rollout)
	}
}

func requests(t *testing.T, r *rig.Rig, id string) uint64 {
	for _, in := range app(t, r).Instances {
		if in.ID == id {
			return in.Requests
		}
	}
	t.Fatalf("%s is gone", id)
	return 0
}

// TestSlowStart deploys a version that takes four seconds to listen.
func TestSlowStart(t *testing.T) {
	r := rig.New(t, "")
	serve(t, r, 2, probe)
	run := r.Load(dense, "v1")
	settle()
	r.Write("VERSION", "2")
	r.Write("BOOT_MS", "4000")
	r.Allow("v1", "v2")
	deploy := r.Rollout(0, "deploy")
	r.Allow("v2")
	settle()
	drains := r.Drains(deploy.ID)
	if took := deploy.Finished.Sub(deploy.Started); took < 8*time.Second {
		t.Errorf("void: two slow starts took only %s", took)
	}
	if len(drains) != 2 {
		t.Errorf("%d drains", len(drains))
	}
	report := lossless(t, r, run, 0)
	for _, err := range load.Overlaps(run.Samples(), drains, load.Slow, load.Upload, load.WebSocket) {
		t.Error(err)
	}
	if report.Releases["v2"] == 0 {
		t.Errorf("v2 answered nothing: %v", report.Releases)
	}
}
