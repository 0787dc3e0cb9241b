package edge

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
)

// table is the one applied last.
func (r *running) table() gapless.Table { return r.last }

// route makes a table of releases with their weights and the addresses of
// their instances, which are called v1.1, v1.2, ...
func (r *running) route(version uint64, hold time.Duration, releases map[string]float64, targets map[string][]string) gapless.Table {
	route := gapless.Route{App: "shop", Listen: []string{"web"}, Path: "/", Stable: "v1", Hold: gapless.Duration(hold),
		Probe: gapless.Health{Interval: gapless.Duration(time.Hour)}}
	for _, name := range []string{"v1", "v2", "v3"} {
		if w, ok := releases[name]; ok {
			route.Weights = append(route.Weights, gapless.Weight{Release: name, Share: w})
		}
		for k, a := range targets[name] {
			route.Targets = append(route.Targets, gapless.Target{Instance: fmt.Sprintf("%s.%d", name, k+1), Release: name, Address: a})
		}
	}
	return gapless.Table{Version: version, Routes: []gapless.Route{route}}
}

// closedPort returns an address where nobody listens.
func closedPort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func saying(t testing.TB, s string) string {
	return app(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, s) })
}

func fetch(t testing.TB, addr string) (int, string, http.Header) {
	t.Helper()
	res, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Errorf("get: %v", err)
		return 0, "", nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("get: %v", err)
	}
	return res.StatusCode, string(b), res.Header
}

func TestEarlyAnswerWhileTheBodyIsOnItsWay(t *testing.T) {
	_, _, addr := setup(t, Config{}, app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/talk" {
			http.NewResponseController(w).EnableFullDuplex()
			br := bufio.NewReader(r.Body)
			for {
				line, err := br.ReadString('\n')
				if err != nil {
					return
				}
				io.WriteString(w, strings.ToUpper(line))
				w.(http.Flusher).Flush()
			}
		}
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, "no")
	}))

	t.Run("both ways at once", func(t *testing.T) {
		began := time.Now()
		pr, pw := io.Pipe()
		req, _ := http.NewRequest("POST", "http://"+addr+"/talk", pr)
		go io.WriteString(pw, "one\n")
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(res.Body)
		for _, s := range []string{"one", "two", "three"} {
			if s != "one" {
				io.WriteString(pw, s+"\n")
			}
			if line, err := br.ReadString('\n'); line != strings.ToUpper(s)+"\n" {
				t.Fatalf("%q %v", line, err)
			}
		}
		pw.Close()
		if _, err := br.ReadByte(); err != io.EOF {
			t.Error(err)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("took %v: the answer waits for the request", d)
		}
	})

	t.Run("refused upload", func(t *testing.T) {
		c := connect(t, addr)
		body := strings.Repeat("x", 3<<20)
		go func() {
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", len(body))
			io.WriteString(c, body)
		}()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if res.StatusCode != 401 || string(b) != "no" || err != nil {
			t.Errorf("%d %q %v", res.StatusCode, b, err)
		}
	})

	t.Run("expectation refused", func(t *testing.T) {
		got := send(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 401 ") || !strings.Contains(got, "Connection: close") {
			t.Errorf("%q", got)
		}
	})
}

func TestExpectation(t *testing.T) {
	_, _, addr := setup(t, Config{}, app(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	c := connect(t, addr)
	br := bufio.NewReader(c)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if line, _ := br.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("%q", line)
	}
	br.ReadString('\n')
	io.WriteString(c, "hello"+get("/"))
	for _, want := range []string{"hello", ""} {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(res.Body); string(b) != want {
			t.Errorf("%q", b)
		}
	}
}

func TestRefusedConnectionsAreRetriedAnywhere(t *testing.T) {
	r, _, addr := setup(t, Config{}, saying(t, "x"))
	r.apply(r.route(2, 0, map[string]float64{"v1": 0.5, "v2": 0.5}, map[string][]string{
		"v1": {saying(t, "v1")},
		"v2": {closedPort(t), closedPort(t)},
	}))
	for range 100 {
		res, err := http.Post("http://"+addr+"/", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		if res.StatusCode != 200 || string(b) != "v1" {
			t.Errorf("%d %q", res.StatusCode, b)
		}
	}
	v2 := r.traffic("v2")
	if v2.Requests < 20 || v2.Retried != v2.Requests || v2.Failed != 0 || v2.Status[2] != v2.Requests {
		t.Errorf("the requests are not booked for the release of the coin: %+v", v2)
	}
}

func TestNoInstanceFallsToStable(t *testing.T) {
	r, _, addr := setup(t, Config{}, saying(t, "x"))
	r.apply(r.route(2, 0, map[string]float64{"v1": 0, "v2": 1}, map[string][]string{"v1": {saying(t, "v1")}}))
	if code, body, _ := fetch(t, addr); code != 200 || body != "v1" {
		t.Errorf("%d %q", code, body)
	}
	if x := r.traffic("v2"); x.Requests != 1 || x.Retried != 1 || x.Failed != 0 {
		t.Errorf("%+v", x)
	}
}

// The instance closes its kept connection just as the edge uses it.
func TestDeadKeptConnections(t *testing.T) {
	var served atomic.Int64
	backend := raw(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		served.Add(1)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		http.ReadRequest(br) // and dies with the second
	})
	r, _, addr := setup(t, Config{}, backend)
	for i := range 6 {
		if code, _, _ := fetch(t, addr); code != 200 {
			t.Errorf("request %d: %d", i, code)
		}
	}
	x := r.traffic("v1")
	if x.Failed != 0 || x.Retried == 0 {
		t.Errorf("%+v", x)
	}
	// What is not safe to repeat is not repeated. The connection may be a fresh one first.
	for range 3 {
		before := served.Load()
		res, err := http.Post("http://"+addr+"/", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode == 200 {
			continue
		}
		if res.StatusCode != 502 || res.Header.Get("X-Gapless-Error") != "reset" {
			t.Errorf("%d %s", res.StatusCode, res.Header.Get("X-Gapless-Error"))
		}
		time.Sleep(20 * time.Millisecond)
		if n := served.Load(); n != before {
			t.Errorf("a POST was repeated")
		}
		break
	}
	if x := r.traffic("v1"); x.Failed != 1 {
		t.Errorf("%+v", x)
	}
}

func TestRequestThatBringsInstancesDownDoesNotGoRound(t *testing.T) {
	var n atomic.Int64
	die := func() string {
		return raw(t, func(c net.Conn, br *bufio.Reader) { http.ReadRequest(br); n.Add(1) })
	}
	r, _, addr := setup(t, Config{}, saying(t, "x"))
	r.apply(r.route(2, 0, map[string]float64{"v1": 1}, map[string][]string{"v1": {die(), die(), die(), die()}}))
	if code, _, h := fetch(t, addr); code != 502 || h.Get("X-Gapless-Error") != "reset" {
		t.Errorf("%d", code)
	}
	if n.Load() != 2 {
		t.Errorf("%d instances met it", n.Load())
	}
}

func TestHoldsWhileNobodyIsReady(t *testing.T) {
	r, _, addr := setup(t, Config{}, saying(t, "x"))
	r.apply(r.route(2, 30*time.Second, map[string]float64{"v1": 1}, nil))
	done := make(chan string, 10)
	for range cap(done) {
		go func() {
			res, err := http.Post("http://"+addr+"/", "text/plain", strings.NewReader("x"))
			if err != nil {
				done <- err.Error()
				return
			}
			b, _ := io.ReadAll(res.Body)
			done <- string(b)
		}()
	}
	eventually(t, "ten are held", func() bool { return r.traffic("v1").Held >= 10 })
	began := time.Now()
	r.apply(r.route(3, 30*time.Second, map[string]float64{"v1": 1}, map[string][]string{"v1": {saying(t, "v1")}}))
	for range cap(done) {
		if s := <-done; s != "v1" {
			t.Error(s)
		}
	}
	if d := time.Since(began); d > 4*time.Second { // at once, and not when the hold ends
		t.Errorf("held requests went on only after %v", d)
	}
	if x := r.traffic("v1"); x.HeldMax == 0 || x.Held != 10 || x.Failed != 0 {
		t.Errorf("%+v", x)
	}
}

func TestHoldEnds(t *testing.T) {
	t.Parallel()
	r, _, addr := setup(t, Config{MaxHeld: 1}, saying(t, "x"))
	r.apply(r.route(2, 2*time.Second, map[string]float64{"v1": 1}, nil))
	began := time.Now()
	first := make(chan struct{})
	go func() {
		defer close(first)
		code, body, h := fetch(t, addr)
		if code != 503 || h.Get("Retry-After") == "" || h.Get("X-Gapless-Error") != "not_ready" || !strings.Contains(body, "ready") {
			t.Errorf("%d %q %v", code, body, h)
		}
		if d := time.Since(began); d < 1900*time.Millisecond || d > 20*time.Second {
			t.Errorf("after %v", d)
		}
	}()
	eventually(t, "one is held", func() bool { return r.traffic("v1").Held == 1 })
	if code, _, _ := fetch(t, addr); code != 503 || time.Since(began) > 1900*time.Millisecond { // at once
		t.Errorf("over the limit: %d after %v", code, time.Since(began))
	}
	<-first
}

// A single instance that restarts at its address: nothing was sent, so the
// requests wait for it.
func TestHoldsWhileTheOnlyInstanceRefuses(t *testing.T) {
	r, _, addr := setup(t, Config{}, saying(t, "x"))
	gone := closedPort(t)
	r.apply(r.route(2, 5*time.Second, map[string]float64{"v1": 1}, map[string][]string{"v1": {gone}}))
	time.AfterFunc(400*time.Millisecond, func() {
		l, err := net.Listen("tcp", gone)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
		http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "back") }))
	})
	if code, body, _ := fetch(t, addr); code != 200 || body != "back" {
		t.Errorf("%d %q", code, body)
	}
}

func TestClientThatLeavesEndsTheWork(t *testing.T) {
	entered, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	r, _, addr := setup(t, Config{}, app(t, func(w http.ResponseWriter, q *http.Request) {
		entered <- struct{}{}
		<-q.Context().Done()
		ended <- struct{}{}
	}))
	c := connect(t, addr)
	io.WriteString(c, get("/"))
	<-entered
	if n := r.instance("i1").InFlight; n != 1 {
		t.Errorf("%d in flight", n)
	}
	c.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the app was not told")
	}
	eventually(t, "booked as aborted", func() bool {
		x := r.traffic("v1")
		return x.Aborted == 1 && x.Failed == 0 && r.instance("i1").InFlight == 0
	})
}

func TestAnswerTimeout(t *testing.T) {
	r, _, addr := setup(t, Config{AnswerTimeout: 200 * time.Millisecond}, raw(t, func(c net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) }))
	code, _, h := fetch(t, addr)
	if code != 504 || h.Get("X-Gapless-Error") != "timeout" {
		t.Errorf("%d", code)
	}
	if x := r.traffic("v1"); x.Failed != 1 {
		t.Errorf("%+v", x)
	}
}

func TestLargeBodiesBothWays(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	r, _, addr := setup(t, Config{}, app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(big)))
		w.Write(big)
	}))
	for range 3 {
		_, body, _ := fetch(t, addr)
		if body != string(big) {
			t.Errorf("%d bytes, not the same", len(body))
		}
		res, err := http.Post("http://"+addr+"/", "x/y", bytes.NewReader(big))
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(res.Body); string(b) != fmt.Sprint(len(big)) {
			t.Errorf("%q", b)
		}
	}
	if x := r.traffic("v1"); x.Failed+x.Aborted+x.Retried != 0 {
		t.Errorf("%+v", x)
	}
}

func TestUnixSocketInstances(t *testing.T) {
	path := t.TempDir() + "/app.sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go http.Serve(l, http.HandlerFunc(echoApp))
	_, _, addr := setup(t, Config{}, "unix:"+path)
	behaviours(t, addr, 2)
}

// A kept connection that the instance has closed is not used for what cannot
// be repeated.
func TestUploadsAvoidClosedConnections(t *testing.T) {
	r, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.Copy(io.Discard, q.Body)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") // says keep-alive, closes
	}))
	for i := range 5 {
		res, err := http.Post("http://"+addr+"/", "x/y", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(res.Body); string(b) != "ok" {
			t.Errorf("upload %d: %d %q", i, res.StatusCode, b)
		}
		time.Sleep(20 * time.Millisecond) // for the end to arrive
	}
	if x := r.traffic("v1"); x.Failed != 0 {
		t.Errorf("%+v", x)
	}
}

func TestAnswerIsReadBeforeTheConnectionEnds(t *testing.T) {
	r, _, addr := setup(t, Config{}, saying(t, "x"))
	tab := r.table()
	tab.Version, tab.Routes[0].Path = 2, "/shop"
	r.apply(tab)
	for range 5 {
		c := connect(t, addr)
		sent := make(chan error, 1)
		go func() {
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", 2<<20)
			_, err := c.Write(make([]byte, 2<<20))
			sent <- err
		}()
		time.Sleep(20 * time.Millisecond)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("the answer was reset away: %v", err)
		}
		if b, err := io.ReadAll(res.Body); res.StatusCode != 404 || err != nil {
			t.Errorf("%d %q %v", res.StatusCode, b, err)
		}
		if err := <-sent; err != nil {
			t.Errorf("the client wrote into a reset: %v", err)
		}
	}
}

// Bytes after an answer are nobody's answer.
func TestConnectionsWithMoreThanAnAnswerAreNotKept(t *testing.T) {
	for name, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
		"none":   "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var connections atomic.Int64
			_, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
				connections.Add(1)
				for {
					if _, err := http.ReadRequest(br); err != nil {
						return
					}
					io.WriteString(c, answer)
				}
			}))
			for range 3 {
				if code, body, _ := fetch(t, addr); body != "ok" && code != 204 {
					t.Errorf("%d %q", code, body)
				}
			}
			if n := connections.Load(); n != 3 {
				t.Errorf("%d connections for 3 requests", n)
			}
		})
	}
}
