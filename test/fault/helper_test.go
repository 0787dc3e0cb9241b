// Package fault kills, stops and starves the parts of a running installation
// under strict load and counts what users would have lost.
package fault

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/edge"
	"gapless/internal/load"
	"gapless/test/rig"
)

// mix is every kind of client, light enough for a small machine that also
// runs what is killed.
var mix = load.Mix{
	KeepAlive: 40, KeepAliveClients: 6, Fresh: 20, Slow: 6, SlowTime: 1500 * time.Millisecond,
	Upload: 6, UploadSize: 512 << 10, UploadTime: time.Second, WebSockets: 6, SSE: 1,
}

// dense is for tests that need some of every kind under way on each instance
// when it is drained. Without event streams: those end at the deadline only.
var dense = load.Mix{
	KeepAlive: 40, KeepAliveClients: 6, Fresh: 20, Slow: 14, SlowTime: 1500 * time.Millisecond,
	Upload: 12, UploadSize: 512 << 10, UploadTime: time.Second, WebSockets: 10,
}

// all reports whether more repetitions are asked for.
func all() bool { return os.Getenv("GAPLESS_TEST_ALL") != "" }

func times(few, many int) int {
	if all() {
		return many
	}
	return few
}

// serve makes an installation in which the plain http app serves.
func serve(t *testing.T, r *rig.Rig, instances int, extra string) {
	t.Helper()
	r.App("http")
	configure(r, instances, extra)
	r.Rollout(0, "up")
}

func configure(r *rig.Rig, instances int, extra string) {
	r.Write("gapless.yaml", fmt.Sprintf("app: http\nlisten: %q\ninstances: %d\ndrain: 5s\nsoak: 1s\ngrace: 2s\nbuild: false\n%s", r.Address, instances, extra))
}

const probe = "health: { path: /healthz }\n"

// stale is how many requests may be repeated where no instance died: an
// instance that is drained is asked nothing when it ends, so all that is left
// is a kept connection that the app closes just as it is used. Edges leave
// them a second before the app's own timeout: on a starved machine a few miss it.
const stale = 5

// upTo are the releases that may answer while one after another is shipped:
// stable and all between it and the newest, some of which may have failed.
func upTo(stable string, newest int) (out []string) {
	for n := stableNumber(stable); n <= newest; n++ {
		out = append(out, "v"+strconv.Itoa(n))
	}
	return out
}

// settle lets load run before and after a fault.
func settle() { time.Sleep(1500 * time.Millisecond) }

// lossless ends a run in which nothing may have been lost.
func lossless(t testing.TB, r *rig.Rig, run *load.Run, held time.Duration) load.Report {
	t.Helper()
	report := run.Stop()
	t.Logf("load:\n%s", report)
	if report.Dropped > 0 || report.Bad > 0 {
		t.Errorf("%d dropped, %d bad", report.Dropped, report.Bad)
		tell(t, lost(run))
	}
	if report.Requests < 200 {
		t.Errorf("void: only %d requests were sent", report.Requests)
	}
	for code := range report.WSClosed {
		if code != 1000 && code != 1001 {
			t.Errorf("WebSockets were closed with %d", code)
		}
	}
	// One message may be under way when a WebSocket is closed, on a busy machine
	// two; one that was left unheard for longer was lost, politely.
	if report.WSUnanswered > 2*report.WSClosed[1001] {
		t.Errorf("%d messages were not answered in %d closes", report.WSUnanswered, report.WSClosed[1001])
	}
	r.Bounded(t, held, stale)
	return report
}

// lost lists what was lost, in the order in which it began.
func lost(run *load.Run) []load.Sample {
	var out []load.Sample
	for _, s := range run.Samples() {
		if s.Err != "" {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b load.Sample) int { return a.Start.Compare(b.Start) })
	return out
}

func tell(t testing.TB, samples []load.Sample) {
	t.Helper()
	for _, s := range samples[:min(len(samples), 20)] {
		t.Logf("%s %s on %s from %s for %s: %s", s.Err, s.Kind, s.Instance, s.Start.Format("15:04:05.000"), s.End.Sub(s.Start), s.Detail)
	}
}

// app is the one app of the installation.
func app(t *testing.T, r *rig.Rig) api.AppStatus {
	t.Helper()
	st := r.Look()
	if len(st.Apps) != 1 {
		t.Fatalf("%d apps", len(st.Apps))
	}
	return st.Apps[0]
}

// whole waits until n instances of a release serve and nothing else is left.
func whole(t *testing.T, r *rig.Rig, release string, n int) api.AppStatus {
	t.Helper()
	var a api.AppStatus
	rig.Eventually(t, 20*time.Second, fmt.Sprintf("%d instances of %s serve", n, release), func() bool {
		a = app(t, r)
		if a.Stable != release || len(a.Instances) != n || len(a.Weights) != 1 || a.Weights[0].Release != release {
			return false
		}
		for _, in := range a.Instances {
			if in.State != gapless.Ready || !in.Healthy {
				return false
			}
		}
		return true
	})
	return a
}

// report asks one edge generation what it serves.
func report(t *testing.T, r *rig.Rig, generation int) gapless.EdgeReport {
	t.Helper()
	c, err := edge.Dial(context.Background(), fmt.Sprintf("%s/run/edge-%d.sock", r.Home, generation))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rep, err := c.Report(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// get asks once on a connection of its own and returns the status and how
// long the whole took. It never repeats.
func get(address, path string, limit time.Duration) (status int, body string, took time.Duration, err error) {
	began := time.Now()
	client := http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: (&net.Dialer{}).DialContext}}
	res, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, "", time.Since(began), err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return res.StatusCode, string(data), time.Since(began), err
}

// moving waits until a deployment that was begun moves traffic.
func moving(t *testing.T, r *rig.Rig) {
	t.Helper()
	rig.Eventually(t, 20*time.Second, "the new release has traffic", func() bool {
		a := app(t, r)
		if a.Rollout == nil || a.Rollout.Outcome != gapless.Running {
			return false
		}
		for _, w := range a.Weights {
			if w.Release == a.Rollout.To && w.Share > 0 && w.Share < 1 {
				return true
			}
		}
		return false
	})
}

// under fails the test as void if no rollout is under way.
func under(t *testing.T, r *rig.Rig) {
	t.Helper()
	if a := app(t, r); a.Rollout == nil || a.Rollout.Outcome != gapless.Running {
		t.Fatalf("void: the rollout is over: %+v", a.Rollout)
	}
}
