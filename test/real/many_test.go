package real

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gapless"
	"gapless/internal/load"
	"gapless/test/rig"
)

// TestFiveAppsDeployAtOnce ships new versions of five apps on one address at
// the same time. Each gets its own, nobody loses anything.
func TestFiveAppsDeployAtOnce(t *testing.T) {
	const apps = 5
	r := rig.New(t, "")
	dir := func(i int) string { return filepath.Join(r.Home+"-apps", fmt.Sprintf("app%d", i)) }
	t.Cleanup(func() { _ = os.RemoveAll(r.Home + "-apps") })
	for i := range apps {
		if err := os.MkdirAll(filepath.Dir(dir(i)), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-a", filepath.Join(rig.Root(), "test", "apps", "http"), dir(i)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		yaml := fmt.Sprintf("app: app%d\nlisten: %q\nhost: app%d.test\ninstances: 1\ndrain: 5s\nsoak: 1s\ngrace: 2s\nhealth: { path: /healthz }\nbuild: false\n", i, r.Address, i)
		if err := os.WriteFile(filepath.Join(dir(i), "gapless.yaml"), []byte(yaml), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// at once runs a command in every app's directory and returns how each ended.
	atOnce := func(verb string) (out [apps]gapless.Rollout) {
		t.Helper()
		results := make([]rig.Result, apps)
		done := make(chan int)
		for i := range apps {
			go func() {
				results[i] = r.RunIn(dir(i), verb, "--json")
				done <- i
			}()
		}
		for range apps {
			<-done
		}
		for i, res := range results {
			if err := json.Unmarshal([]byte(res.Stdout), &out[i]); err != nil || res.Code != 0 {
				t.Fatalf("%s of app%d: exit %d, %v\n%s", verb, i, res.Code, err, res.Stderr)
			}
		}
		return out
	}
	atOnce("up")
	either := func() map[string]bool { return map[string]bool{"v1": true, "v2": true} }
	var runs []*load.Run
	for i := range apps {
		run, err := load.Start(t.Context(), load.Config{URL: "http://" + r.Address, Host: fmt.Sprintf("app%d.test", i), Releases: either,
			Mix: load.Mix{KeepAlive: 15, KeepAliveClients: 2, Fresh: 8, Slow: 2, WebSockets: 1}})
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	settle()
	for i, ro := range atOnce("deploy") {
		if ro.Outcome != gapless.Promoted || ro.To != "v2" || ro.App != fmt.Sprintf("app%d", i) {
			t.Errorf("app%d: %+v", i, ro)
		}
	}
	settle()
	for i, run := range runs {
		report := run.Stop()
		if report.Dropped+report.Bad > 0 || report.Requests < 100 || report.Releases["v1"] == 0 || report.Releases["v2"] == 0 {
			t.Errorf("app%d:\n%s", i, report)
			tell(t, lost(run))
		}
		for _, s := range run.Samples() {
			if s.Err == "" && s.Instance != "" && !strings.HasPrefix(s.Instance, fmt.Sprintf("app%d.", i)) {
				t.Errorf("app%d was answered by %s", i, s.Instance)
			}
		}
	}
	r.Bounded(t, 0, stale*apps)
}
