package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func h2client(t testing.TB) *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func TestHTTP2(t *testing.T) {
	r, _, addr := setup(t, Config{}, app(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/see" {
			fmt.Fprintf(w, "%s %s %s %s %s|%s", q.Proto, q.Host, q.Header.Get("X-Forwarded-For"), q.Header.Get("X-Forwarded-Proto"), q.Header.Get("Cookie"), q.Header.Get("Te"))
			return
		}
		echoApp(w, q)
	}))
	cl := h2client(t)
	do := func(method, path string, body io.Reader) (*http.Response, string) {
		t.Helper()
		q, err := http.NewRequest(method, "http://"+addr+path, body)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Cookie", "a=b; c=d")
		q.Header.Set("Te", "trailers")
		res, err := cl.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
		}
		return res, string(b)
	}
	res, body := do("GET", "/see", nil)
	if want := "HTTP/1.1 " + addr + " 127.0.0.1 http a=b; c=d|trailers"; body != want || res.ProtoMajor != 2 {
		t.Errorf("HTTP/%d: %q, want %q", res.ProtoMajor, body, want)
	}
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	want := fmt.Sprintf("%d %x", len(data), md5.Sum(data))
	for _, b := range []io.Reader{bytes.NewReader(data), io.MultiReader(bytes.NewReader(data))} {
		if _, body := do("POST", "/", b); body != want {
			t.Errorf("%q", body)
		}
	}
	if _, body := do("GET", "/", nil); len(body) != 300_004 {
		t.Errorf("%d bytes", len(body))
	}
	if res, body := do("HEAD", "/", nil); body != "" || res.StatusCode != 200 {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	if x := r.traffic("v1"); x.Requests != 5 || x.Status[2] != 5 || x.Failed+x.Aborted != 0 {
		t.Errorf("not counted by the same core: %+v", x)
	}
	tab := table1(2, "127.0.0.1:1")
	tab.Routes[0].Path, tab.Routes[0].Hold = "/shop", 0
	r.apply(tab)
	if res, body := do("GET", "/", nil); res.StatusCode != 404 || res.Header.Get("X-Gapless-Error") != "no_route" || body == "" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	if res, _ := do("GET", "/shop", nil); res.StatusCode != 502 || res.Header.Get("X-Gapless-Error") != "refused" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

func TestHTTP2TruncationAndCancel(t *testing.T) {
	entered, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	r, _, addr := setup(t, Config{}, app(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/cut" {
			w.Write(make([]byte, 10_000))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		entered <- struct{}{}
		<-q.Context().Done()
		ended <- struct{}{}
	}))
	cl := h2client(t)
	res, err := cl.Get("http://" + addr + "/cut")
	if err == nil {
		_, err = io.ReadAll(res.Body)
	}
	if err == nil {
		t.Error("the client was given a whole answer")
	}
	ctx, cancel := context.WithCancel(t.Context())
	q, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/", nil)
	go cl.Do(q)
	<-entered
	cancel()
	<-ended
	eventually(t, "booked", func() bool { x := r.traffic("v1"); return x.Aborted == 1 && x.Failed == 1 })
}

func TestHTTP2Limits(t *testing.T) {
	t.Parallel()
	_, _, addr := setup(t, Config{BodyTimeout: 200 * time.Millisecond, AnswerTimeout: 1500 * time.Millisecond},
		raw(t, func(c net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) }))
	pr, pw := io.Pipe()
	defer pw.Close()
	for want, body := range map[int]io.Reader{http.StatusRequestTimeout: pr, http.StatusGatewayTimeout: nil} {
		q, _ := http.NewRequest("POST", "http://"+addr+"/", body)
		res, err := h2client(t).Do(q)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%d, want %d", res.StatusCode, want)
		}
	}
}

func TestHTTP2DrainsWithGoAway(t *testing.T) {
	backend := app(t, func(w http.ResponseWriter, q *http.Request) {
		time.Sleep(300 * time.Millisecond)
		io.WriteString(w, "ok")
	})
	h := newHost(t, "web")
	g1 := start(t, Config{Generation: 1, Host: h, DrainTimeout: 5 * time.Second})
	g1.apply(table1(1, backend))
	g2 := start(t, Config{Generation: 2, Host: h})
	cl := h2client(t)
	cl.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", h.addr("web"))
	}
	var wg sync.WaitGroup
	ask := func() {
		res, err := cl.Get("http://shop.test/")
		if err != nil {
			t.Error(err)
			return
		}
		if b, err := io.ReadAll(res.Body); string(b) != "ok" || err != nil {
			t.Errorf("%q %v", b, err)
		}
	}
	for range 20 {
		wg.Go(ask)
	}
	eventually(t, "in flight", func() bool { return g1.instance("i1").InFlight+g2.instance("i1").InFlight == 20 })
	g1.Drain(t.Context())
	wg.Wait()
	for range 20 {
		wg.Go(ask)
	}
	wg.Wait()
	g1.wait(20 * time.Second)
}

// The first GOAWAY refuses nothing: what a client sends before it hears of it
// is answered. The second one names the last stream.
func TestHTTP2GoAwayRefusesNothingOnItsWay(t *testing.T) {
	t.Parallel()
	r, _, addr := setup(t, Config{DrainGrace: 2 * time.Second, DrainTimeout: time.Minute}, saying(t, "ok"))
	c := connect(t, addr)
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.WriteSettings()
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	ask := func(stream uint32) {
		head.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "shop.test"}, {":path", "/"}} {
			enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true})
	}
	ended, left := map[uint32]bool{}, []uint32{} // streams; what the GOAWAYs name
	until := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			f, err := fr.ReadFrame()
			if err != nil {
				t.Fatalf("%s: %v; ended %v, GOAWAY %x", what, err, ended, left)
			}
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				left = append(left, f.LastStreamID)
				if f.ErrCode != http2.ErrCodeNo {
					t.Errorf("GOAWAY with %s", f.ErrCode)
				}
			case *http2.RSTStreamFrame:
				t.Errorf("stream %d was reset: %s", f.StreamID, f.ErrCode)
			case *http2.HeadersFrame:
				ended[f.StreamID] = ended[f.StreamID] || f.StreamEnded()
			case *http2.DataFrame:
				ended[f.StreamID] = f.StreamEnded()
			}
		}
	}
	ask(1)
	until("an answer", func() bool { return ended[1] })
	if err := r.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	until("a GOAWAY", func() bool { return len(left) > 0 })
	ask(3) // was on its way
	until("its answer", func() bool { return ended[3] })
	until("the last GOAWAY", func() bool { return len(left) > 1 })
	if left[0] != 1<<31-1 || left[1] != 3 {
		t.Errorf("GOAWAY named %x, then %x", left[0], left[1])
	}
	c.Close()
	r.wait(20 * time.Second)
}

func TestFarewellStandsBetweenFrames(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	f := &farewell{Conn: near}
	got := make(chan string)
	go func() {
		b, _ := io.ReadAll(far)
		got <- string(b)
	}()
	if err := f.leave(); err != nil { // before SETTINGS
		t.Fatal(err)
	}
	settings, data := "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x05\x00\x01\x00\x00\x00\x01hello"
	stream := settings + data + data
	for _, cut := range []string{settings[:4], settings[4:] + data[:3], data[3:12], data[12:] + data} {
		if n, err := io.WriteString(f, cut); n != len(cut) || err != nil {
			t.Fatalf("%d %v", n, err)
		}
	}
	near.Close()
	// SETTINGS ended within the second piece, in which another frame began.
	want := stream[:len(settings)+len(data)] + data + string(goAway)
	if s := <-got; s != want {
		t.Errorf("got %q, want %q", s, want)
	}
}

func TestPrefaceInPieces(t *testing.T) {
	_, _, addr := setup(t, Config{}, saying(t, "x"))
	c := connect(t, addr)
	for _, s := range []string{"PRI * HTTP/2.0\r\n", "\r\nSM\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00\x00"} {
		io.WriteString(c, s)
		time.Sleep(20 * time.Millisecond)
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 9)
	if _, err := io.ReadFull(c, b); err != nil || b[3] != 4 {
		t.Errorf("no SETTINGS frame: %q %v", b, err)
	}
	if got := send(t, addr, "PRIX / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 ") {
		t.Errorf("%q", got)
	}
}
