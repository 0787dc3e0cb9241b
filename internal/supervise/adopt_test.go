//go:build linux

package supervise

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"gapless"
)

func TestAdoptKeepsWhatRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	rel := b.release(goodApp, healthz)
	in := b.start(rel)
	before := b.untilState(in.ID, gapless.Ready)
	b.Close()

	b.open()
	known := func(app, name, _ string) (*gapless.Release, map[string]string) {
		if app == "shop" && name == "v1" {
			return rel, nil
		}
		return nil, nil
	}
	if err := b.Adopt(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	after, there := b.get(in.ID)
	if !there || after.State != gapless.Ready || after.PID != before.PID || after.Address != before.Address {
		t.Fatalf("adopted %+v, want it as before %+v", after, before)
	}
	if after.Since.After(before.Since) { // it did not get ready again
		t.Errorf("ready since %v, and before it was adopted since %v", after.Since, before.Since)
	}
	if err := b.Start(t.Context(), in, rel, nil); err != nil || len(b.host.started()) != 1 {
		t.Errorf("starting an adopted one: %v, started %v", err, b.host.started())
	}
	// It is looked after as before: a crash is followed by a restart.
	if res, err := http.Get("http://" + after.Address + "/exit"); err == nil {
		res.Body.Close()
	}
	got := b.until(in.ID, "restarted", func(in gapless.Instance) bool { return in.Restarts == 1 && in.State == gapless.Ready })
	if !got.Since.After(before.Since) {
		t.Errorf("restarted, and ready since %v", got.Since)
	}
	if ids := b.host.started(); ids[len(ids)-1] != in.ID+"#1" {
		t.Errorf("started %v", ids)
	}
	b.stop(in.ID)
	waitGone(t, got.PID)
}

func TestReadySince(t *testing.T) {
	t.Parallel()
	now := time.Now()
	started := now.Add(-time.Hour)
	for name, x := range map[string]struct {
		p    process
		want time.Time
	}{
		"our own":           {process{started: started}, now},
		"adopted ready":     {process{started: started, adopted: now.Add(-time.Second)}, started},
		"adopted, starting": {process{started: started, adopted: now.Add(-time.Minute)}, now},
		"a clock set back":  {process{started: now.Add(time.Hour), adopted: now}, now},
	} {
		if got := x.p.readySince(now); !got.Equal(x.want) {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
}

func TestAdoptOfWhatEndedMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	rel := b.release(goodApp)
	in := b.start(rel)
	before := b.untilState(in.ID, gapless.Ready)
	b.Close()
	b.host.listen(func(Proc) {})
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitGone(t, before.PID)

	b.open()
	if err := b.Adopt(t.Context(), func(string, string, string) (*gapless.Release, map[string]string) { return rel, nil }); err != nil {
		t.Fatal(err)
	}
	got := b.until(in.ID, "ready again", func(in gapless.Instance) bool { return in.State == gapless.Ready })
	if got.PID == before.PID || got.Restarts != 1 || got.Exit == nil || got.Exit.Signal != "SIGKILL" {
		t.Errorf("instance is %+v, exit %v", got, got.Exit)
	}
}

func TestAdoptStopsUnknownReleases(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	in := b.start(b.release(goodApp))
	before := b.untilState(in.ID, gapless.Ready)
	b.Close()
	b.open()
	if err := b.Adopt(t.Context(), func(string, string, string) (*gapless.Release, map[string]string) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	b.untilState(in.ID, gapless.Stopped)
	waitGone(t, before.PID)
	if len(b.host.started()) != 1 {
		t.Errorf("started %v", b.host.started())
	}
}

func TestMetaHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	rel := b.release(goodApp, func(r *gapless.Release) { r.Spec.Env = map[string]string{"A": "hunter1"} })
	in := instanceOf(rel)
	if err := b.Start(t.Context(), in, rel, map[string]string{"PASSWORD": "hunter2"}); err != nil {
		t.Fatal(err)
	}
	spec := b.host.spec(in.ID)
	if strings.Contains(spec.Meta, "hunter") {
		t.Errorf("meta is %s", spec.Meta)
	}
	wantText(t, "environment", strings.Join(spec.Env, "\n"), "PASSWORD=hunter2", "A=hunter1")
	if spec.OOMScoreAdj != 500 || spec.Grace != 5*time.Second || spec.Log.Label != "v1/1" || !strings.HasSuffix(spec.Log.Path, "/apps/shop/logs/app.log") {
		t.Errorf("spec is %+v", spec)
	}
}
