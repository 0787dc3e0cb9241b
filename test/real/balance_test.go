package real

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/edge"
	"gapless/internal/load"
	"gapless/test/rig"
)

// TestUnixSockets: a deploy moves an app from TCP ports to unix sockets, without
// loss. That it stays there without loss is in TestRollingDeploys.
func TestUnixSockets(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 2, "")
	r.Rollout(0, "up")
	run := r.Load(mix, "v1")
	settle()
	configure(r, "http", 2, "socket: true\n")
	r.Write("VERSION", "2")
	r.Allow("v1", "v2")
	deploy := r.Rollout(0, "deploy")
	r.Allow("v2")
	settle()
	onSockets(t, r, 2)
	lossless(t, r, run, r.Drains(deploy.ID), every...)
}

// onSockets checks that the n instances of the app are reached by sockets that
// nobody else gets at, and that no others are left.
func onSockets(t *testing.T, r *rig.Rig, n int) {
	t.Helper()
	sockets := map[string]bool{}
	for _, in := range r.Status().Apps[0].Instances {
		path, ok := strings.CutPrefix(in.Address, "unix:")
		if sockets[path] = true; !ok {
			t.Errorf("%s is reached at %s", in.Label(), in.Address)
		}
		if st, err := os.Stat(filepath.Dir(path)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("directory of %s: %v, %v", path, st, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(r.Home, "sock", "*", "*"))
	if err != nil || len(files) != n || len(sockets) != n {
		t.Errorf("sockets %v (%v), the instances have %v", files, err, sockets)
	}
	for _, f := range files {
		if !sockets[f] {
			t.Errorf("%s is nobody's", f)
		}
	}
}

// TestAHangingCandidateGoesBack: a release that answers its probe and nothing
// else. What comes beyond its limit is answered by stable and counts against
// it; what hangs is repeated when it is gone. Nobody sees anything but a good answer.
func TestAHangingCandidateGoesBack(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 2, "")
	yaml := read(t, r, "gapless.yaml")
	r.Write("gapless.yaml", strings.NewReplacer("soak: 2s", "soak: 30s", "drain: 10s", "drain: 2s").Replace(yaml))
	r.Rollout(0, "up")
	run := r.LoadAs(load.Config{Mix: load.Mix{Fresh: 150}, Timeout: 60 * time.Second}, "v1")
	settle()
	r.Write("BREAK", "hang")
	r.Write("BREAK_PATH", "/")
	deploy := r.Rollout(3, "deploy")
	settle()
	report := run.Stop()
	t.Logf("load:\n%s", report)
	only(t, report, "v1")
	if report.Dropped > 0 || report.Bad > 0 || report.Requests < 500 {
		t.Errorf("%d of %d dropped, %d bad: %v", report.Dropped, report.Requests, report.Bad, report.Errors)
		tell(t, lost(run))
	}
	if deploy.Outcome != gapless.TakenBack || deploy.Verdict == nil || deploy.Verdict.Kind != gapless.Worse {
		t.Errorf("%+v", deploy)
	}
	for _, of := range r.Status().Apps[0].Releases {
		t.Logf("%s: %d requests, %d retried, %d over the limit", of.Release, of.Requests, of.Retried, of.Over)
		if (of.Over > 0) != (of.Release == "v2") {
			t.Errorf("%s: %d were over the limit", of.Release, of.Over)
		}
	}
}

// TestAFlappingInstanceIsLeftAlone: one of two instances resets every request.
// Users see nothing of it, and after three tries it is asked rarely. When it is
// the last one it is asked all the same.
func TestAFlappingInstanceIsLeftAlone(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 2, "")
	r.Write("BREAK", "reset")
	r.Write("BREAK_INSTANCE", ".web.1.")
	r.Rollout(0, "up")
	run := r.LoadAs(load.Config{Mix: load.Mix{Fresh: 100}}, "v1")
	settle()
	settle()
	report := run.Stop()
	t.Logf("load:\n%s", report)
	if report.Dropped > 0 || report.Bad > 0 || report.Requests < 300 {
		t.Errorf("%d of %d dropped, %d bad: %v", report.Dropped, report.Requests, report.Bad, report.Errors)
	}
	flapping := func() (in gapless.InstanceTraffic) {
		t.Helper()
		sockets, err := filepath.Glob(filepath.Join(r.Home, "run", "edge-*.sock"))
		if err != nil || len(sockets) != 1 {
			t.Fatalf("edges: %v, %v", sockets, err)
		}
		c, err := edge.Dial(t.Context(), sockets[0])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		rep, err := c.Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, in = range rep.Instances {
			if strings.Contains(in.Instance, ".web.1.") {
				return in
			}
		}
		t.Fatalf("no such instance: %+v", rep.Instances)
		return in
	}
	first := flapping()
	if first.Ejections != 1 || first.Ejected == 0 || first.Requests > 2*gapless.EjectAfter {
		t.Errorf("%+v", first)
	}
	r.Must(0, "scale", "1")
	for _, in := range r.Status().Apps[0].Instances {
		if in.Slot != 1 {
			t.Skipf("instance %s was kept", in.Label())
		}
	}
	for range 5 {
		res, err := http.Get("http://" + r.Address + "/")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusBadGateway {
			t.Errorf("status %d: the last instance is not asked", res.StatusCode)
		}
	}
	if last := flapping(); last.Ejected != 0 || last.Requests < first.Requests+5 {
		t.Errorf("%+v", last)
	}
}
