package load

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// everything is one of each kind, quick.
func everything() Mix {
	return Mix{
		KeepAlive: 100, KeepAliveClients: 4,
		Fresh: 50,
		Slow:  10, SlowTime: 150 * time.Millisecond,
		Upload: 10, UploadSize: 64 << 10, UploadTime: 100 * time.Millisecond,
		WebSockets: 2,
		SSE:        1,
		H2C:        20,
		Path:       20,
	}
}

// run sends the mix for d and returns the final report and samples.
func run(t *testing.T, url string, mix Mix, d time.Duration, change ...func(*Config)) (Report, []Sample) {
	t.Helper()
	cfg := Config{URL: url, Mix: mix, Timeout: 2 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	r, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(d) // the load itself
	return r.Stop(), r.Samples()
}

func TestCorrectServerLosesNothing(t *testing.T) {
	a := &app{release: "v1"}
	rep, samples := run(t, a.start(t), everything(), 1500*time.Millisecond, func(c *Config) {
		c.Timeout = time.Minute // a slow machine is no loss
		c.Releases = func() map[string]bool { return map[string]bool{"v1": true} }
		c.OnBad = func(s Sample) { t.Errorf("%s: %s: %s", s.Kind, s.Err, s.Detail) }
	})
	if rep.Dropped != 0 || rep.Bad != 0 || rep.OK != rep.Requests {
		t.Errorf("want no loss:\n%v", rep)
	}
	for _, k := range kinds {
		if n := rep.Kinds[k].OK; n == 0 {
			t.Errorf("no %s got through", k)
		}
	}
	if rep.WSMessages < 10 {
		t.Errorf("%d echoes, want about 30", rep.WSMessages)
	}
	if got := rep.WSClosed; len(got) != 1 || got[1000] != 2 {
		t.Errorf("closed %v, want only the two own closes with 1000", got)
	}
	// Open loop: the arrivals follow the schedule. Poisson with a mean of 150:
	// beyond 90…210 with a probability of 1e-6.
	if n := rep.Kinds[KeepAlive].Requests; n < 90 || n > 210 {
		t.Errorf("%d keep-alive requests, want about 150", n)
	}
	if k := rep.Kinds[Slow]; k.P50 < 140 {
		t.Errorf("median of slow requests %.0f ms, want at least 150 (less a bucket)", k.P50)
	}
	for _, s := range samples {
		if s.Release != "v1" || s.Instance != "i1" || s.End.Before(s.Start) {
			t.Errorf("sample without identity or order: %+v", s)
		}
	}
	if _, err := json.Marshal(rep); err != nil {
		t.Error(err)
	}
	if s := rep.String(); !strings.Contains(s, "websocket") || !strings.Contains(s, "0 dropped") {
		t.Errorf("table:\n%s", s)
	}
}

func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	rep, _ := run(t, "http://"+l.Addr().String(), everything(), 300*time.Millisecond)
	if rep.Requests == 0 || rep.Errors[Refused] != rep.Requests || rep.Dropped != rep.Requests {
		t.Errorf("want only refused:\n%v", rep)
	}
	if n := rep.Kinds[WebSocket].Requests; n > 10 {
		t.Errorf("%d attempts of two WebSocket clients in 0.3 s: no pause after a refusal", n)
	}
}

func TestPoliteCloseIsNoLoss(t *testing.T) {
	a := &app{release: "v1", message: func(c *serverSocket, n int, text string) {
		switch n {
		case 1, 2:
			c.send(opText, []byte(text))
		case 3: // not echoed: counted, not lost
			c.send(opClose, []byte{goingAway >> 8, goingAway & 255})
		}
	}}
	rep, samples := run(t, a.start(t), Mix{WebSockets: 1}, 900*time.Millisecond)
	if rep.Dropped+rep.Bad != 0 || rep.WSClosed[goingAway] == 0 {
		t.Errorf("want closes with 1001 and no loss:\n%v", rep)
	}
	if rep.WSUnanswered != rep.WSClosed[goingAway] {
		t.Errorf("%d unanswered messages in %d closes, want one each", rep.WSUnanswered, rep.WSClosed[goingAway])
	}
	if s := samples[0]; s.Messages != 2 || s.Unheard != 1 || s.Code != goingAway {
		t.Errorf("sample %+v", s)
	}
}

// A connection that the server closed while it was idle is replaced and
// counted, but nothing was lost.
func TestIdleCloseIsNoLoss(t *testing.T) {
	a := &app{release: "v1", hello: func(w http.ResponseWriter, r *http.Request) {
		hangUp(w, false, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello v1\n")
	}}
	r, err := Start(t.Context(), Config{URL: a.start(t)})
	if err != nil {
		t.Fatal(err)
	}
	p := &pool{run: r}
	for range 3 {
		r.request(KeepAlive, time.Now(), p, "/", false, 0, checkHello)
		if len(p.free) != 1 {
			t.Fatalf("%d idle connections, want the one just used", len(p.free))
		}
		for deadline := time.Now().Add(5 * time.Second); !peerClosed(p.free[0].Conn); {
			if time.Now().After(deadline) {
				t.Fatal("the server's close is not seen")
			}
			time.Sleep(time.Millisecond)
		}
	}
	if rep := r.Stop(); rep.OK != 3 || rep.IdleClosed != 2 {
		t.Errorf("want 3 ok and 2 idle connections closed, got %d idle\n%v", rep.IdleClosed, rep)
	}
}

// "Connection: close" is obeyed: the next request takes a new connection.
func TestAnnouncedClose(t *testing.T) {
	var conns atomic.Int64
	a := &app{release: "v1",
		accept: func(n int64, _ net.Conn) bool { conns.Store(n); return false },
		wrap:   func(w http.ResponseWriter, r *http.Request) bool { w.Header().Set("Connection", "close"); return false },
	}
	rep, _ := run(t, a.start(t), Mix{KeepAlive: 100, KeepAliveClients: 2}, 500*time.Millisecond)
	if rep.Dropped+rep.Bad != 0 || rep.IdleClosed != 0 || int(conns.Load()) != rep.Requests {
		t.Errorf("%d connections, %d idle closed:\n%v", conns.Load(), rep.IdleClosed, rep)
	}
}

func TestReleases(t *testing.T) {
	a := &app{release: "v2"}
	url := a.start(t)
	only := func(names ...string) func() map[string]bool {
		m := map[string]bool{}
		for _, n := range names {
			m[n] = true
		}
		return func() map[string]bool { return m }
	}
	mix := everything()
	rep, _ := run(t, url, mix, 400*time.Millisecond, func(c *Config) { c.Releases = only("v1") })
	if rep.Bad != rep.Requests || rep.Errors[WrongRelease] != rep.Requests {
		t.Errorf("want every answer to be of a wrong release:\n%v", rep)
	}
	rep, _ = run(t, url, mix, 400*time.Millisecond, func(c *Config) { c.Releases = only("v1", "v2") })
	if rep.Bad+rep.Dropped != 0 || rep.Releases["v2"] != rep.Requests {
		t.Errorf("want every answer to be of v2 and right:\n%v", rep)
	}

	// v2 becomes allowed while the request is under way. Arrivals are random: at
	// this rate none at all in 0.4 s does not happen.
	var calls atomic.Int64
	rep, _ = run(t, url, Mix{Slow: 200, SlowTime: 50 * time.Millisecond}, 400*time.Millisecond, func(c *Config) {
		c.Releases = func() map[string]bool { return map[string]bool{"v2": calls.Add(1) > 1} }
	})
	if rep.Bad != 0 || rep.OK == 0 {
		t.Errorf("allowed at its end, but not right:\n%v", rep)
	}
}

func TestHangBoundsStop(t *testing.T) {
	a := &app{release: "v1", wrap: func(w http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }}
	url := a.start(t)
	mix := everything()
	mix.UploadTime, mix.SlowTime = 50*time.Millisecond, 50*time.Millisecond
	r, err := Start(t.Context(), Config{URL: url, Mix: mix, Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	begin := time.Now()
	rep := r.Stop()
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("Stop took %s", d)
	}
	if rep.OK != 0 || rep.Errors[Hang] != rep.Requests || rep.Requests == 0 {
		t.Errorf("want only hangs:\n%v", rep)
	}
}

func TestCancelIsNotCounted(t *testing.T) {
	a := &app{release: "v1", wrap: func(w http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := Start(ctx, Config{URL: a.start(t), Mix: everything(), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	cancel()
	if rep := r.Stop(); rep.Requests != 0 {
		t.Errorf("requests cut off by ourselves are counted:\n%v", rep)
	}
}

func TestStartRefusesBadURL(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:80", "https://127.0.0.1", "http://", "http://[::1"} {
		if r, err := Start(t.Context(), Config{URL: url}); err == nil {
			r.Stop()
			t.Errorf("%q was accepted", url)
		}
	}
}
