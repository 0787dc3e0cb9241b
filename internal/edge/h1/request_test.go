package h1

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

// shapes that two servers may read differently, and what is wrong with them.
var refused = []struct {
	status  int
	request string
}{
	// the thirteen that are used to smuggle requests
	{400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"},
	{501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"},
	{400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n"},
	{400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n"},
	{400, "GET / HTTP/1.1\nHost: a\n\n"},
	{400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\n\r\n"},
	{400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, "GET / x HTTP/1.1\r\nHost: a\r\n\r\n"},
	// more of their kind
	{400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"},
	{400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n"},
	{400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n"},
	{400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n"},
	{400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n"},
	{501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"},
	{400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"},
	{501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n"},
	{400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{400, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: a:80x\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"},
	{400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"},
	{400, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"},
	{400, "GET /\r\n\r\n"},
	{505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"},
	{505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"},
	{505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n"},
	{501, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{417, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: cake\r\n\r\n"},
	{431, "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", MaxFields) + "\r\n"},
	{400, "GET / HTTP/1.1\r\nHost: a\r\nConnection: " + strings.Repeat("x,", maxTokens+1) + "\r\n\r\n"},
}

func TestRefusesDoubtfulRequests(t *testing.T) {
	var h Head
	for _, c := range refused {
		done, err := h.ParseRequest([]byte(c.request))
		switch {
		case err == nil:
			t.Errorf("%.90q: accepted (done %v)", c.request, done)
		case err.Status != c.status && !(c.status == 501 && err.Status == 400):
			t.Errorf("%.90q: status %d, want %d", c.request, err.Status, c.status)
		}
	}
}

var forward = Forward{Peer: []byte("192.0.2.7"), Proto: "http", Port: "80", Host: "10.0.0.1:80", RequestID: []byte("made")}

const ours = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nX-Forwarded-Port: 80\r\nForwarded: for=192.0.2.7;host=\"a\";proto=http\r\nX-Request-Id: made\r\n"

func TestRewritesRequests(t *testing.T) {
	trusted := forward
	trusted.Trusted = true
	for _, c := range []struct {
		name, in, want string
		fw             *Forward
	}{
		{"plain", "GET /x?y HTTP/1.1\r\nHost: a\r\nAccept: b\r\n\r\n", "GET /x?y HTTP/1.1\r\nHost: a\r\nAccept: b\r\n" + ours + "\r\n", &forward},
		{"an empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" + ours + "\r\n", &forward},
		{"absolute form", "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\n" + ours + "\r\n", &forward},
		{"absolute form without path", "GET http://A HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" + ours + "\r\n", &forward},
		{"hop by hop", "GET / HTTP/1.1\r\nTE: trailers\r\nHost: a\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nx-mine: 2\r\nA: 1\r\nProxy-Authorization: z\r\nB: 2\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n" + ours + "TE: trailers\r\nConnection: te\r\n\r\n", &forward},
		{"upgrade without connection", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" + ours + "\r\n", &forward},
		{"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n" + ours + "Connection: upgrade\r\n\r\n", &forward},
		{"upgrade to HTTP/2", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" + ours + "\r\n", &forward},
		{"upgrade with a body", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n" + ours + "\r\n", &forward},
		{"claims of a stranger", "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=x\r\nX-Real-IP: 2\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" + ours + "\r\n", &forward},
		{"claims of a friend", "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.7\r\nX-Forwarded-Port: 80\r\nX-Request-Id: made\r\n\r\n", &trusted},
		{"request id", "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc\r\nX-Request-Id: def\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nX-Forwarded-Port: 80\r\nForwarded: for=192.0.2.7;host=\"a\";proto=http\r\n\r\n", &forward},
		{"request id that does not belong in logs", "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" + ours + "\r\n", &forward},
		{"1.0 without host", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: 10.0.0.1:80\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: 10.0.0.1:80\r\nX-Forwarded-Port: 80\r\nForwarded: for=192.0.2.7;proto=http\r\nX-Request-Id: made\r\n\r\n", &forward},
		{"expectation", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n" + ours + "\r\n", &forward},
		{"options of the server", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n" + ours + "\r\n", &forward},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h Head
			done, err := h.ParseRequest([]byte(c.in))
			if err != nil || !done {
				t.Fatalf("done %v, %v", done, err)
			}
			if h.Size != len(c.in) {
				t.Errorf("size %d, want %d", h.Size, len(c.in))
			}
			if got := string(h.AppendRequest(nil, c.fw)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// Whatever the head, every beginning of it is incomplete or refused, never accepted.
func TestRequestArrivesByteByByte(t *testing.T) {
	whole := []byte("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
	var h Head
	for n := range len(whole) - 3 {
		if done, err := h.ParseRequest(whole[:n]); done || err != nil {
			t.Fatalf("%q: done %v, %v", whole[:n], done, err)
		}
	}
	done, err := h.ParseRequest(whole)
	if !done || err != nil || h.ContentLength != 3 || !h.Close || h.Safe {
		t.Errorf("done %v, %v, %+v", done, err, h.ContentLength)
	}
}

func TestParsingAllocatesNothing(t *testing.T) {
	in := []byte("GET /assets/app.js?v=1 HTTP/1.1\r\nHost: www.example.com\r\nCookie: a=b\r\nConnection: keep-alive, x\r\nX: y\r\n\r\n")
	res := []byte("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\n\r\n")
	out := make([]byte, 0, 4096)
	h := new(Head)
	if n := testing.AllocsPerRun(100, func() {
		h.ParseRequest(in)
		h.AppendRequest(out, &forward)
		h.ParseResponse(res)
		h.AppendResponse(out, Answer{Close: true})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzRequest holds the parser against net/http: what is accepted must mean
// the same to a second reader after it was rewritten, in framing, host and target.
func FuzzRequest(f *testing.F) {
	for _, c := range refused {
		f.Add([]byte(c.request))
	}
	f.Add([]byte("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x, close\r\nX: 1\r\n\r\n"))
	f.Add([]byte("GET http://a:80/x?y HTTP/1.1\r\nHost: a:80\r\nX-Forwarded-For: 1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", MaxFields-1) + "\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", MaxHead-40) + "\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, again := new(Head), new(Head)
		done, err := h.ParseRequest(in)
		if err != nil || !done {
			return
		}
		out := h.AppendRequest(nil, &forward)
		if bytes.Count(out, []byte("\r\n\r\n")) != 1 || !bytes.HasSuffix(out, []byte("\r\n\r\n")) {
			t.Fatalf("rewritten head ends early: %q", out)
		}
		done, err = again.ParseRequest(out)
		if lines := bytes.Count(out, []byte("\r\n")); lines-2 > MaxFields && err == errFields || len(out) >= MaxHead && err == errHead {
			return // with what this hop adds, it is more than the next one would take
		}
		if err != nil || !done || again.Size != len(out) {
			t.Fatalf("own output is not accepted: %v %v %q", done, err, out)
		}
		if again.Chunked != h.Chunked || again.ContentLength != h.ContentLength || again.Upgrade != h.Upgrade {
			t.Fatalf("framing changed: %q -> %q", in, out)
		}
		r, e := http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
		if e != nil {
			return // it is stricter about targets, which is its own affair
		}
		length := max(h.ContentLength, 0)
		if h.Chunked {
			length = -1
		}
		if r.ContentLength != length || r.Method != string(h.Method()) || len(h.Host()) > 0 && r.Host != string(h.Host()) {
			t.Fatalf("net/http reads %q as length %d method %q host %q", out, r.ContentLength, r.Method, r.Host)
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	in := []byte("GET /assets/app.js?v=123 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nConnection: keep-alive\r\n\r\n")
	out := make([]byte, 0, 4096)
	h := new(Head)
	b.ReportAllocs()
	for b.Loop() {
		h.ParseRequest(in)
		h.AppendRequest(out, &forward)
	}
}
