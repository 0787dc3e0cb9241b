package edge

//lint:file-ignore SA1019 the transport of net/http refuses the field :protocol

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The library takes extended CONNECT, whoever starts the edge; what the
// operator has in GODEBUG stays, also for the children of this process.
func TestExtendedConnectIsOn(t *testing.T) {
	t.Parallel()
	const name = "GAPLESS_TEST_GODEBUG"
	if want, child := os.LookupEnv(name); child {
		if got := os.Getenv("GODEBUG"); got != want {
			t.Errorf("GODEBUG is %q, was %q", got, want)
		}
		_, _, addr := setup(t, Config{}, saying(t, "x"))
		c := newFramed(t, connect(t, addr))
		var on uint32
		c.until("SETTINGS", func(f http2.Frame) bool {
			s, ok := f.(*http2.SettingsFrame)
			if ok && !s.IsAck() {
				on, _ = s.Value(http2.SettingEnableConnectProtocol)
			}
			return ok
		})
		if off := strings.Contains(want, "http2xconnect=0"); (on == 0) != off {
			t.Errorf("SETTINGS_ENABLE_CONNECT_PROTOCOL is %d with GODEBUG=%q", on, want)
		}
		return
	}
	for _, godebug := range []string{"", "panicnil=1", "panicnil=1,http2xconnect=0"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestExtendedConnectIsOn$", "-test.count=1")
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, "GODEBUG=") {
				cmd.Env = append(cmd.Env, v)
			}
		}
		cmd.Env = append(cmd.Env, name+"="+godebug, "GORACE=atexit_sleep_ms=0")
		if godebug != "" {
			cmd.Env = append(cmd.Env, "GODEBUG="+godebug)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("GODEBUG=%q: %v\n%s", godebug, err, out)
		}
	}
}

// framed is an HTTP/2 client frame by frame.
type framed struct {
	*http2.Framer
	t    testing.TB
	c    net.Conn
	head bytes.Buffer
	enc  *hpack.Encoder
}

func newFramed(t testing.TB, c net.Conn, settings ...http2.Setting) *framed {
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	f := &framed{Framer: http2.NewFramer(c, c), t: t, c: c}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.head)
	f.WriteSettings(settings...)
	return f
}

// ask begins a stream that stays open.
func (f *framed) ask(stream uint32, fields ...string) {
	f.head.Reset()
	for i := 0; i < len(fields); i += 2 {
		f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.head.Bytes(), EndHeaders: true}); err != nil {
		f.t.Fatal(err)
	}
}

// connect asks for a protocol.
func (f *framed) connect(stream uint32, protocol string) {
	f.ask(stream, ":method", "CONNECT", ":protocol", protocol, ":scheme", "http", ":authority", "shop.test", ":path", "/ws",
		"sec-websocket-version", "13", "sec-websocket-protocol", "chat", "origin", "http://shop.test")
}

func (f *framed) until(what string, is func(http2.Frame) bool) {
	f.t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			f.t.Fatalf("%s: %v", what, err)
		}
		if s, ok := fr.(*http2.SettingsFrame); ok && !s.IsAck() {
			f.WriteSettingsAck()
		}
		if is(fr) {
			return
		}
	}
}

// answer returns the head of the answer on a stream.
func (f *framed) answer(stream uint32) (h *http2.MetaHeadersFrame) {
	f.t.Helper()
	f.until("an answer", func(fr http2.Frame) bool {
		m, ok := fr.(*http2.MetaHeadersFrame)
		if ok && m.StreamID == stream {
			h = m
		}
		if r, ok := fr.(*http2.RSTStreamFrame); ok && r.StreamID == stream {
			f.t.Fatalf("stream %d was reset: %v", r.StreamID, r.ErrCode)
		}
		return h != nil
	})
	return h
}

// rest returns what else comes on a stream, and how it ends.
func (f *framed) rest(stream uint32) (data string, end string) {
	f.t.Helper()
	f.until("the end of the stream", func(fr http2.Frame) bool {
		if fr.Header().StreamID != stream {
			return false
		}
		switch fr := fr.(type) {
		case *http2.DataFrame:
			data += string(fr.Data())
			if fr.StreamEnded() {
				end = "end"
			}
		case *http2.RSTStreamFrame:
			end = fr.ErrCode.String()
		}
		return end != ""
	})
	return data, end
}

func value(h *http2.MetaHeadersFrame, name string) string {
	for _, f := range h.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// accepting is an instance that upgrades as it should; then do has the
// connection.
func accepting(t testing.TB, do func(c net.Conn, br *bufio.Reader)) string {
	return raw(t, func(c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		h := q.Header
		if q.Method != "GET" || q.RequestURI != "/ws" || q.ContentLength != 0 || len(q.TransferEncoding) > 0 ||
			h.Get("Upgrade") != "websocket" || !strings.EqualFold(h.Get("Connection"), "upgrade") || h.Get("Sec-Websocket-Version") != "13" ||
			len(h["Sec-Websocket-Key"]) != 1 || len(h.Get("Sec-Websocket-Key")) != 24 || h.Get("X-Forwarded-For") != "127.0.0.1" {
			t.Errorf("the instance was asked %s %s %v", q.Method, q.RequestURI, h)
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
			socketAccept(h.Get("Sec-Websocket-Key")))
		do(c, br)
	})
}

// echoing says hello and echoes frames until it is sent a close frame.
func echoing(t testing.TB, closed chan<- uint16) string {
	return accepting(t, func(c net.Conn, br *bufio.Reader) {
		io.WriteString(c, "\x81\x05hello")
		for {
			op, p, err := readFrame(br)
			if err != nil {
				closed <- 0
				return
			}
			head := []byte{0x80 | op, byte(len(p))}
			if len(p) > 125 {
				head = []byte{0x80 | op, 126, byte(len(p) >> 8), byte(len(p))}
			}
			c.Write(append(head, p...))
			if op == 8 {
				closed <- uint16(p[0])<<8 | uint16(p[1])
				return
			}
		}
	})
}

// openSocket2 makes a WebSocket with the client of golang.org/x/net; secret
// nil: without TLS.
func openSocket2(t testing.TB, addr string, secret *tls.Config) (up io.WriteCloser, br *bufio.Reader) {
	t.Helper()
	tr := &http2.Transport{AllowHTTP: true}
	nc := connect(t, addr)
	scheme := "http"
	if secret != nil {
		secret.NextProtos, scheme = []string{"h2"}, "https"
		nc = tls.Client(nc, secret)
	}
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	cc, err := tr.NewClientConn(nc)
	if err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	q, _ := http.NewRequestWithContext(t.Context(), http.MethodConnect, scheme+"://shop.test/ws", pr)
	q.Header.Set(":protocol", "websocket")
	q.Header.Set("Sec-WebSocket-Version", "13")
	q.Header.Set("Sec-WebSocket-Key", "is not used in HTTP/2")
	res, err := cc.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	h := res.Header
	if res.StatusCode != 200 || h.Get("Sec-Websocket-Accept") != "" || h.Get("Upgrade") != "" || h.Get("Connection") != "" || h.Get("Sec-Websocket-Protocol") != "chat" || h.Get("Content-Type") != "" {
		t.Fatalf("%s %v", res.Status, h)
	}
	br = bufio.NewReaderSize(res.Body, 64<<10)
	if op, p, err := readFrame(br); op != 1 || string(p) != "hello" || err != nil {
		t.Fatalf("hello: %d %q %v", op, p, err)
	}
	return pw, br
}

func TestWebSocketOverHTTP2(t *testing.T) {
	a := newAuthority(t)
	cert, key, _ := a.write(t.TempDir(), "shop", "shop.test")
	for name, secret := range map[string]*tls.Config{"h2c": nil, "TLS": {RootCAs: a.pool, ServerName: "shop.test"}} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan uint16, 1)
			h := newHost(t, "web", "tls:8443")
			r := start(t, Config{Host: h})
			r.apply(secured(1, echoing(t, closed), cert, key))
			addr := h.addr("web")
			if secret != nil {
				addr = h.addr("tls:8443")
			}
			up, br := openSocket2(t, addr, secret)
			for _, s := range []string{"ping", "", strings.Repeat("x", 125)} {
				io.WriteString(up, masked(1, s))
				if op, p, err := readFrame(br); op != 1 || string(p) != s || err != nil {
					t.Fatalf("echo %d %q %v, want %q", op, p, err, s)
				}
			}
			big := strings.Repeat("0123456789", 6000)
			for range 50 { // 3 MB: every window is used again
				go io.WriteString(up, "\x82\xfe\xea\x60\x00\x00\x00\x00"+big)
				if op, p, err := readFrame(br); op != 2 || string(p) != big || err != nil {
					t.Fatalf("echo %d, %d bytes, %v", op, len(p), err)
				}
			}
			if i := r.instance("i1"); i.InFlight != 1 || i.Upgraded != 1 {
				t.Errorf("%+v", i)
			}
			io.WriteString(up, masked(8, "\x0f\xa0bye"))
			if op, p, err := readFrame(br); op != 8 || string(p) != "\x0f\xa0bye" || err != nil {
				t.Errorf("close: %d %q %v", op, p, err)
			}
			if _, err := br.ReadByte(); err != io.EOF {
				t.Errorf("after the close: %v", err)
			}
			if code := <-closed; code != 4000 {
				t.Errorf("the app was closed with %d", code)
			}
			eventually(t, "in flight 0", func() bool { i := r.instance("i1"); return i.InFlight == 0 && i.Upgraded == 0 })
			if x := r.traffic("v1"); x.Requests != 1 || x.Failed+x.Aborted != 0 {
				t.Errorf("%+v", x)
			}
		})
	}
}

func TestWebSocketOverHTTP2LeavesPolitely(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(r *running){
		"instance": func(r *running) { r.apply(draining(r.table(), 2, 3*time.Second, "i1")) },
		"edge":     func(r *running) { r.Drain(r.t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan uint16, 1)
			r, _, addr := setup(t, Config{DrainTimeout: 5 * time.Second}, echoing(t, closed))
			up, br := openSocket2(t, addr, nil)
			io.WriteString(up, "\x81\x89\x00\x00\x00\x00last") // one frame in two pieces
			leave(r)
			io.WriteString(up, " word")
			seen := ""
			for {
				op, p, err := readFrame(br)
				if err != nil {
					t.Fatalf("no close frame: %v", err)
				}
				if op == 1 {
					seen += string(p)
					continue
				}
				if op != 8 || uint16(p[0])<<8|uint16(p[1]) != 1001 {
					t.Errorf("%d %q", op, p)
				}
				io.WriteString(up, masked(8, string(p)))
				break
			}
			if seen != "last word" {
				t.Errorf("echo %q", seen)
			}
			if _, err := br.ReadByte(); err != io.EOF {
				t.Errorf("after the close: %v", err)
			}
			if code := <-closed; code != 1001 {
				t.Errorf("the app was closed with %d", code)
			}
			if name == "edge" {
				r.wait(15 * time.Second)
				return
			}
			eventually(t, "in flight 0", func() bool { i := r.instance("i1"); return i.InFlight == 0 && i.Upgraded == 0 })
		})
	}
}

// A client that answers no close frame: the app is closed in order all the same.
func TestWebSocketOverHTTP2OfSilentClient(t *testing.T) {
	closed := make(chan uint16, 1)
	r, _, addr := setup(t, Config{}, echoing(t, closed))
	openSocket2(t, addr, nil)
	r.apply(draining(r.table(), 2, 600*time.Millisecond, "i1"))
	if code := <-closed; code != 1001 {
		t.Errorf("the app was closed with %d", code)
	}
	eventually(t, "in flight 0", func() bool { return r.instance("i1").InFlight == 0 })
}

func TestExtendedConnectRefused(t *testing.T) {
	r, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			q, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			switch q.Host {
			case "missing.test":
				io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone")
			case "plain.test":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")
			case "wrong.test":
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x05hello")
			default:
				t.Errorf("the instance was asked for %s %s", q.Method, q.Host)
			}
		}
	}))
	c := newFramed(t, connect(t, addr))
	stream := uint32(1)
	for _, tc := range []struct {
		what, status, code, body string
		fields                   []string
	}{
		{"plain CONNECT", "501", "not_supported", "", []string{":method", "CONNECT", ":authority", "other.test:443"}},
		{"another protocol", "501", "not_supported", "", []string{":method", "CONNECT", ":protocol", "connect-udp", ":scheme", "http", ":authority", "a.test", ":path", "/"}},
		{"a protocol without CONNECT", "400", "bad_request", "", []string{":method", "GET", ":protocol", "websocket", ":scheme", "http", ":authority", "a.test", ":path", "/"}},
		{"an app without WebSockets", "404", "", "none", []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "missing.test", ":path", "/"}},
		{"a page", "502", "no_websocket", "", []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "plain.test", ":path", "/"}},
		{"another key's answer", "502", "malformed_answer", "", []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "wrong.test", ":path", "/"}},
	} {
		c.ask(stream, tc.fields...)
		h := c.answer(stream)
		if value(h, ":status") != tc.status || value(h, "x-gapless-error") != tc.code {
			t.Errorf("%s: %v", tc.what, h.Fields)
		}
		if body, _ := c.rest(stream); tc.body != "" && body != tc.body || strings.Contains(body, "hello") {
			t.Errorf("%s: %q", tc.what, body)
		}
		stream += 2
	}
	// A page in place of a WebSocket is no fault of the release, a wrong answer is.
	if x := r.traffic("v1"); x.Requests != 3 || x.Failed != 1 || x.Status[2] != 1 || x.Status[4] != 1 {
		t.Errorf("%+v", x)
	}
	eventually(t, "nothing in flight", func() bool { i := r.instance("i1"); return i.InFlight == 0 && i.Upgraded == 0 })
}

// The end of the client's side half-closes the connection to the instance,
// the instance's end is the end of the stream.
func TestWebSocketOverHTTP2KeepsHalfClose(t *testing.T) {
	r, _, addr := setup(t, Config{}, accepting(t, func(c net.Conn, br *bufio.Reader) {
		b, _ := io.ReadAll(br)
		fmt.Fprintf(c, "\x81\x03%d,", len(b))
		io.WriteString(c, ".")
	}))
	c := newFramed(t, connect(t, addr))
	c.connect(1, "websocket")
	c.WriteData(1, false, []byte(masked(1, "early"))) // before the answer
	if h := c.answer(1); value(h, ":status") != "200" {
		t.Fatalf("%v", h.Fields)
	}
	c.WriteData(1, true, []byte(masked(1, "and late")))
	if data, end := c.rest(1); data != "\x81\x0325,." || end != "end" {
		t.Errorf("%q, then %s", data, end)
	}
	// The instance ends first: what is open is closed without an error.
	c.connect(3, "websocket")
	c.answer(3)
	c.WriteData(3, true, nil)
	if data, end := c.rest(3); data != "\x81\x030,." || end != "end" {
		t.Errorf("%q, then %s", data, end)
	}
	eventually(t, "nothing in flight", func() bool { i := r.instance("i1"); return i.InFlight == 0 && i.Upgraded == 0 })
}

func TestWebSocketOverHTTP2Ends(t *testing.T) {
	ended := make(chan error, 1)
	reset := false
	r, _, addr := setup(t, Config{}, accepting(t, func(c net.Conn, br *bufio.Reader) {
		io.WriteString(c, "\x81\x05hello")
		_, _, err := readFrame(br)
		if reset {
			c.(*net.TCPConn).SetLinger(0)
		} else {
			_, _, err = readFrame(br)
		}
		ended <- err
	}))
	gone := func(what string) {
		t.Helper()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the instance did not hear of it", what)
		}
		eventually(t, "nothing in flight", func() bool { i := r.instance("i1"); return i.InFlight == 0 && i.Upgraded == 0 })
	}
	c := newFramed(t, connect(t, addr))
	hello := func(stream uint32) {
		t.Helper()
		c.connect(stream, "websocket")
		c.answer(stream)
		c.until("hello", func(f http2.Frame) bool {
			if r, ok := f.(*http2.RSTStreamFrame); ok && stream <= 5 {
				t.Errorf("stream %d was reset by the edge, too: %v", r.StreamID, r.ErrCode)
			}
			d, ok := f.(*http2.DataFrame)
			return ok && d.StreamID == stream
		})
	}
	hello(1)
	c.WriteRSTStream(1, http2.ErrCodeCancel)
	gone("RST_STREAM")

	hello(3)
	c.WriteData(3, true, nil) // half-closed before
	c.WriteRSTStream(3, http2.ErrCodeCancel)
	gone("RST_STREAM after END_STREAM")

	reset = true
	hello(5)
	c.WriteData(5, false, []byte(masked(1, "x")))
	if _, end := c.rest(5); end == "end" || end == http2.ErrCodeNo.String() {
		t.Errorf("a connection that the instance reset ended with %s", end)
	}
	gone("reset")

	reset = false
	hello(7)
	c.c.Close()
	gone("the end of the connection")
}

// A client that takes nothing does not hold the instance for ever.
func TestWebSocketOverHTTP2WriteTimeout(t *testing.T) {
	r, _, addr := setup(t, Config{WriteTimeout: 500 * time.Millisecond}, accepting(t, func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := io.WriteString(c, "\x81\x05hello"); err != nil {
				return
			}
		}
	}))
	c := newFramed(t, connect(t, addr))
	c.connect(1, "websocket")
	c.answer(1)
	if data, end := c.rest(1); len(data) != 65535 || end == "end" {
		t.Errorf("%d bytes, then %s", len(data), end)
	}
	eventually(t, "nothing in flight", func() bool { i := r.instance("i1"); return i.InFlight == 0 && i.Upgraded == 0 })
}

// Streams that are reset as soon as they are asked for (CVE-2023-44487) take
// nothing from others.
func TestRapidReset(t *testing.T) {
	r, _, addr := setup(t, Config{}, saying(t, "ok"))
	const streams = 10_000
	c := newFramed(t, connect(t, addr))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		io.Copy(io.Discard, c.c)
	}()
	head := encoded(func(*hpack.Encoder) {})
	done := make(chan int)
	go func() {
		n := 0
		for ; n < streams; n++ {
			id := uint32(2*n + 1)
			if c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndStream: true, EndHeaders: true}) != nil ||
				c.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
				break // cut: see calm
			}
		}
		done <- n
	}()
	cl := h2client(t)
	served, sent := 0, -1
	for sent < 0 || served < 20 {
		res, err := cl.Get("http://" + addr + "/")
		if err != nil {
			t.Fatalf("a good client after %d: %v", served, err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 || string(b) != "ok" || err != nil {
			t.Fatalf("a good client got %d %q %v", res.StatusCode, b, err)
		}
		served++
		select {
		case sent = <-done:
		default:
		}
	}
	c.c.Close()
	<-ended
	eventually(t, "nothing in flight", func() bool { return r.instance("i1").InFlight == 0 })
	if x := r.traffic("v1"); x.Failed != 0 {
		t.Errorf("resets count against the release: %+v", x)
	}
	t.Logf("%d of %d streams before the end, %d good requests", sent, streams, served)
	if sent < 200 {
		t.Errorf("void: only %d streams", sent)
	}
}
