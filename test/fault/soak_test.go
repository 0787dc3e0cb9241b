package fault

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"gapless"
	"gapless/internal/load"
	"gapless/test/rig"
)

// soakFor is how long TestSoak runs: what GAPLESS_SOAK says, else just long
// enough to see something that grows with every deployment.
func soakFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("GAPLESS_SOAK")
	if text == "" {
		return 45 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 30*time.Second {
		t.Fatalf("GAPLESS_SOAK=%q is not a duration of 30s or more", text)
	}
	return d
}

const (
	soakEvery = 5 * time.Second // a deployment begins
	soakLook  = time.Second     // the processes are measured
)

// TestSoak deploys every five seconds under load of every kind, http and
// https. Nothing is lost, and gapless's own processes, which stay the same
// ones, do not grow: neither memory, nor threads, nor descriptors.
func TestSoak(t *testing.T) {
	length := soakFor(t)
	warm := min(length/4, time.Minute)
	cert, key, client := rig.Certificate(t, "soak.test")
	r := rig.New(t, "")
	r.App("http")
	secure := rig.FreeAddress(t)
	r.Write("gapless.yaml", fmt.Sprintf("app: http\nlisten: [%q, %q]\nhost: soak.test\ninstances: 2\nsoak: 0s\ndrain: 2s\ngrace: 1s\nbuild: false\n%s"+
		"tls: { cert: %q, key: %q, listen: %q, redirect: false }\n", r.Address, secure, probe, cert, key, secure))
	r.Rollout(0, "up")
	m := mix
	m.H2C, m.Path, m.SlowTime, m.UploadTime = 10, 10, 700*time.Millisecond, 500*time.Millisecond
	run := r.LoadAs(load.Config{Mix: m, Host: "soak.test"}, "v1")
	safe := r.LoadAs(load.Config{URL: "https://" + secure, Host: "soak.test", TLS: client,
		Mix: load.Mix{KeepAlive: 20, KeepAliveClients: 4, Fresh: 5, WebSockets: 3, SSE: 1}}, "v1")
	pids := ownPIDs(r)

	look := watchSizes(t, pids, warm)
	began := time.Now()
	deploys, longest := 0, time.Duration(0)
	for due := began; time.Since(began) < length; due = later(due.Add(soakEvery)) {
		time.Sleep(time.Until(due))
		deploys++
		next := "v" + strconv.Itoa(deploys+1)
		r.Write("VERSION", strconv.Itoa(deploys+1))
		r.Allow("v"+strconv.Itoa(deploys), next)
		start := time.Now()
		if ro := r.Rollout(0, "deploy"); ro.Outcome != gapless.Promoted || ro.To != next {
			t.Errorf("deployment %d: %s: %s", deploys, ro.Outcome, ro.Reason)
		}
		longest = max(longest, time.Since(start))
		r.Allow(next)
	}
	took := time.Since(began)
	series := look()
	t.Logf("%d deployments in %s, the longest took %s", deploys, took.Round(time.Second), longest.Round(time.Millisecond))
	if deploys < int(length/soakEvery)/2 {
		t.Errorf("void: only %d deployments in %s", deploys, took)
	}
	for name, pid := range ownPIDs(r) {
		if pids[name] != pid {
			t.Errorf("the %s was %d, is %d", name, pids[name], pid)
		}
		grown(t, name, series[name])
	}
	settle()
	report := safe.Stop()
	t.Logf("https:\n%s", report)
	if report.Dropped > 0 || report.Bad > 0 {
		t.Errorf("https: %d dropped, %d bad", report.Dropped, report.Bad)
		tell(t, lost(safe))
	}
	lossless(t, r, run, 0)
}

// later is t, or now if that has passed.
func later(t time.Time) time.Time {
	if now := time.Now(); now.After(t) {
		return now
	}
	return t
}

// ownPIDs are gapless's own processes by name.
func ownPIDs(r *rig.Rig) map[string]int {
	pids := map[string]int{}
	for _, name := range []string{"keeper", "daemon", "edge"} {
		pids[name] = r.Proc(name).PID
	}
	return pids
}

// watchSizes measures processes all the time from after a while until the
// function that it returns is called.
func watchSizes(t *testing.T, pids map[string]int, after time.Duration) func() map[string][]rig.Size {
	stop, done := make(chan struct{}), make(chan map[string][]rig.Size, 1)
	go func() {
		series := map[string][]rig.Size{}
		defer func() { done <- series }()
		for wait := after; ; wait = soakLook {
			select {
			case <-stop:
				return
			case <-time.After(wait):
			}
			for name, pid := range pids {
				s, err := rig.SizeOf(pid)
				if err != nil {
					t.Errorf("the %s: %v", name, err)
					return
				}
				series[name] = append(series[name], s)
			}
		}
	}()
	return func() map[string][]rig.Size { close(stop); return <-done }
}

// grown fails the test if a process had more of anything in the last third of
// the time than in the first. Medians: what a deployment needs for a moment
// does not count. What is allowed is how much they differ between two thirds
// in which nothing grows.
func grown(t *testing.T, name string, series []rig.Size) {
	t.Helper()
	n := len(series) / 3
	if n < 5 {
		t.Errorf("void: the %s was measured %d times", name, len(series))
		return
	}
	first, last := middle(series[:n]), middle(series[len(series)-n:])
	t.Logf("%s: %s in the first third, %s in the last", name, first, last)
	if last.Memory > first.Memory+first.Memory/5+3<<10 {
		t.Errorf("the %s grew from %d to %d KiB", name, first.Memory, last.Memory)
	}
	if last.Threads > first.Threads+3 {
		t.Errorf("the %s had %d threads, has %d", name, first.Threads, last.Threads)
	}
	if last.Descriptors > first.Descriptors+max(3, first.Descriptors/10) {
		t.Errorf("the %s had %d descriptors, has %d", name, first.Descriptors, last.Descriptors)
	}
}

// middle is the median of each figure.
func middle(series []rig.Size) rig.Size {
	of := func(get func(rig.Size) int) int {
		all := make([]int, len(series))
		for i, s := range series {
			all[i] = get(s)
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return rig.Size{Memory: of(func(s rig.Size) int { return s.Memory }), Threads: of(func(s rig.Size) int { return s.Threads }),
		Descriptors: of(func(s rig.Size) int { return s.Descriptors })}
}
