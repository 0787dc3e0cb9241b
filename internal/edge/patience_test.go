package edge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
)

// waiters sends n requests at once that find nobody ready, and returns how
// many were answered at once, and the readers of the others.
func waiters(t *testing.T, r *running, addr string, n, hold int) (refused int, held []*bufio.Reader) {
	t.Helper()
	var all []net.Conn
	for range n {
		c := connect(t, addr)
		io.WriteString(c, get("/"))
		all = append(all, c)
	}
	eventually(t, "requests wait", func() bool { return r.traffic("v1").Held >= uint64(hold) && r.traffic("v1").Requests == uint64(n) })
	for _, c := range all {
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		br := bufio.NewReader(c)
		if b, err := br.Peek(12); err == nil {
			if refused++; string(b) != "HTTP/1.1 503" {
				t.Errorf("%q", b)
			}
			continue
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		held = append(held, br)
	}
	return refused, held
}

func TestHoldsAreBounded(t *testing.T) { eachDriver(t, checkHoldsAreBounded) }

func checkHoldsAreBounded(t *testing.T, loops int) {
	address := saying(t, "x")
	for _, c := range []struct {
		name string
		l    gapless.Limits
	}{{"by count", gapless.Limits{Held: 3}}, {"by bytes", gapless.Limits{HeldSize: 3*2*bufferSize + 100}}} {
		t.Run(c.name, func(t *testing.T) {
			r, _, addr := limited(t, Config{Loops: loops}, address, func(r *gapless.Route) {
				r.Limits, r.Hold, r.Targets = c.l, ms(60000), nil
			})
			refused, held := waiters(t, r, addr, 10, 3)
			if refused != 7 || len(held) != 3 {
				t.Errorf("%d wait, %d were refused", len(held), refused)
			}
			r.change(func(r *gapless.Route) {
				r.Targets = []gapless.Target{{Instance: "i1", Release: "v1", Address: address}}
			})
			for _, h := range held {
				if code, _ := hear(h); code != 200 {
					t.Errorf("held: %d", code)
				}
			}
		})
	}
}

func TestTrafficIsHeldByAPerson(t *testing.T) { eachDriver(t, checkTrafficIsHeldByAPerson) }

func checkTrafficIsHeldByAPerson(t *testing.T, loops int) {
	var reached atomic.Int64
	r, _, addr := limited(t, Config{Loops: loops}, app(t, func(w http.ResponseWriter, _ *http.Request) { reached.Add(1) }), func(r *gapless.Route) {
		r.Held, r.Hold = true, ms(60000)
	})
	_, held := waiters(t, r, addr, 5, 5)
	if len(held) != 5 || reached.Load() != 0 {
		t.Errorf("%d wait, %d reached the app", len(held), reached.Load())
	}
	r.change(func(r *gapless.Route) { r.Held = false })
	for _, h := range held {
		if code, _ := hear(h); code != 200 {
			t.Errorf("held: %d", code)
		}
	}
	r.change(func(r *gapless.Route) { r.Held, r.Hold = true, ms(300) })
	if got := send(t, addr, get("/", "Connection: close")); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "X-Gapless-Error: held\r\n") || !strings.Contains(got, "Retry-After: 1\r\n") {
		t.Errorf("held in vain: %q", got)
	}
	if n := reached.Load(); n != 5 {
		t.Errorf("%d reached the app", n)
	}
}

// both asks over HTTP/1.1 and HTTP/2, with GET and HEAD.
func both(t *testing.T, addr, path string, check func(res *http.Response, body string)) {
	t.Helper()
	for _, cl := range []*http.Client{{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}, h2client(t)} {
		for _, method := range []string{"GET", "HEAD"} {
			q, _ := http.NewRequest(method, "http://"+addr+path, nil)
			res, err := cl.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			check(res, string(b))
		}
	}
}

// says checks an own answer.
func says(t *testing.T, status int, kind, code, page, retry string) func(*http.Response, string) {
	return func(res *http.Response, body string) {
		t.Helper()
		want := page
		if res.Request.Method == "HEAD" {
			want = ""
		}
		if res.StatusCode != status || res.Header.Get("Content-Type") != kind || body != want || res.ContentLength != int64(len(page)) ||
			res.Header.Get("X-Gapless-Error") != code || res.Header.Get("Retry-After") != retry {
			t.Errorf("%s %s: %d, %d bytes of %d %q %.40q", res.Proto, res.Request.Method, res.StatusCode, len(body), res.ContentLength, res.Header, body)
		}
	}
}

func TestMaintenance(t *testing.T) { eachDriver(t, checkMaintenance) }

func checkMaintenance(t *testing.T, loops int) {
	var probes, reached atomic.Int64
	release := make(chan struct{})
	r, h, addr := limited(t, Config{Loops: loops}, app(t, func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/healthz":
			probes.Add(1)
			return
		case "/long":
			<-release
		}
		reached.Add(1)
		io.WriteString(w, "app")
	}), func(r *gapless.Route) { r.Probe = gapless.Health{Path: "/healthz", Interval: ms(20)} })
	long := connect(t, addr)
	io.WriteString(long, get("/long"))
	eventually(t, "a request is in flight", func() bool { return r.instance("i1").InFlight == 1 })

	page := "<h1>back soon</h1>" + strings.Repeat("x", gapless.MaxPage-18)
	closed := &gapless.Maintenance{Page: []byte(page), Type: "text/html; charset=utf-8", Allow: []string{"127.0.0.7", "203.0.113.0/24"}, RetryAfter: ms(90000)}
	r.change(func(r *gapless.Route) { r.Maintenance = closed })
	down := says(t, 503, closed.Type, "maintenance", page, "90")
	both(t, addr, "/", down)
	open := connectFrom(t, "127.0.0.7", addr)
	if code, body := ask(open, bufio.NewReader(open), get("/")); code != 200 || body != "app" {
		t.Errorf("an allowed address: %d %q", code, body)
	}
	proxied := connect(t, addr)
	if code, body := ask(proxied, bufio.NewReader(proxied), get("/", "X-Forwarded-For: 203.0.113.9")); code != 200 || body != "app" {
		t.Errorf("an allowed address behind a proxy: %d %q", code, body)
	}
	before := probes.Load()
	eventually(t, "probes go on", func() bool { return probes.Load() > before+2 })
	close(release)
	if code, body := hear(bufio.NewReader(long)); code != 200 || body != "app" {
		t.Errorf("what was in flight: %d %q", code, body)
	}
	if n := reached.Load(); n != 3 {
		t.Errorf("%d requests reached the app, want 3", n)
	}
	if x := r.traffic("v1"); x.Failed != 0 || x.Requests != 3 {
		t.Errorf("%d requests, %d failed: maintenance is no evidence", x.Requests, x.Failed)
	}

	// An edge that comes after this one goes on with it.
	r.cancel()
	r.wait(10 * time.Second)
	r2 := start(t, Config{Loops: loops, Host: h, Generation: 2})
	both(t, addr, "/", down)
	r2.last = r.last
	r2.change(func(r *gapless.Route) { r.Maintenance = nil })
	if code, body, _ := fetch(t, addr); code != 200 || body != "app" {
		t.Errorf("afterwards: %d %q", code, body)
	}
}

// Who waits when maintenance begins is told, too.
func TestMaintenanceEndsHolds(t *testing.T) { eachDriver(t, checkMaintenanceEndsHolds) }

func checkMaintenanceEndsHolds(t *testing.T, loops int) {
	r, _, addr := limited(t, Config{Loops: loops}, saying(t, "x"), func(r *gapless.Route) { r.Hold, r.Targets = ms(60000), nil })
	_, held := waiters(t, r, addr, 2, 2)
	r.change(func(r *gapless.Route) { r.Maintenance = &gapless.Maintenance{} })
	for _, h := range held {
		if code, body := hear(h); code != 503 || body != "this app is being maintained\n" {
			t.Errorf("%d %q", code, body)
		}
	}
}

func TestErrorPages(t *testing.T) { eachDriver(t, checkErrorPages) }

func checkErrorPages(t *testing.T, loops int) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	large := strings.Repeat("x", gapless.MaxPage)
	pages := map[int]string{503: file("503.html", large), 502: file("502.json", `{"sorry":true}`), 413: file("large.html", large+"x"), 429: filepath.Join(dir, "gone.html"), 504: dir}
	h := newHost(t, "web")
	r := start(t, Config{Loops: loops, Host: h, MaxBody: 10})
	addr := h.addr("web")
	table := table1(1, raw(t, func(c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err == nil && q.URL.Path == "/own" {
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\nConnection: close\r\n\r\napp")
		}
	}))
	table.Routes[0].ErrorPages = pages
	r.apply(table)
	both(t, addr, "/", says(t, 502, "application/json", "reset", `{"sorry":true}`, ""))
	both(t, addr, "/own", func(res *http.Response, body string) {
		if res.StatusCode != 503 || res.Header.Get("X-Gapless-Error") != "" || body != "app" && res.Request.Method == "GET" {
			t.Errorf("the app's own answer: %d %.40q", res.StatusCode, body)
		}
	})
	r.change(func(r *gapless.Route) { r.Targets, r.Hold = nil, 0 })
	both(t, addr, "/", says(t, 503, "text/html; charset=utf-8", "not_ready", large, "1"))
	// A page that cannot be had is a line of text.
	if got := send(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"); !strings.Contains(got, "Content-Type: text/plain; charset=utf-8\r\n") || !strings.HasSuffix(got, errLargeBody.Reason+"\n") {
		t.Errorf("%.300q", got)
	}
	// Without a route there is no app to have pages.
	r.change(func(r *gapless.Route) { r.Hosts = []string{"other.test"} })
	both(t, addr, "/", says(t, 404, "text/plain; charset=utf-8", "no_route", noRoute.text+"\n", ""))
}

// Somebody who does not take the answer is not waited for.
func TestNobodyWaitsForPagesToBeTaken(t *testing.T) { eachDriver(t, checkNobodyWaitsForPagesToBeTaken) }

func checkNobodyWaitsForPagesToBeTaken(t *testing.T, loops int) {
	r, _, addr := limited(t, Config{Loops: loops}, saying(t, "x"), func(r *gapless.Route) {
		r.Maintenance = &gapless.Maintenance{Page: make([]byte, gapless.MaxPage), Type: "text/plain; charset=utf-8"}
		r.Timeouts.Write = ms(500)
	})
	c := connect(t, addr)
	c.(*net.TCPConn).SetReadBuffer(4096)
	go func() {
		for {
			if _, err := io.WriteString(c, strings.Repeat(get("/"), 100)); err != nil {
				return
			}
		}
	}()
	eventually(t, "the connection is served", func() bool { return r.report().Connections == 1 })
	eventually(t, "it is given up", func() bool { return r.report().Connections == 0 })
}

// Own answers to requests that come all at once are given in order, without
// an end to how many there are.
func TestManyOwnAnswersInARow(t *testing.T) { eachDriver(t, checkManyOwnAnswersInARow) }

func checkManyOwnAnswersInARow(t *testing.T, loops int) {
	_, _, addr := limited(t, Config{Loops: loops}, saying(t, "x"), func(r *gapless.Route) { r.Maintenance = &gapless.Maintenance{} })
	c := connect(t, addr)
	const n = 5000
	go io.WriteString(c, strings.Repeat(get("/"), n))
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	br := bufio.NewReader(c)
	for k := range n {
		if code, body := hear(br); code != 503 || body != "this app is being maintained\n" {
			t.Fatalf("%d of %d: %d %q", k, n, code, body)
		}
	}
	for range 50 {
		if code, _ := ask(c, br, get("/")); code != 503 {
			t.Fatal(code)
		}
	}
}
