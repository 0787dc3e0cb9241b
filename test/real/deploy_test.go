// Package real deploys real Node apps with the real binary under strict load
// and counts what users would have lost.
package real

import (
	"fmt"
	"math"
	"net"
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
	KeepAlive: 60, KeepAliveClients: 8, Fresh: 30, Slow: 5, SlowTime: 2500 * time.Millisecond,
	Upload: 6, UploadSize: 1 << 20, UploadTime: 2 * time.Second, WebSockets: 10, SSE: 2,
}

// dense is for three instances and more: each has a quarter of the traffic, and
// must have one of all kinds in hand when it drains.
func dense(m load.Mix) load.Mix {
	m.Slow, m.Upload, m.WebSockets = 2*m.Slow, 4*m.Upload, 2*m.WebSockets
	return m
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
	extra := ""
	if app == "express" { // reached by unix sockets
		extra = "socket: true\n"
	}
	if app == "koa" { // handed over as descriptor 3
		extra = "socket: fd\n"
	}
	configure(r, app, n, extra)
	r.Rollout(0, "up")
	m := mix
	if app == "next" { // no WebSocket there, and a slower start
		m.WebSockets, m.KeepAlive, m.Fresh = 0, 30, 10
	}
	if n > 2 {
		m = dense(m)
	}
	run := r.Load(m, "v1")
	settle()
	r.Write("VERSION", "2")
	r.Allow("v1", "v2")
	deploy := r.Rollout(0, "deploy")
	r.Allow("v2") // every instance of v1 is gone
	if deploy.Outcome != gapless.Promoted || deploy.To != "v2" {
		t.Errorf("deploy: %+v", deploy)
	}
	settle()
	drains := r.Drains(deploy.ID)
	if len(drains) != n {
		t.Errorf("%d instances were drained, want %d", len(drains), n)
	}
	need := every
	if app == "next" {
		need = []load.Kind{load.Slow, load.Upload}
	}
	if extra != "" {
		onSockets(t, r, n)
	}
	lossless(t, r, run, drains, need...)
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
	run := r.Load(dense(mix), "v1")
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
	lossless(t, r, run, drains, every...)
	st := r.Status().Apps[0]
	if len(st.Instances) != 1 {
		t.Errorf("%d instances after scale 1", len(st.Instances))
	}
}

// broken are the ways in which a new version can be broken, and what the
// report must say of each (one of told). Those that never become ready answer
// nobody.
var broken = []struct {
	name  string
	told  []string
	ready bool
}{
	{"throw", []string{"DATABASE_URL"}, false},
	{"syntax", []string{"SyntaxError"}, false},
	{"never-listen", []string{"listens on no port, and was given port"}, false},
	{"wrong-port", []string{"process.env.PORT"}, false},
	{"exit-after-5s", []string{"code 7"}, true},
	{"hang", []string{"/healthz"}, false},
	{"leak", []string{"memory"}, true},
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
			t.Run(b.name+"-"+app, func(t *testing.T) { brokenRelease(t, app, b.name, b.told, b.ready) })
		}
	}
}

func brokenRelease(t *testing.T, app, fault string, told []string, ready bool) {
	r := rig.New(t, "")
	r.App(app)
	configure(r, app, 2, "start_timeout: 10s\nmemory: 400M\n")
	r.Write("gapless.yaml", strings.Replace(read(t, r, "gapless.yaml"), "soak: 2s", "soak: 8s", 1))
	r.Rollout(0, "up")
	m := mix
	m.Slow, m.Upload = 2, 1
	if app == "next" {
		m.WebSockets, m.KeepAlive, m.Fresh = 0, 30, 10
	}
	run := r.Load(m, "v1")
	time.Sleep(time.Second)
	r.Write("BREAK", fault)
	if fault == "wrong-port" { // hard-wired
		_, port, err := net.SplitHostPort(rig.FreeAddress(t))
		if err != nil {
			t.Fatal(err)
		}
		r.Write("WRONG_PORT", port)
		told = []string{"v2/1 listens on " + port + ", but was given port ", "v2/1 was not ready: listens on " + port + ", but was given port "}
	}
	if ready {
		r.Allow("v1", "v2")
	}
	res := r.Must(3, "deploy")
	r.Allow("v1")
	time.Sleep(time.Second)
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
	if ready { // it serves a share before it dies, in one process: what it takes down with it is its own
		crashed(t, lost(run), 1, "v2")
		r.Bounded(t, time.Second, stale+underWay(m))
		return
	}
	if report.Dropped > 0 || report.Bad > 0 {
		t.Errorf("%d dropped, %d bad: %v", report.Dropped, report.Bad, report.Errors)
		tell(t, lost(run))
	}
	only(t, report, "v1")
	r.Bounded(t, 0, stale)
}

// underWay is how many requests that can be repeated may be in flight in one
// instance when it dies, or given to it before the edge has met its closed
// port: each client that keeps its connection has one, new connections last
// some milliseconds, and of the slow ones there are rate times length on
// average, with four standard deviations above that never seen.
func underWay(m load.Mix) int {
	slow := m.Slow * m.SlowTime.Seconds()
	return max(m.KeepAliveClients, 8) + 8 + int(slow+4*math.Sqrt(slow))
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
// very assertions of the tests above to fail for the same deployment under the
// same load. On the good binary they complain of a load that proves nothing.
func TestHarnessSeesPlantedFaults(t *testing.T) {
	quiet := load.Mix{KeepAlive: 120, Fresh: 60}
	for _, c := range []struct {
		fault string
		mix   load.Mix
		want  []string
	}{
		{"planted_early_zero", mix, []string{" dropped, ", "void: no ", "WebSockets were closed with 1006"}},
		{"planted_stop_first", mix, []string{" dropped, ", "void: no ", "WebSockets were closed with 1006"}},
		{"", quiet, []string{"void: no "}},
	} {
		name := c.fault
		if name == "" {
			name = "void"
		}
		t.Run(name, func(t *testing.T) {
			r := rig.New(t, c.fault)
			r.App("http")
			configure(r, "http", 2, "")
			r.Rollout(0, "up")
			run := r.Load(c.mix, "v1")
			settle()
			restart := r.Rollout(0, "restart")
			settle()
			w := &witness{TB: t}
			drains := r.Drains(restart.ID)
			if len(drains) != 2 {
				t.Errorf("%d instances were drained", len(drains))
			}
			lossless(w, r, run, drains, every...)
			t.Logf("the assertions said: %q", w.said)
			for _, want := range c.want {
				if w.heard(want) == 0 {
					t.Errorf("lossless said %q, nothing of %q", w.said, want)
				}
			}
			if all := len(drains) * len(every); c.fault == "" && (w.heard("void: no ") != all || len(w.said) != all) {
				t.Errorf("the good binary is blamed for more than a void test of %d drains and %d kinds: %q", len(drains), len(every), w.said)
			}
		})
	}
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

// TestAppsShareAListenerUnderLoad routes three apps by host and by path on one
// address, and replaces two of them under load. Each serves another release,
// so an answer of the wrong app is an answer of the wrong release.
func TestAppsShareAListenerUnderLoad(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	as := func(app, where string) {
		configure(r, app, 2, "soak: 0s\n"+where)
		r.Write("gapless.yaml", strings.Replace(read(t, r, "gapless.yaml"), "soak: 2s\n", "", 1))
	}
	const one, cart, two = "host: one.test\n", "host: one.test\npath: /cart\n", "host: two.test\n"
	ship := func(app, where string, release int) {
		as(app, where)
		r.Rollout(0, "up")
		for range release - 1 {
			r.Rollout(0, "deploy")
		}
	}
	ship("one", one, 1)
	ship("two", two, 2)
	ship("cart", cart, 3)

	allow := func(names ...string) func() map[string]bool {
		set := map[string]bool{}
		for _, name := range names {
			set[name] = true
		}
		return func() map[string]bool { return set }
	}
	all := mix
	all.SSE = 0 // an event stream makes every drain last to its deadline
	loads := map[string]*load.Run{}
	for app, cfg := range map[string]load.Config{
		"one":  {Host: "one.test", Mix: all, Releases: allow("v1")},
		"two":  {Host: "two.test", Mix: load.Mix{KeepAlive: 30, Fresh: 15, Path: 10, WebSockets: 3}, Releases: allow("v2")},
		"cart": {Host: "one.test", Mix: load.Mix{Path: 40}, Releases: allow("v3", "v4")},
	} {
		cfg.URL = "http://" + r.Address
		run, err := load.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		loads[app] = run
	}
	settle()
	as("cart", cart)
	if ro := r.Rollout(0, "deploy"); ro.To != "v4" {
		t.Errorf("cart serves %s", ro.To)
	}
	restart := r.Rollout(0, "restart", "one")
	settle()
	for _, app := range []string{"two", "cart"} {
		report := loads[app].Stop()
		t.Logf("%s:\n%s", app, report)
		if report.Dropped+report.Bad > 0 || report.Requests < 100 {
			t.Errorf("%s: %d requests, %d dropped, %d bad: %v", app, report.Requests, report.Dropped, report.Bad, report.Errors)
			tell(t, lost(loads[app]))
		}
	}
	if got := loads["cart"].Report().Releases; got["v3"] == 0 || got["v4"] == 0 {
		t.Errorf("void: cart was answered by %v", got)
	}
	lossless(t, r, loads["one"], r.Drains(restart.ID), every...)
}
