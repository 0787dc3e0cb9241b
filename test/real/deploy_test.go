// Package real deploys real Node apps with the real binary under strict load
// and counts what users would have lost.
package real

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/load"
	"gapless/test/rig"
)

// mix is the load of every deployment here: all kinds of clients. Slow
// requests, uploads and WebSockets are dense enough that each drain overlaps
// some of every kind on every instance.
var mix = load.Mix{
	KeepAlive: 60, KeepAliveClients: 8, Fresh: 30, Slow: 10, SlowTime: 2500 * time.Millisecond,
	Upload: 9, UploadSize: 1 << 20, UploadTime: 2 * time.Second, WebSockets: 12, SSE: 2,
}

// all reports whether the full matrix is asked for.
func all() bool { return os.Getenv("GAPLESS_TEST_ALL") != "" }

// configure writes the app's gapless.yaml. The drain leaves room for the
// slowest requests; the soak is short, because the test does not wait for a judge.
func configure(r *rig.Rig, app string, instances int, extra string) {
	r.Write("gapless.yaml", fmt.Sprintf("app: %s\nlisten: %q\ninstances: %d\ndrain: 10s\nsoak: 2s\ngrace: 2s\nhealth: { path: /healthz }\nbuild: false\n%s",
		app, r.Address, instances, extra))
}

// settle lets load run on both sides of a deployment.
func settle() { time.Sleep(3 * time.Second) }

// lossless checks a stopped run: nothing lost, nothing hidden, not void.
func lossless(t testing.TB, r *rig.Rig, run *load.Run, drains []load.Drain, kinds ...load.Kind) {
	t.Helper()
	report := run.Stop()
	t.Logf("load:\n%s", report)
	if report.Dropped > 0 || report.Bad > 0 {
		t.Errorf("%d dropped, %d bad: %v", report.Dropped, report.Bad, report.Errors)
		for i, s := range run.Samples() {
			if s.Err != "" && i < 2000 {
				t.Logf("%s %s on %s from %s: %s %s", s.Err, s.Kind, s.Instance, s.Start.Format("15:04:05.000"), s.End.Sub(s.Start), s.Detail)
			}
		}
	}
	if report.Requests < 500 {
		t.Errorf("only %d requests were sent", report.Requests)
	}
	for code := range report.WSClosed {
		if code != 1001 && code != 1000 {
			t.Errorf("WebSockets were closed with %d: %v", code, report.WSClosed)
		}
	}
	for _, err := range load.Overlaps(run.Samples(), drains, kinds...) {
		t.Error(err)
	}
	r.Bounded(time.Second)
}

// TestRollingDeploys ships a good version and then restarts, for apps of all
// kinds without any signal handling.
func TestRollingDeploys(t *testing.T) {
	apps := []string{"express", "ws", "next", "fastify", "koa", "http"}
	instances := map[string]int{"express": 2, "ws": 1, "next": 1, "fastify": 2, "koa": 1, "http": 3}
	for _, app := range apps {
		counts := []int{instances[app]}
		if all() {
			counts = []int{1, 2, 4}
		}
		for _, n := range counts {
			t.Run(fmt.Sprintf("%s-%d", app, n), func(t *testing.T) { rolling(t, app, n) })
		}
	}
}

func rolling(t *testing.T, app string, n int) {
	r := rig.New(t, "")
	r.App(app)
	configure(r, app, n, "")
	r.Rollout(0, "up")
	m := mix
	if app == "next" { // no WebSocket there, and a slower start
		m.WebSockets, m.KeepAlive, m.Fresh = 0, 30, 10
	}
	run := r.Load(m)
	settle()
	r.Write("VERSION", "2")
	deploy := r.Rollout(0, "deploy")
	if deploy.Outcome != gapless.Promoted || deploy.To != "v2" {
		t.Errorf("deploy: %+v", deploy)
	}
	settle()
	drains := r.Drains(deploy.ID)
	if len(drains) != n {
		t.Errorf("%d instances were drained, want %d", len(drains), n)
	}
	var must []load.Kind
	if app == "next" { // no WebSocket there
		must = []load.Kind{load.Slow, load.Upload}
	}
	lossless(t, r, run, drains, must...)
	if got := run.Report().Releases["v2"]; got == 0 {
		t.Errorf("v2 answered nothing: %v", run.Report().Releases)
	}
}

// TestRestartAndScale replaces and resizes under load.
func TestRestartAndScale(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 2, "")
	r.Rollout(0, "up")
	run := r.Load(mix)
	settle()
	restart := r.Rollout(0, "restart")
	drains := r.Drains(restart.ID)
	if len(drains) != 2 {
		t.Errorf("restart drained %d instances", len(drains))
	}
	settle()
	r.Must(0, "scale", "3")
	settle()
	down := r.Rollout(0, "scale", "1")
	drains = append(drains, r.Drains(down.ID)...)
	settle()
	lossless(t, r, run, drains)
	st := r.Status().Apps[0]
	if len(st.Instances) != 1 {
		t.Errorf("%d instances after scale 1", len(st.Instances))
	}
}

// broken are the ways in which a new version can be broken, and what the
// report must say of each (one of told).
var broken = []struct {
	name string
	told []string
}{
	{"throw", []string{"DATABASE_URL"}},
	{"syntax", []string{"SyntaxError"}},
	{"never-listen", []string{"listens on no port, and was given port"}},
	{"wrong-port", []string{"but was given port"}},
	{"exit-after-5s", []string{"code 7"}},
	{"hang", []string{"/healthz"}},
	{"leak", []string{"memory"}},
}

// TestBrokenReleases deploys every kind of broken version over a good one: the
// good one serves on and the exit code says so. By default every fault and
// every app occurs once, in pairs; all pairs with GAPLESS_TEST_ALL.
func TestBrokenReleases(t *testing.T) {
	pairs := map[string]string{"throw": "express", "syntax": "next", "never-listen": "fastify", "wrong-port": "koa",
		"exit-after-5s": "ws", "hang": "http", "leak": "http"}
	for _, b := range broken {
		apps := []string{pairs[b.name]}
		if all() {
			apps = []string{"express", "fastify", "koa", "http", "ws", "next"}
		}
		for _, app := range apps {
			t.Run(b.name+"-"+app, func(t *testing.T) { brokenRelease(t, app, b.name, b.told) })
		}
	}
}

func brokenRelease(t *testing.T, app, fault string, told []string) {
	r := rig.New(t, "")
	r.App(app)
	configure(r, app, 2, "start_timeout: 10s\nmemory: 400M\n")
	r.Write("gapless.yaml", strings.Replace(read(t, r, "gapless.yaml"), "soak: 2s", "soak: 8s", 1))
	r.Rollout(0, "up")
	m := mix
	m.Slow, m.Upload = 2, 1
	if app == "next" { // no WebSocket there, and a slower start
		m.WebSockets, m.KeepAlive, m.Fresh = 0, 30, 10
	}
	run := r.Load(m)
	time.Sleep(time.Second)
	r.Write("BREAK", fault)
	res := r.Must(3, "deploy")
	said := false
	for _, want := range told {
		said = said || strings.Contains(res.Stderr, want)
	}
	if !said {
		t.Errorf("the report does not say any of %q:\n%s", told, res.Stderr)
	}
	if !strings.Contains(res.Stderr, "hint:") {
		t.Errorf("no hint:\n%s", res.Stderr)
	}
	report := run.Stop()
	st := r.Status().Apps[0]
	if st.Stable != "v1" || len(st.Instances) != 2 || len(st.Weights) != 1 || st.Weights[0].Share != 1 {
		t.Errorf("after the rollback: stable %s, weights %v, %d instances", st.Stable, st.Weights, len(st.Instances))
	}
	t.Logf("%s: %d requests, %d dropped, %d bad, %s\n%s", fault, report.Requests, report.Dropped, report.Bad, res.Took, res.Stderr)
	switch fault {
	case "exit-after-5s", "leak":
		// It serves a share before it dies. What can be repeated is answered by
		// the others; what cannot was under way in it: of each WebSocket and
		// event stream one, and the uploads of two seconds.
		bound := m.WebSockets + m.SSE + 4*int(m.Upload)
		for _, s := range run.Samples() {
			if s.Err == "" {
				continue
			}
			if bound--; s.Kind != load.WebSocket && s.Kind != load.SSE && s.Kind != load.Upload {
				t.Errorf("lost although it could be repeated: %s %s on %s: %s", s.Kind, s.Err, s.Instance, s.Detail)
			}
		}
		if bound < 0 {
			t.Errorf("%d requests lost with the broken instance: %v", report.Dropped+report.Bad, report.Errors)
		}
	default: // it never gets a request
		if report.Dropped > 0 || report.Bad > 0 {
			t.Errorf("%d dropped, %d bad: %v", report.Dropped, report.Bad, report.Errors)
		}
		if report.Releases["v2"] > 0 || report.Releases["v1"] == 0 {
			t.Errorf("who answered: %v; want v1 alone", report.Releases)
		}
		r.Bounded(time.Second)
	}
}

func read(t *testing.T, r *rig.Rig, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestHarnessSeesPlantedFaults builds gapless with a fault and expects the
// checks of the other tests, under the same load, to fail.
func TestHarnessSeesPlantedFaults(t *testing.T) {
	for _, fault := range []string{"planted_early_zero", "planted_stop_first"} {
		t.Run(fault, func(t *testing.T) {
			r := rig.New(t, fault)
			r.App("http")
			configure(r, "http", 2, "")
			r.Rollout(0, "up")
			run := r.Load(mix)
			settle()
			restart := r.Rollout(0, "restart")
			settle()
			rec := &recorder{TB: t}
			r.T = rec // what the rig finds is told to it, too
			lossless(rec, r, run, r.Drains(restart.ID))
			r.T = t
			if report := run.Report(); report.Dropped == 0 || rec.errors == 0 {
				t.Errorf("the planted fault %s was not seen: %d dropped, %d errors", fault, report.Dropped, rec.errors)
			}
		})
	}
}

// recorder counts the errors that a check finds instead of failing the test.
type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

func (r *recorder) Errorf(format string, args ...any) {
	r.errors++
	r.Logf("found: "+format, args...)
}

// TestTwoAppsShareAListener routes two apps by host and path on one address.
func TestTwoAppsShareAListener(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	r.Write("gapless.yaml", fmt.Sprintf("app: one\nlisten: %q\ninstances: 1\nhost: one.test\nbuild: false\n", r.Address))
	r.Rollout(0, "up")
	r.Write("gapless.yaml", fmt.Sprintf("app: two\nlisten: %q\ninstances: 1\nhost: two.test\nbuild: false\nsoak: 0s\n", r.Address))
	r.Rollout(0, "up")
	for host, want := range map[string]string{"one.test": "200", "two.test": "200", "three.test": "404"} {
		out, err := exec.Command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: "+host, "http://"+r.Address+"/").CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%s: %s, %v; want %s", host, out, err, want)
		}
	}
	r.Write("gapless.yaml", fmt.Sprintf("app: three\nlisten: %q\ninstances: 1\nhost: two.test\nbuild: false\n", r.Address))
	res := r.Must(1, "up")
	if !strings.Contains(res.Stderr, "two") || !strings.Contains(res.Stderr, "hint:") {
		t.Errorf("a conflict of routes is not explained:\n%s", res.Stderr)
	}
	r.Must(0, "down", "one")
	r.Must(0, "down", "two")
}
