package edge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gapless"
)

// limited is an edge whose one route says more.
func limited(t testing.TB, cfg Config, address string, more func(*gapless.Route)) (*running, *host, string) {
	t.Helper()
	h := newHost(t, "web")
	cfg.Host = h
	r := start(t, cfg)
	table := table1(1, address)
	more(&table.Routes[0])
	r.apply(table)
	return r, h, h.addr("web")
}

// eachDriver runs a test with an epoll loop and with goroutines alone.
func eachDriver(t *testing.T, test func(t *testing.T, loops int)) {
	for name, loops := range map[string]int{"loop": 1, "goroutines": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, loops)
		})
	}
}

// change applies the present table with a change of its one route.
func (r *running) change(more func(*gapless.Route)) {
	r.t.Helper()
	t := r.last
	t.Version++
	t.Routes = append([]gapless.Route(nil), t.Routes...)
	more(&t.Routes[0])
	r.apply(t)
}

// connectFrom connects from an address of the loopback network.
func connectFrom(t testing.TB, ip, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Skipf("this system has no %s: %v", ip, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends a request on c and returns the status and body of the answer; 0
// when there is none.
func ask(c net.Conn, r *bufio.Reader, request string) (int, string) {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		return 0, ""
	}
	return hear(r)
}

func hear(r *bufio.Reader) (int, string) {
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, string(b)
}

func ms(n int) gapless.Duration { return gapless.Duration(n) * gapless.Duration(time.Millisecond) }

func TestPatienceWithBodies(t *testing.T) {
	l := &limits{bodyIdle: time.Minute, bodyRate: 240}
	for _, c := range []struct {
		waited time.Duration
		total  int64
		rated  bool
		want   time.Duration
	}{
		{0, 0, true, time.Minute},
		{59 * time.Second, 0, true, time.Second},
		{time.Minute, 0, true, 0},
		{time.Minute, 240, true, time.Second},
		{61 * time.Second, 240, true, 0},
		{time.Hour, 1, true, 0},
		{time.Hour, 240 * 3600, true, time.Minute},
		{time.Hour, 1 << 60, true, time.Minute},
		{time.Hour, 1, false, time.Minute},
	} {
		if got := l.patience(c.waited, c.total, c.rated); got != c.want {
			t.Errorf("waited %v for %d bytes, rated %v: %v more, want %v", c.waited, c.total, c.rated, got, c.want)
		}
	}
}

// Who sends a byte now and then is never silent, and must not be waited for.
func TestSlowLoris(t *testing.T) { eachDriver(t, checkSlowLoris) }

func checkSlowLoris(t *testing.T, loops int) {
	_, _, addr := limited(t, Config{Loops: loops}, app(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }), func(r *gapless.Route) {
		r.Timeouts = gapless.Timeouts{Head: ms(400), Body: ms(400)}
		r.Limits.BodyRate = 2000
	})
	trickle := func(first, rest string, pause time.Duration) int {
		c := connect(t, addr)
		io.WriteString(c, first)
		ended := make(chan struct{})
		go func() {
			for i := range len(rest) {
				select {
				case <-ended:
					return
				case <-time.After(pause):
				}
				if _, err := c.Write([]byte{rest[i]}); err != nil {
					return
				}
			}
		}()
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		code, _ := hear(bufio.NewReader(c))
		close(ended)
		return code
	}
	post := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n"
	for _, c := range []struct {
		name, first, rest string
		pause             time.Duration
		want              int
	}{
		{"head", "GET / HTTP/1.1\r\nHost: a\r\n", strings.Repeat("X-A: b\r\n", 1000), 20 * time.Millisecond, 408},
		{"body", post, strings.Repeat("x", 4000), 20 * time.Millisecond, 408},
		{"chunks", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\nx\r\n", 1000), 20 * time.Millisecond, 408},
		{"a body that is sent steadily", post + strings.Repeat("x", 3990), strings.Repeat("x", 10), 60 * time.Millisecond, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := trickle(c.first, c.rest, c.pause); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

// The same over HTTP/2: what trickles in is not waited for.
func TestSlowBodyOverHTTP2(t *testing.T) {
	_, _, addr := limited(t, Config{}, app(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }), func(r *gapless.Route) {
		r.Timeouts.Body = ms(400)
		r.Limits.BodyRate = 2000
	})
	body, w := io.Pipe()
	go func() {
		for range 1000 {
			if _, err := w.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		w.Close()
	}()
	defer w.CloseWithError(io.ErrClosedPipe)
	res, err := h2client(t).Post("http://"+addr+"/", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 408 {
		t.Errorf("%d", res.StatusCode)
	}
}

// Once the answer has begun both sides talk, and what counts is silence.
func TestConversationsAreNotSlowBodies(t *testing.T) {
	eachDriver(t, checkConversationsAreNotSlowBodies)
}

func checkConversationsAreNotSlowBodies(t *testing.T, loops int) {
	const n = 15
	_, _, addr := limited(t, Config{Loops: loops}, app(t, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		c.EnableFullDuplex()
		c.Flush()
		b := make([]byte, 1)
		for range n {
			if _, err := io.ReadFull(r.Body, b); err != nil {
				panic(http.ErrAbortHandler)
			}
			w.Write(b)
			c.Flush()
		}
	}), func(r *gapless.Route) {
		r.Timeouts.Body = ms(600)
		r.Limits.BodyRate = 2000
	})
	c := connect(t, addr)
	io.WriteString(c, fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", n))
	go func() {
		for range n {
			time.Sleep(100 * time.Millisecond)
			c.Write([]byte("x"))
		}
	}()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if code, body := hear(bufio.NewReader(c)); code != 200 || len(body) != n {
		t.Errorf("%d, %d bytes", code, len(body))
	}
}

func TestTotalTime(t *testing.T) { eachDriver(t, checkTotalTime) }

func checkTotalTime(t *testing.T, loops int) {
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	const events = 8
	r, _, addr := limited(t, Config{Loops: loops}, app(t, func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/silent":
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			for range events {
				io.WriteString(w, "data: x\n\n")
				w.(http.Flusher).Flush()
				time.Sleep(200 * time.Millisecond)
			}
			return
		default:
			io.WriteString(w, "begun")
			w.(http.Flusher).Flush()
		}
		select {
		case <-stop:
		case <-q.Context().Done():
		}
	}), func(r *gapless.Route) { r.Timeouts.Total = ms(700) })
	for _, c := range []struct {
		path string
		code int
		want string
	}{{"/silent", 504, "did not answer in time"}, {"/begun", 0, ""}, {"/events", 200, strings.Repeat("data: x\n\n", events)}} {
		t.Run(c.path, func(t *testing.T) {
			conn := connect(t, addr)
			if code, body := ask(conn, bufio.NewReader(conn), get(c.path)); code != c.code || !strings.Contains(body, c.want) {
				t.Errorf("%d %q, want %d %q", code, body, c.code, c.want)
			}
		})
	}
	if x := r.traffic("v1"); x.Failed != 2 {
		t.Errorf("%d failed, want 2", x.Failed)
	}
}

func TestHeaderLimits(t *testing.T) { eachDriver(t, checkHeaderLimits) }

func checkHeaderLimits(t *testing.T, loops int) {
	_, _, addr := limited(t, Config{Loops: loops}, saying(t, "x"), func(r *gapless.Route) {
		r.Limits = gapless.Limits{HeaderSize: 1000, Headers: 5, Body: 10}
	})
	for _, c := range []struct{ name, want, request string }{
		{"small", "HTTP/1.1 200 ", get("/", "A: b", "Connection: close")},
		{"large", "HTTP/1.1 431 ", get("/", "A: "+strings.Repeat("b", 1000), "Connection: close")},
		{"many", "HTTP/1.1 431 ", get("/", "A: b", "B: c", "C: d", "D: e", "Connection: close")},
		{"body", "HTTP/1.1 413 ", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"},
		{"chunked body", "HTTP/1.1 413 ", "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"},
		{"chunks that come with it", "HTTP/1.1 200 ", "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 10) + "0\r\n\r\n"},
		{"a chunk that begins", "HTTP/1.1 413 ", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n8\r\n world"},
	} {
		if got := send(t, addr, c.request); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %.100q, want %s", c.name, got, c.want)
		}
	}
}

func TestRequestsPerAddress(t *testing.T) { eachDriver(t, checkRequestsPerAddress) }

func checkRequestsPerAddress(t *testing.T, loops int) {
	r, _, addr := limited(t, Config{Loops: loops}, saying(t, "x"), func(r *gapless.Route) {
		r.Limits = gapless.Limits{RequestsPerIP: 0.001, Burst: 3, Exempt: []string{"127.0.0.9"}}
	})
	burst := func(c net.Conn, n int, fields ...string) (codes []int) {
		br := bufio.NewReader(c)
		for range n {
			code, _ := ask(c, br, get("/", fields...))
			codes = append(codes, code)
		}
		return codes
	}
	const want = "[200 200 200 429 429]"
	for _, c := range []struct {
		name, ip string
		fields   []string
		want     string
	}{
		{"one address", "127.0.0.1", nil, want},
		{"the same once more", "127.0.0.1", nil, "[429 429 429 429 429]"},
		{"another one", "127.0.0.2", nil, want},
		{"behind a proxy", "127.0.0.1", []string{"X-Forwarded-For: 10.0.0.1, 203.0.113.7"}, want},
		{"IPv6", "127.0.0.1", []string{"X-Forwarded-For: 2001:db8::1"}, want},
		{"of the same network", "127.0.0.1", []string{"X-Forwarded-For: 2001:db8::ffff:1"}, "[429 429 429 429 429]"},
		{"exempt", "127.0.0.9", nil, "[200 200 200 200 200]"},
	} {
		if got := fmt.Sprint(burst(connectFrom(t, c.ip, addr), 5, c.fields...)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := send(t, addr, get("/", "Connection: close")); !strings.Contains(got, "\r\nRetry-After: 1\r\n") || !strings.Contains(got, "too_many_requests") {
		t.Errorf("%q", got)
	}
	if n := r.report().Shed.Requests; n != 19 {
		t.Errorf("%d requests are counted as shed, want 19", n)
	}
	r.change(func(r *gapless.Route) { r.Limits.RequestsPerIP = 0 })
	if got := fmt.Sprint(burst(connect(t, addr), 2)); got != "[200 200]" {
		t.Errorf("without the limit: %v", got)
	}
}

// Many addresses neither make the table grow nor one forgotten that asks too much.
func TestMeterRemembersWhoAsksTooMuch(t *testing.T) {
	t.Parallel()
	var m meter
	p := paceOf(1, 10)
	loud, now := netip.MustParseAddr("203.0.113.1"), int64(time.Hour)
	for range 10 {
		if !m.take(p, 1, loud, now) {
			t.Fatal("refused within its burst")
		}
	}
	refused := 0
	for i := range 4 * meterSets * meterWays {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if !m.take(p, 1, a, now) {
			refused++
		}
	}
	if refused > 0 {
		t.Errorf("%d addresses refused at their first request", refused)
	}
	if m.take(p, 1, loud, now) {
		t.Error("the loud one was forgotten")
	}
	if !m.take(p, 2, loud, now) {
		t.Error("another app refuses it, too")
	}
	if !m.take(p, 1, loud, now+int64(time.Second)) || m.take(p, 1, loud, now+int64(time.Second)) {
		t.Error("a second is worth one request")
	}
	for _, c := range []struct{ a, b string }{{"2001:db8::1", "2001:db8::ffff:0:0:1"}, {"::ffff:10.0.0.1", "10.0.0.1"}} {
		if group(netip.MustParseAddr(c.a)) != group(netip.MustParseAddr(c.b)) {
			t.Errorf("%s and %s are two", c.a, c.b)
		}
	}
	if group(netip.MustParseAddr("2001:db8::1")) == group(netip.MustParseAddr("2001:db8:0:1::1")) {
		t.Error("two networks are one")
	}
}

func TestConnectionsPerAddress(t *testing.T) { eachDriver(t, checkConnectionsPerAddress) }

func checkConnectionsPerAddress(t *testing.T, loops int) {
	r, _, addr := limited(t, Config{Loops: loops}, saying(t, "x"), func(r *gapless.Route) {
		r.Limits = gapless.Limits{ConnectionsPerIP: 3, Exempt: []string{"127.0.0.9"}}
	})
	works := func(c net.Conn) int {
		code, _ := ask(c, bufio.NewReader(c), get("/"))
		return code
	}
	var mine []net.Conn
	for range 3 {
		c := connectFrom(t, "127.0.0.2", addr)
		if code := works(c); code != 200 {
			t.Fatal(code)
		}
		mine = append(mine, c)
	}
	// Who is told is told at once, before the request is whole.
	over := connectFrom(t, "127.0.0.2", addr)
	io.WriteString(over, "G")
	over.SetDeadline(time.Now().Add(5 * time.Second))
	if code, body := hear(bufio.NewReader(over)); code != 429 || !strings.Contains(body, "too many connections") {
		t.Errorf("one too many: %d %q", code, body)
	}
	if code := works(connectFrom(t, "127.0.0.3", addr)); code != 200 {
		t.Errorf("another address: %d", code)
	}
	for range 5 {
		if code := works(connectFrom(t, "127.0.0.9", addr)); code != 200 {
			t.Errorf("exempt: %d", code)
		}
	}
	if code := works(mine[0]); code != 200 {
		t.Errorf("a kept connection: %d", code)
	}
	mine[1].Close()
	eventually(t, "a place is free", func() bool { return works(connectFrom(t, "127.0.0.2", addr)) == 200 })
	r.change(func(r *gapless.Route) { r.Limits.ConnectionsPerIP = 100 })
	if code := works(connectFrom(t, "127.0.0.2", addr)); code != 200 {
		t.Errorf("with a higher limit: %d", code)
	}
}

// Routes of one address have the smallest limits that one of them gives.
func TestTermsAreTheSmallestGiven(t *testing.T) {
	e := &Edge{cfg: Config{}.withDefaults(), most: 1000}
	route := func(l gapless.Limits, ti gapless.Timeouts) gapless.Route {
		return gapless.Route{Limits: l, Timeouts: ti}
	}
	got := e.termsOf(nil)
	if got.head != 30*time.Second || got.idle != 75*time.Second || got.connections != 0 || len(got.rules) != 1 || got.rules[0].most != 500 {
		t.Errorf("nothing given: %+v", got)
	}
	got = e.termsOf([]gapless.Route{
		route(gapless.Limits{}, gapless.Timeouts{Head: ms(60000)}),
		route(gapless.Limits{Connections: 9, ConnectionsPerIP: 700}, gapless.Timeouts{Idle: ms(1000)}),
		route(gapless.Limits{Connections: 8, ConnectionsPerIP: 800}, gapless.Timeouts{Idle: ms(2000)}),
		route(gapless.Limits{ConnectionsPerIP: 5, Exempt: []string{"10.0.0.0/8"}}, gapless.Timeouts{}),
	})
	if got.head != time.Minute || got.idle != time.Second || got.connections != 8 || len(got.rules) != 2 || got.rules[0].most != 700 || got.rules[1].most != 5 {
		t.Errorf("%+v", got)
	}
}

// A storm of connections costs those that are connected nothing, and of the
// others only those whose address makes it.
func TestStormsOfConnections(t *testing.T) { eachDriver(t, checkStormsOfConnections) }

func checkStormsOfConnections(t *testing.T, loops int) {
	for _, c := range []struct {
		name string
		cfg  Config
		l    gapless.Limits
		anew bool // good clients connect anew for each request
	}{
		{"more than the edge takes", Config{Loops: loops, MaxConnections: 40}, gapless.Limits{}, false},
		{"more than the address takes", Config{Loops: loops}, gapless.Limits{Connections: 40}, false},
		{"more than one may have", Config{Loops: loops}, gapless.Limits{ConnectionsPerIP: 20, Exempt: []string{"127.0.0.1"}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, addr := limited(t, c.cfg, saying(t, "x"), func(r *gapless.Route) { r.Limits = c.l })
			connectFrom(t, "127.0.0.2", addr).Close()
			var good, bad, refused atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var wg, ready sync.WaitGroup
			for range 8 {
				ready.Add(1)
				wg.Go(func() {
					conn, err := net.Dial("tcp", addr)
					if err != nil {
						t.Error(err)
						return
					}
					br := bufio.NewReader(conn)
					for n := 0; ctx.Err() == nil; n++ {
						if code, _ := ask(conn, br, get("/")); code == 200 {
							good.Add(1)
						} else {
							bad.Add(1)
							return
						}
						if n == 0 {
							ready.Done()
						}
						if c.anew {
							conn.Close()
							if conn, err = net.Dial("tcp", addr); err != nil {
								t.Error(err)
								return
							}
							br.Reset(conn)
						}
					}
					conn.Close()
				})
			}
			ready.Wait()
			var storm sync.WaitGroup
			for range 4 {
				storm.Go(func() {
					var open []net.Conn
					for range 400 {
						d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}, Timeout: 5 * time.Second}
						conn, err := d.Dial("tcp", addr)
						if err != nil {
							refused.Add(1)
							continue
						}
						io.WriteString(conn, "GET / HT") // who says nothing may not even be accepted
						open = append(open, conn)
					}
					for _, conn := range open {
						conn.SetReadDeadline(time.Now().Add(time.Millisecond))
						if _, err := conn.Read(make([]byte, 1)); err == nil || !timedOut(err) {
							refused.Add(1)
						}
						conn.Close()
					}
				})
			}
			storm.Wait()
			cancel()
			wg.Wait()
			if bad.Load() > 0 || good.Load() < 8 {
				t.Errorf("%d good requests answered, %d not", good.Load(), bad.Load())
			}
			if refused.Load() < 1000 {
				t.Errorf("only %d of 1600 connections were refused", refused.Load())
			}
			t.Logf("%d good requests during the storm", good.Load())
		})
	}
}

func timedOut(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// Requests hold memory, and no more than there is room for.
func TestOverloadIsShedAtOnce(t *testing.T) { eachDriver(t, checkOverloadIsShedAtOnce) }

func checkOverloadIsShedAtOnce(t *testing.T, loops int) {
	release := make(chan struct{})
	r, _, addr := limited(t, Config{Loops: loops, Memory: 2 * exchangeRoom}, app(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/wait" {
			<-release
		}
		io.WriteString(w, "x")
	}), func(*gapless.Route) {})
	kept := connect(t, addr)
	br := bufio.NewReader(kept)
	if code, _ := ask(kept, br, get("/")); code != 200 {
		t.Fatal(code)
	}
	var waiting []*bufio.Reader
	for n := range 2 {
		c := connect(t, addr)
		io.WriteString(c, get("/wait"))
		waiting = append(waiting, bufio.NewReader(c))
		eventually(t, "the request is in flight", func() bool { return r.instance("i1").InFlight == n+1 })
	}
	for range 3 { // the connection is kept
		if code, body := ask(kept, br, get("/")); code != 503 || !strings.Contains(body, "too much to do") {
			t.Errorf("%d %q", code, body)
		}
	}
	if n := r.report().Shed.Overload; n != 3 {
		t.Errorf("%d requests are counted as shed, want 3", n)
	}
	if x := r.traffic("v1"); x.Requests != 3 || x.Failed != 0 {
		t.Errorf("%d requests, %d failed: what was shed is nobody's", x.Requests, x.Failed)
	}
	close(release)
	for _, w := range waiting {
		if code, _ := hear(w); code != 200 {
			t.Errorf("waited: %d", code)
		}
	}
	if code, _ := ask(kept, br, get("/")); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
}

// Heads that come slowly have half of the memory, and keep nobody else out.
func TestSlowHeadsLeaveRoom(t *testing.T) { eachDriver(t, checkSlowHeadsLeaveRoom) }

func checkSlowHeadsLeaveRoom(t *testing.T, loops int) {
	r, _, addr := limited(t, Config{Loops: loops, Memory: 10 * exchangeRoom}, saying(t, "x"), func(*gapless.Route) {})
	kept := connect(t, addr)
	br := bufio.NewReader(kept)
	const n, most = 60, 10 * exchangeRoom / 2 / bufferSize
	var slow []net.Conn
	for range n {
		c := connect(t, addr)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n")
		slow = append(slow, c)
		if code, _ := ask(kept, br, get("/")); code != 200 {
			t.Fatalf("with %d slow heads: %d", len(slow), code)
		}
	}
	eventually(t, "most slow heads are refused", func() bool { return r.report().Shed.Overload >= n-most })
	for _, c := range slow {
		c.Close()
	}
	eventually(t, "the room is free again", func() bool { return r.report().Connections == 1 })
	again := connect(t, addr)
	io.WriteString(again, "GET / HTTP/1.1\r\n")
	time.Sleep(20 * time.Millisecond) // its head comes in two pieces
	if code, _ := ask(again, bufio.NewReader(again), "Host: a\r\n\r\n"); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
}

func TestConnectionsFitBelowDescriptors(t *testing.T) {
	for _, c := range []struct {
		descriptors uint64
		want, fit   int
	}{{1 << 20, 50000, 50000}, {100128, 50000, 50000}, {1024, 50000, 448}, {256, 50000, 64}, {64, 50000, 16}, {1024, 100, 100}} {
		if got := connectionsBelow(c.descriptors, c.want); got != c.fit {
			t.Errorf("%d of %d with %d descriptors, want %d", got, c.want, c.descriptors, c.fit)
		}
	}
	for err, want := range map[error]bool{syscall.EMFILE: true, syscall.EADDRNOTAVAIL: true, syscall.ECONNREFUSED: false, syscall.ETIMEDOUT: false} {
		if got := exhausted(&net.OpError{Op: "dial", Err: err}); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	if m := memory(); m < 16<<20 {
		t.Errorf("%d bytes of memory", m)
	}
}

// Idle connections go sooner in a crowd, so that they lock nobody out.
func TestCrowds(t *testing.T) {
	e := &Edge{cfg: Config{}.withDefaults(), most: 100}
	g := &gate{}
	g.terms.Store(e.termsOf(nil))
	e.connections.Store(75)
	if e.crowded() {
		t.Error("75 of 100 are no crowd")
	}
	e.connections.Add(1)
	if !e.crowded() {
		t.Error("76 of 100 are a crowd")
	}
	began := int64(time.Hour)
	due := began + int64(g.idleTime())
	for _, c := range []struct {
		after   time.Duration
		crowded bool
		want    bool
	}{{11 * time.Second, true, true}, {9 * time.Second, true, false}, {11 * time.Second, false, false}} {
		if got := g.idleOver(due, began+int64(c.after), c.crowded); got != c.want {
			t.Errorf("idle for %v, crowded %v: %v", c.after, c.crowded, got)
		}
	}
}
