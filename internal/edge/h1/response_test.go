package h1

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"
)

func TestRefusesDoubtfulResponses(t *testing.T) {
	var h Head
	for _, s := range []string{
		"HTTP/1.1 200 OK\nContent-Length: 1\n\n",
		"HTTP/1.1 20 OK\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 099 OK\r\n\r\n",
		"HTTP/1.2 200 OK\r\n\r\n",
		"HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1  200 OK\r\n\r\n",
		"HTTP/1.1 200 O\x00K\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\n folded\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n",
	} {
		if done, err := h.ParseResponse([]byte(s)); err == nil {
			t.Errorf("%q: accepted (done %v)", s, done)
		}
	}
}

func TestRewritesResponses(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		a              Answer
	}{
		{"plain", "HTTP/1.1 200 OK\r\nA: b\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n", Answer{}},
		{"close", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n", Answer{Close: true}},
		{"no reason", "HTTP/1.1 200\r\n\r\n", "HTTP/1.1 200 \r\n\r\n", Answer{}},
		{"without chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n", "HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\n", Answer{Unchunk: true, Close: true}},
		{"in chunks of our own", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Answer{Chunk: true}},
		{"204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", Answer{}},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Answer{}},
		{"offered upgrade", "HTTP/1.1 200 OK\r\nUpgrade: h2\r\nConnection: Upgrade\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", Answer{}},
		{"to 1.0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", Answer{KeepAlive: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h Head
			if done, err := h.ParseResponse([]byte(c.in)); err != nil || !done {
				t.Fatalf("done %v, %v", done, err)
			}
			if got := string(h.AppendResponse(nil, c.a)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestReadsTheIdleTimeoutOfAnInstance(t *testing.T) {
	var h Head
	h.ParseResponse([]byte("HTTP/1.1 200 OK\r\nKeep-Alive: max=3, timeout=72\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\n"))
	if h.IdleSeconds != 72 || !h.EventStream {
		t.Errorf("idle %d, event stream %v", h.IdleSeconds, h.EventStream)
	}
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: x\r\nX: 1\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 204\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 101 S\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, again := new(Head), new(Head)
		done, err := h.ParseResponse(in)
		if err != nil || !done {
			return
		}
		out := h.AppendResponse(nil, Answer{})
		done, err = again.ParseResponse(out)
		if err != nil || !done || again.Size != len(out) {
			t.Fatalf("own output is not accepted: %v %v %q", done, err, out)
		}
		if again.Status != h.Status || !h.Bodiless(false) && (again.Chunked != h.Chunked || again.ContentLength != h.ContentLength) {
			t.Fatalf("framing changed: %q -> %q", in, out)
		}
		r, e := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), nil)
		if e != nil || h.Bodiless(false) {
			return
		}
		want := h.ContentLength
		if h.Chunked {
			want = -1
		}
		if r.ContentLength != want {
			t.Fatalf("net/http reads %q as length %d", out, r.ContentLength)
		}
	})
}
