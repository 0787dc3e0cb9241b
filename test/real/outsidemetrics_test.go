package real

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/test/rig"
)

// frequent asks for a path all the time, whatever the answer, until the test ends.
func frequent(t *testing.T, r *rig.Rig, path string) {
	stop := make(chan struct{})
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			client := &http.Client{Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				if res, err := client.Get("http://" + r.Address + path); err == nil {
					_ = res.Body.Close()
				}
			}
		})
	}
	t.Cleanup(func() {
		close(stop)
		done.Wait()
	})
}

// TestOutsideMetricsJudge: a real Prometheus scrapes the edge, and is asked
// about each release. One that is bad only by what Prometheus knows is taken
// back; without data a person is asked; a good one goes out.
func TestOutsideMetricsJudge(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	server, err := os.ReadFile(filepath.Join(r.Dir, "server.js"))
	if err != nil {
		t.Fatal(err)
	}
	configure(r, "http", 2, "")
	r.Rollout(0, "up")
	p := scrape(t, r)
	frequent(t, r, "/cart")
	const share = `sum(rate(gapless_responses_total{app="http",release="%[1]s",class="4xx"}[4s])) / sum(rate(gapless_responses_total{app="http",release="%[1]s"}[4s]))`
	rig.Eventually(t, 30*time.Second, "prometheus knows of the traffic", func() bool { return p.value(fmt.Sprintf(share, "v1")) == 0 })

	metric := func(name, query string) string {
		return fmt.Sprintf("    - { name: %s, prometheus: { url: %q, query: %q }, max: 0.05, interval: 1s, delay: 2s, failures: 2 }\n", name, "http://"+p.addr, query)
	}
	missing := metric("missing", fmt.Sprintf(share, "{{release}}-else"))
	missing = strings.ReplaceAll(missing, "{{release}}-else", "{{release}}") // the release's name is not what is wrong
	missing = strings.ReplaceAll(missing, "gapless_responses_total", "http_responses_total")
	refused := metric("refused", fmt.Sprintf(share, "{{release}}"))
	good := metric("not-found", fmt.Sprintf(share, "{{release}}"))
	judged := func(metrics ...string) { configure(r, "http", 2, "judge:\n  metrics:\n"+strings.Join(metrics, "")) }

	// Each of the five answers, before anything depends on them.
	judged(good, missing, metric("nothing", `0 / absent(up{release="{{release}}"}) / 0`), metric("wrong", `sum(`),
		strings.Replace(metric("several", `count by (le) (gapless_response_seconds_bucket{release="{{release}}"})`), "max: 0.05", "max: 1", 1),
		strings.Replace(refused, "http://"+p.addr, "http://"+rig.FreeAddress(t), 1))
	res := r.Run("metrics", "check", "--json")
	var readings []api.MetricReading
	if err := json.Unmarshal([]byte(res.Stdout), &readings); err != nil || res.Code == 0 {
		t.Fatalf("exit %d, %v\n%s%s", res.Code, err, res.Stdout, res.Stderr)
	}
	want := map[string]gapless.ReadingKind{"not-found": gapless.ReadValue, "missing": gapless.ReadEmpty, "nothing": gapless.ReadNaN,
		"wrong": gapless.ReadError, "several": gapless.ReadError, "refused": gapless.ReadError}
	for _, m := range readings {
		if m.Kind != want[m.Metric] || m.Release != "v1" || m.Role != "stable" || m.Reached != (m.Metric == "wrong" || m.Metric == "several") {
			t.Errorf("%s: %+v", m.Metric, m)
		}
		delete(want, m.Metric)
	}
	if len(want) > 0 {
		t.Errorf("not asked: %v\n%s", want, res.Stdout)
	}
	judged(good)
	if res := r.Run("metrics", "check"); res.Code != 0 || !strings.Contains(res.Stdout, "stable v1  value 0") {
		t.Errorf("exit %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}

	// v2 does not find its carts any more. The judge sees nothing in that.
	r.Write("server.js", strings.Replace(string(server), "return text(res, kit.bodies.cart());", "break;", 1))
	back := r.Rollout(3, "deploy")
	if !strings.Contains(back.Reason, "metric not-found of v2") || back.Verdict != nil && back.Verdict.Kind == gapless.Worse {
		t.Errorf("taken back because: %s (%+v)", back.Reason, back.Verdict)
	}
	if len(back.Metrics) != 1 || back.Metrics[0].Failures != 2 || back.Metrics[0].Last.Candidate.Value < 0.5 || back.Metrics[0].Last.Candidate.Release != "v2" {
		t.Errorf("%+v", back.Metrics)
	}
	if shown := r.Must(0, "show").Stdout; !strings.Contains(shown, "metric not-found: fails") {
		t.Errorf("show says nothing of the metric:\n%s", shown)
	}

	// v3 is good, and a metric has no data: nobody goes on by himself, also
	// not the next daemon.
	r.Write("server.js", string(server))
	judged(good, missing)
	waits := r.Rollout(8, "deploy")
	if !strings.Contains(waits.Waiting, "metric missing has no data: empty") {
		t.Errorf("it waits because: %s", waits.Waiting)
	}
	before := checks(t, r, "missing")
	rig.Kill(t, r.Proc("daemon").PID)
	rig.Eventually(t, 30*time.Second, "the next daemon asks on", func() bool { return checks(t, r, "missing").Checks > before.Checks })
	now := checks(t, r, "missing")
	if now.Failures != 0 || now.NoData != now.Checks || now.NoData < before.NoData+1 {
		t.Errorf("%+v, before %+v", now, before)
	}
	if res := r.Run("metrics", "check", "http", "--json"); !strings.Contains(res.Stdout, `"candidate"`) {
		t.Errorf("the candidate is not asked about:\n%s%s", res.Stdout, res.Stderr)
	}
	if text := r.Must(0, "status").Stdout; !strings.Contains(text, "metric missing: no data: empty") {
		t.Errorf("status says nothing of the metric:\n%s", text)
	}
	r.Rollout(3, "abort")

	// With data it goes out.
	judged(good)
	fine := r.Rollout(0, "deploy")
	if len(fine.Metrics) != 1 || fine.Metrics[0].State != gapless.MetricGood || fine.Metrics[0].Checks == 0 {
		t.Errorf("%+v", fine.Metrics)
	}
}

// checks is how a metric of the rollout that is under way stands; zero while
// no daemon answers.
func checks(t *testing.T, r *rig.Rig, name string) gapless.MetricResult {
	t.Helper()
	st, err := r.Client().Status(t.Context())
	if err != nil || len(st.Apps) == 0 || st.Apps[0].Rollout == nil {
		return gapless.MetricResult{}
	}
	for _, m := range st.Apps[0].Rollout.Metrics {
		if m.Name == name {
			return m
		}
	}
	return gapless.MetricResult{}
}
