package real

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/load"
	"gapless/test/rig"
)

// visitor is a client that keeps cookies, and remembers who answered it.
type visitor struct {
	client *http.Client
	header string // sent with each request

	mu    sync.Mutex
	saw   []string // releases, in order, without repetition
	last  time.Time
	count int
	err   error
}

// visit asks again and again until ctx ends. A connection per request: the
// library repeats nothing on those, so whatever fails is seen.
func (v *visitor) visit(ctx context.Context, url string) {
	for ctx.Err() == nil {
		at := time.Now()
		release, err := v.ask(url)
		v.mu.Lock()
		if err != nil && v.err == nil {
			v.err = err
		}
		if n := len(v.saw); err == nil && (n == 0 || v.saw[n-1] != release) {
			v.saw = append(v.saw, release)
		}
		v.last, v.count = at, v.count+1
		v.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (v *visitor) ask(url string) (release string, err error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return "", err
	}
	if v.header != "" {
		req.Header.Set("X-Tester", v.header)
	}
	res, err := v.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return "", err
	}
	if res.StatusCode != 200 {
		return "", fmt.Errorf("status %d", res.StatusCode)
	}
	return res.Header.Get("X-Release"), nil
}

// seen is a copy of what the visitor was answered by.
func (v *visitor) seen() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.saw)
}

type guests struct {
	t    *testing.T
	all  []*visitor
	stop func()
}

func welcome(t *testing.T, r *rig.Rig, n int) *guests {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	vs := &guests{t: t, stop: func() { cancel(); wg.Wait() }}
	for range n {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		v := &visitor{client: &http.Client{Jar: jar, Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
		vs.all = append(vs.all, v)
		wg.Go(func() { v.visit(ctx, "http://"+r.Address+"/") })
	}
	t.Cleanup(vs.stop)
	return vs
}

// heard waits until every visitor was answered after this moment.
func (vs *guests) heard() {
	vs.t.Helper()
	now := time.Now()
	rig.Eventually(vs.t, 30*time.Second, "everybody was answered again", func() bool {
		return !slices.ContainsFunc(vs.all, func(v *visitor) bool {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.last.Before(now)
		})
	})
}

// stories counts the visitors by what answered them.
func (vs *guests) stories() map[string]int {
	out := map[string]int{}
	for _, v := range vs.all {
		out[strings.Join(v.seen(), " → ")]++
	}
	return out
}

// lossless fails the test if a visitor lost anything.
func (vs *guests) lossless() {
	vs.t.Helper()
	for _, v := range vs.all {
		if v.mu.Lock(); v.err != nil {
			vs.t.Errorf("a visitor lost a request: %v", v.err)
		}
		v.mu.Unlock()
	}
}

// TestStickyCanary: who keeps cookies stays at the release that the coin gave
// it, while the weight grows and while everything of gapless is exchanged; an
// abort brings everybody back to stable, and loses nothing.
func TestStickyCanary(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	plan := "sticky: true\nmatch: { header: \"X-Tester: yes\" }\nsteps:\n  - start: 2\n  - warm\n  - weight: 30%\n  - pause\n  - weight: 60%\n  - pause\n  - weight: 100%\n  - promote\n"
	configure(r, "http", 2, plan)
	r.Rollout(0, "up")
	run := r.Load(load.Mix{KeepAlive: 60, KeepAliveClients: 8, Fresh: 20}, "v1")
	vs := welcome(t, r, 40)
	vs.heard()
	r.Write("VERSION", "2")
	r.Allow("v1", "v2")
	r.Rollout(8, "deploy")
	vs.heard()
	vs.heard()
	began := vs.stories()
	t.Logf("at 30 %%: %v", began)
	if began["v1"] == 0 || began["v1 → v2"] == 0 || began["v1"]+began["v1 → v2"] != 40 {
		t.Fatalf("at 30 %%: %v", began) // all on one side: once in a million
	}
	tester := &visitor{client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, header: "yes"}
	for range 20 {
		if got, err := tester.ask("http://" + r.Address + "/"); err != nil || got != "v2" {
			t.Fatalf("a tester is at %s, %v", got, err)
		}
	}
	same := func(what string) {
		t.Helper()
		vs.heard()
		if now := vs.stories(); now["v1"] != began["v1"] || now["v1 → v2"] != began["v1 → v2"] {
			t.Errorf("%s: %v", what, now)
		}
	}
	r.Rollout(8, "resume")
	same("the weight grew")
	next, err := rig.Binary("nextversion")
	if err != nil {
		t.Fatal(err)
	}
	r.Must(0, "upgrade", "--from", next)
	same("everything was upgraded")
	shown, err := os.ReadFile(filepath.Join(r.Home, "session.key"))
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Split(string(shown), `"`)[3] // [{"key":"…"
	if log, err := os.ReadFile(filepath.Join(r.Home, "gapless.log")); err != nil || len(secret) < 40 || strings.Contains(string(log), secret) {
		t.Errorf("the key is in the log, or there is none: %v", err)
	}
	if res := r.Must(0, "status", "--json"); strings.Contains(res.Stdout, secret) {
		t.Error("the key is in the status")
	}

	r.Must(3, "abort")
	r.Allow("v1")
	vs.heard() // what was begun before is answered
	vs.heard()
	for story, n := range vs.stories() {
		if story != "v1" && story != "v1 → v2 → v1" {
			t.Errorf("after the abort: %d × %s", n, story)
		}
	}
	// The next one goes through: each moves once, and nobody back.
	for _, v := range vs.all {
		v.mu.Lock()
		v.saw = v.saw[len(v.saw)-1:]
		v.mu.Unlock()
	}
	r.Write("VERSION", "3")
	r.Allow("v1", "v3")
	r.Rollout(8, "deploy")
	vs.heard()
	r.Rollout(8, "resume")
	vs.heard()
	done := r.Rollout(0, "resume")
	r.Allow("v3")
	vs.heard()
	vs.stop()
	if done.Outcome != gapless.Promoted {
		t.Errorf("%+v", done)
	}
	if got := vs.stories(); got["v1 → v3"] != 40 {
		t.Errorf("promoted: %v", got)
	}
	vs.lossless()
	report := run.Stop()
	if report.Dropped > 0 || report.Bad > 0 {
		t.Errorf("%d dropped, %d bad: %v", report.Dropped, report.Bad, report.Errors)
		tell(t, lost(run))
	}
	r.Bounded(t, time.Second, stale)
}

// TestPagesKeepTheirRelease: what a page loads comes from its release while
// that is kept warm, and from the new one afterwards.
func TestPagesKeepTheirRelease(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 1, "skew: pin\nstrategy: blue-green\nflip: true\nkeep: 6s\njudge: { within: 1s, on_undecided: continue }\n")
	r.Rollout(0, "up")
	vs := welcome(t, r, 4)
	vs.heard()
	r.Write("VERSION", "2")
	r.Must(0, "deploy", "--detach")
	rig.Eventually(t, 40*time.Second, "v1 is kept warm beside v2", func() bool {
		st := r.Status().Apps[0]
		return st.Stable == "v2" && slices.ContainsFunc(st.Instances, func(in api.InstanceStatus) bool { return in.Role == "kept" })
	})
	fresh := &visitor{client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if got, err := fresh.ask("http://" + r.Address + "/"); err != nil || got != "v2" {
		t.Errorf("who is new is at %s, %v", got, err)
	}
	if got := vs.stories(); got["v1"] != 4 {
		t.Errorf("v1 is warm, and its pages load from elsewhere: %v", got)
	}
	rig.Eventually(t, 30*time.Second, "all are at v2", func() bool { return vs.stories()["v1 → v2"] == 4 })
	rig.Eventually(t, 30*time.Second, "v1 is gone", func() bool { return len(r.Status().Apps[0].Instances) == 1 })
	vs.stop()
	vs.lossless()
}
