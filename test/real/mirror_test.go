package real

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
	"gapless/internal/load"
	"gapless/test/rig"
)

// users ask an API for JSON all the time, and count what they get.
type users struct {
	asked, wrong atomic.Int64
	other        sync.Map // what was wrong
	stop         chan struct{}
	done         sync.WaitGroup
}

// ask lets n users ask for a path every few milliseconds. An answer must be
// of one of the releases that may answer.
func ask(r *rig.Rig, n int, path string, releases func() string) *users {
	u := &users{stop: make(chan struct{})}
	for range n {
		u.done.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-u.stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				u.asked.Add(1)
				res, err := client.Get("http://" + r.Address + path)
				what := fmt.Sprint(err)
				if err == nil {
					body, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if release := res.Header.Get("x-release"); err == nil && res.StatusCode == 200 && strings.Contains(releases(), release) && json.Valid(body) {
						continue
					}
					what = fmt.Sprintf("%d of %s: %.100s (%v)", res.StatusCode, res.Header.Get("x-release"), body, err)
				}
				u.wrong.Add(1)
				u.other.Store(what, true)
			}
		})
	}
	return u
}

// served ends the users; none of them may have missed an answer.
func (u *users) served(t *testing.T, least int64) {
	t.Helper()
	close(u.stop)
	u.done.Wait()
	u.other.Range(func(what, _ any) bool { t.Errorf("a user got %v", what); return true })
	if n := u.asked.Load(); n < least || u.wrong.Load() > 0 {
		t.Errorf("%d of %d users' requests were not answered as they must be, at least %d are needed", u.wrong.Load(), n, least)
	}
	t.Logf("%d requests of users", u.asked.Load())
}

// unharmed ends load of which nothing may have been lost, and nothing that
// serves was drained.
func unharmed(t *testing.T, r *rig.Rig, run *load.Run) {
	t.Helper()
	report := run.Stop()
	t.Logf("load:\n%s", report)
	if report.Dropped > 0 || report.Bad > 0 || report.Requests < 200 {
		t.Errorf("of %d requests %d were dropped, %d bad: %v", report.Requests, report.Dropped, report.Bad, report.Errors)
	}
	only(t, report, "v1")
	r.Bounded(t, time.Second, stale)
}

// TestDarkLaunch copies requests to a version before it has traffic: to one
// that answers the same, to one that answers something else, and to one that
// hangs. No user notices any of them.
func TestDarkLaunch(t *testing.T) {
	api := "const item = { id: 1, price: PRICE, updatedAt: Date.now() };\n" +
		"const api = (res) => res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ now: process.hrtime.bigint().toString(), items: [item, { ...item, updatedAt: process.hrtime()[1] }] }));\n"
	begin := func(t *testing.T, mirror string) *rig.Rig {
		r := rig.New(t, "")
		r.App("http")
		server := read(t, r, "server.js")
		server = strings.Replace(server, "    case 'GET /': ", "    case 'GET /api': case 'GET /stuck': return api(res);\n    case 'GET /': ", 1)
		r.Write("server.js", strings.Replace(server, "\nconst server", "\n"+strings.Replace(api, "PRICE", "12", 1)+"\nconst server", 1))
		configure(r, "http", 2, "strategy: dark-launch\nmirror: { for: 3s, then: rolling, "+mirror+" }\n")
		r.Rollout(0, "up")
		return r
	}
	quick := load.Mix{KeepAlive: 40, KeepAliveClients: 4, Fresh: 20, Upload: 6, UploadSize: 256 << 10, UploadTime: time.Second, Slow: 5, SlowTime: 2500 * time.Millisecond, WebSockets: 6}

	t.Run("good", func(t *testing.T) {
		r := begin(t, "percent: 100%, ignore: [/items/*/updatedAt]")
		run, users := r.Load(quick, "v1", "v2"), ask(r, 4, "/api", func() string { return "v1 v2" })
		r.Write("VERSION", "2")
		deploy := r.Rollout(0, "deploy")
		c := deploy.Mirror
		if c == nil || c.Compared < 100 || c.Failed > 0 || c.Pairs < 50 {
			t.Fatalf("copies: %+v", c)
		}
		for _, d := range c.Differences { // the clock differs in each answer, of stable itself too
			if d.Proven || d.Path != "/now" {
				t.Errorf("a good version differs: %+v", d)
			}
		}
		if c.Noisy == 0 || len(c.Differences) != 1 {
			t.Errorf("the clock was not seen: %+v", c)
		}
		lossless(t, r, run, r.Drains(deploy.ID), load.Slow)
		users.served(t, 200)
	})

	t.Run("another answer", func(t *testing.T) {
		r := begin(t, "percent: 50%, ignore: [/items/*/updatedAt, /now]")
		run, users := r.Load(quick, "v1"), ask(r, 4, "/api", func() string { return "v1" })
		r.Write("server.js", strings.Replace(read(t, r, "server.js"), "price: 12", "price: '12'", 1))
		res := r.Must(8, "deploy")
		if !strings.Contains(res.Stderr, "/items/*/price (number → string)") {
			t.Errorf("the difference is not named:\n%s", res.Stderr)
		}
		if text := r.Must(0, "status").Stdout; !strings.Contains(text, "/items/*/price (number → string)") || !strings.Contains(text, "more than chance") {
			t.Errorf("status does not tell it:\n%s", text)
		}
		st := r.Status().Apps[0]
		ro := st.Rollout
		if ro.Mirror == nil || len(ro.Mirror.Differences) != 1 || !ro.Mirror.Differences[0].Proven || ro.Mirror.Different == 0 {
			t.Fatalf("copies: %+v", ro.Mirror)
		}
		if d := ro.Mirror.Differences[0]; d.Stable != 0 || d.Seen != ro.Mirror.Different || !strings.Contains(d.Example, "GET /api") {
			t.Errorf("%+v", d)
		}
		r.Must(3, "abort")
		rig.Eventually(t, 30*time.Second, "it is taken back", func() bool { return r.Status().Apps[0].Rollout.Outcome == gapless.TakenBack })
		unharmed(t, r, run)
		users.served(t, 200)
	})

	t.Run("one that crashes", func(t *testing.T) {
		r := begin(t, "percent: 100%, on_difference: continue")
		run, users := r.Load(quick, "v1"), ask(r, 4, "/api", func() string { return "v1" })
		r.Write("BREAK", "crash-on-request")
		r.Write("BREAK_PATH", "/api")
		deploy := r.Rollout(3, "deploy")
		if !strings.Contains(deploy.Reason, "exited with code 1") || deploy.Instance == "" {
			t.Errorf("taken back for %q", deploy.Reason)
		}
		time.Sleep(2 * time.Second) // users go on
		report := run.Stop()
		if report.Dropped > 0 || report.Bad > 0 || report.Requests < 50 {
			t.Errorf("of %d requests %d were dropped, %d bad: %v", report.Requests, report.Dropped, report.Bad, report.Errors)
		}
		only(t, report, "v1")
		r.Bounded(t, time.Second, stale)
		users.served(t, 100)
	})

	t.Run("one that hangs", func(t *testing.T) {
		r := begin(t, "percent: 100%, deadline: 1s, on_difference: rollback")
		run, users := r.Load(quick, "v1"), ask(r, 6, "/stuck", func() string { return "v1" })
		r.Write("BREAK", "hang")
		r.Write("BREAK_PATH", "/stuck")
		deploy := r.Rollout(3, "deploy")
		c := deploy.Mirror
		if c == nil || c.Failed == 0 || c.Dropped == 0 || !strings.Contains(deploy.Reason, "answer (none in time)") {
			t.Fatalf("%q, copies: %+v", deploy.Reason, c)
		}
		t.Logf("%d copied, %d failed, %d dropped", c.Copied, c.Failed, c.Dropped)
		for _, rel := range r.Status().Apps[0].Releases {
			if rel.Release == "v2" && rel.Requests > 0 {
				t.Errorf("the copies count as %d requests of v2", rel.Requests)
			}
			if rel.Failed > 0 {
				t.Errorf("%s failed %d requests", rel.Release, rel.Failed)
			}
		}
		unharmed(t, r, run)
		users.served(t, 300)
	})
}
