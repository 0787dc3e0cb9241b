package edge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// smuggled are the request shapes that two servers read differently.
var smuggled = []string{
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
	"GET / HTTP/1.1\nHost: a\n\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"GET / HTTP/1.1\r\n\r\n",
	"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
}

func TestDoubtfulRequestsReachNobody(t *testing.T) {
	var reached atomic.Int64
	_, _, addr := setup(t, Config{}, app(t, func(w http.ResponseWriter, r *http.Request) { reached.Add(1) }))
	for _, s := range smuggled {
		got := send(t, addr, s)
		if !strings.HasPrefix(got, "HTTP/1.1 400 ") && !strings.HasPrefix(got, "HTTP/1.1 501 ") {
			t.Errorf("%q: %.60q", s, got)
		}
		if !strings.Contains(got, "\r\nConnection: close\r\n") || !strings.Contains(got, "\r\nX-Gapless-Error: ") {
			t.Errorf("%q: not a whole answer: %q", s, got)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d of them reached the app", n)
	}
	for _, c := range []struct{ want, request string }{
		{"HTTP/1.1 431 ", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", maxHead) + "\r\n\r\n"},
		{"HTTP/1.1 414 ", "GET /" + strings.Repeat("x", maxHead)},
		{"HTTP/1.1 505 ", "GET / HTTP/3.0\r\nHost: a\r\n\r\n"},
		{"HTTP/1.1 501 ", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"HTTP/1.1 400 ", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"},
		{"HTTP/1.1 400 ", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n......"},
	} {
		if got := send(t, addr, c.request); !strings.HasPrefix(got, c.want) {
			t.Errorf("%.40q: %.60q, want %s", c.request, got, c.want)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d of them reached the app", n)
	}
}

func TestLimits(t *testing.T) {
	_, _, addr := setup(t, Config{HeaderTimeout: 300 * time.Millisecond, BodyTimeout: 300 * time.Millisecond, IdleTimeout: 400 * time.Millisecond, MaxBody: 100},
		app(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	for _, c := range []struct{ name, want, request string }{
		{"slow head", "HTTP/1.1 408 ", "GET / HTTP/1.1\r\nHost: a\r\n"},
		{"slow body", "HTTP/1.1 408 ", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"},
		{"large body", "HTTP/1.1 413 ", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n"},
		{"silence", "", ""},
		{"silence after a request", "HTTP/1.1 200 ", get("/")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := send(t, addr, c.request); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("%.100q, want %s", got, c.want)
			}
		})
	}
}

func TestOwnAnswersKeepTheConnection(t *testing.T) {
	r, _, addr := setup(t, Config{}, app(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	table := table1(2, r.table().Routes[0].Targets[0].Address)
	table.Routes[0].Path = "/shop"
	r.apply(table)
	c := connect(t, addr)
	br := bufio.NewReader(c)
	for path, want := range map[string]int{"/": 404, "/shop": 200, "/shopping": 404, "/shop/x": 200, "/shop?x": 200} {
		io.WriteString(c, get(path))
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		if res.StatusCode != want || want == 404 && (res.Header.Get("X-Gapless-Error") != "no_route" || strings.Count(string(b), "\n") != 1) {
			t.Errorf("%s: %d %q", path, res.StatusCode, b)
		}
	}
}

func TestMalformedAnswersAre502(t *testing.T) {
	for name, answer := range map[string]string{
		"no HTTP":          "hello\r\n\r\n",
		"two lengths":      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
		"length and chunk": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
		"bare LF":          "HTTP/1.1 200 OK\nContent-Length: 1\n\na",
		"unasked 101":      "HTTP/1.1 101 X\r\nUpgrade: y\r\nConnection: upgrade\r\n\r\n",
		"bad first chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n",
		"endless head":     "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead+100),
		"half a head":      "HTTP/1.1 200 OK\r\nX: ",
	} {
		t.Run(name, func(t *testing.T) {
			r, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
				http.ReadRequest(br)
				io.WriteString(c, answer)
			}))
			c := connect(t, addr)
			io.WriteString(c, get("/"))
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != 502 || res.Header.Get("X-Gapless-Error") == "" {
				t.Errorf("status %d, code %q", res.StatusCode, res.Header.Get("X-Gapless-Error"))
			}
			x := r.traffic("v1")
			if x.Failed != 1 || x.Status[0] != 1 || x.Requests != 1 {
				t.Errorf("%+v", x)
			}
		})
	}
}

// A client must see that an answer was not whole.
func TestTruncatedAnswersAreNotCompleted(t *testing.T) {
	for name, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"large":  "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 300_000),
	} {
		t.Run(name, func(t *testing.T) {
			r, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
				http.ReadRequest(br)
				io.WriteString(c, answer)
			}))
			res, err := http.Get("http://" + addr + "/")
			if err == nil {
				_, err = io.ReadAll(res.Body)
			}
			if err == nil {
				t.Error("the client was given a whole answer")
			}
			eventually(t, "booked as failed, with the status it had", func() bool {
				x := r.traffic("v1")
				return x.Failed == 1 && x.Status[2] == 1 && x.Aborted == 0
			})
		})
	}
}

func TestOldClients(t *testing.T) {
	_, _, addr := setup(t, Config{}, app(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Host[:4])
		w.(http.Flusher).Flush()
		io.WriteString(w, " tail")
	}))
	got := send(t, addr, "GET / HTTP/1.0\r\n\r\n")
	if !strings.HasSuffix(got, "\r\n\r\n127. tail") || strings.Contains(got, "chunked") || !strings.Contains(got, "Connection: close") {
		t.Errorf("%q", got)
	}
}

// An app that ends its body by closing: the edge divides it into chunks, so
// that the client sees the end and keeps its connection.
func TestAnswersThatEndWithTheConnection(t *testing.T) {
	_, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nhello ")
		time.Sleep(20 * time.Millisecond)
		io.WriteString(c, "world")
	}))
	c := connect(t, addr)
	br := bufio.NewReader(c)
	for range 2 {
		io.WriteString(c, get("/"))
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "hello world" || err != nil {
			t.Errorf("%q %v", b, err)
		}
	}
}
