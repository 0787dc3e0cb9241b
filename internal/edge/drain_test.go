package edge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
)

// wsApp upgrades every request, sends hello, and echoes frames of at most
// 125 bytes until it is sent a close frame, which it answers.
func wsApp(closed chan<- uint16) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello")
		for {
			op, payload, err := readFrame(br)
			if err != nil {
				closed <- 0
				return
			}
			if op == 8 {
				c.Write(append([]byte{0x88, byte(len(payload))}, payload...))
				closed <- uint16(payload[0])<<8 | uint16(payload[1])
				return
			}
			c.Write(append([]byte{0x80 | op, byte(len(payload))}, payload...))
		}
	}
}

func readFrame(br *bufio.Reader) (op byte, payload []byte, err error) {
	h := make([]byte, 2)
	if _, err := io.ReadFull(br, h); err != nil {
		return 0, nil, err
	}
	n := int(h[1] & 0x7f)
	if n == 126 {
		ext := make([]byte, 2)
		if _, err := io.ReadFull(br, ext); err != nil {
			return 0, nil, err
		}
		n = int(ext[0])<<8 | int(ext[1])
	}
	mask := make([]byte, 4)
	if h[1]&0x80 != 0 {
		if _, err := io.ReadFull(br, mask); err != nil {
			return 0, nil, err
		}
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(br, payload)
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return h[0] & 0x0f, payload, err
}

// openSocket makes a WebSocket and reads its hello.
func openSocket(t testing.TB, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := connect(t, addr)
	c.SetDeadline(time.Now().Add(15 * time.Second))
	io.WriteString(c, get("/ws", "Connection: Upgrade", "Upgrade: websocket"))
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("upgrade: %v %v", res, err)
	}
	if op, p, err := readFrame(br); op != 1 || string(p) != "hello" || err != nil {
		t.Fatalf("hello: %d %q %v", op, p, err)
	}
	return c, br
}

func masked(op byte, payload string) string {
	return string([]byte{0x80 | op, 0x80 | byte(len(payload)), 0, 0, 0, 0}) + payload
}

func draining(t gapless.Table, version uint64, d time.Duration, ids ...string) gapless.Table {
	t.Version = version
	route := t.Routes[0]
	route.Targets = append([]gapless.Target(nil), route.Targets...)
	for i := range route.Targets {
		for _, id := range ids {
			if route.Targets[i].Instance == id {
				route.Targets[i].Draining, route.Targets[i].Drain = true, gapless.Duration(d)
			}
		}
	}
	t.Routes = []gapless.Route{route}
	return t
}

func TestWebSocketLeavesPolitely(t *testing.T) {
	closed := make(chan uint16, 1)
	r, _, addr := setup(t, Config{}, raw(t, wsApp(closed)))
	c, br := openSocket(t, addr)
	io.WriteString(c, masked(1, "ping"))
	if _, p, _ := readFrame(br); string(p) != "ping" {
		t.Fatalf("echo %q", p)
	}
	if i := r.instance("i1"); i.InFlight != 1 || i.Upgraded != 1 {
		t.Errorf("%+v", i)
	}
	r.apply(draining(r.table(), 2, 3*time.Second, "i1"))
	io.WriteString(c, masked(1, "last words"))
	var op byte
	var p []byte
	for {
		var err error
		if op, p, err = readFrame(br); err != nil {
			t.Fatalf("no close frame: %v", err)
		}
		if op == 8 {
			break
		}
		if string(p) != "last words" {
			t.Errorf("%q", p)
		}
	}
	if code := uint16(p[0])<<8 | uint16(p[1]); code != 1001 {
		t.Errorf("closed with %d", code)
	}
	io.WriteString(c, masked(8, string(p)))
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("after the close: %v", err)
	}
	c.Close()
	if code := <-closed; code != 1001 {
		t.Errorf("the app was closed with %d", code)
	}
	eventually(t, "in flight 0", func() bool { i := r.instance("i1"); return i.InFlight == 0 && i.Upgraded == 0 })
}

// A client that does not answer the close: the app is still closed in order.
func TestWebSocketOfSilentClient(t *testing.T) {
	closed := make(chan uint16, 1)
	r, _, addr := setup(t, Config{}, raw(t, wsApp(closed)))
	openSocket(t, addr)
	r.apply(draining(r.table(), 2, 600*time.Millisecond, "i1"))
	if code := <-closed; code != 1001 {
		t.Errorf("the app was closed with %d", code)
	}
	eventually(t, "in flight 0", func() bool { return r.instance("i1").InFlight == 0 })
}

// The close frame waits for the frame under way, and may stand between fragments.
func TestCloseFrameStandsBetweenFrames(t *testing.T) {
	half, more := make(chan struct{}), make(chan struct{})
	r, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello")
		io.WriteString(c, "\x01\x7e\x01\x00"+strings.Repeat("a", 100)) // 100 of 256 bytes of a first fragment
		close(half)
		<-more
		for range 155 {
			io.WriteString(c, "b")
			time.Sleep(100 * time.Microsecond)
		}
		io.WriteString(c, "b\x80\x7e\x01\x00ccc") // and the beginning of the last fragment
		io.Copy(io.Discard, br)
	}))
	_, br := openSocket(t, addr)
	<-half
	r.apply(draining(r.table(), 2, 900*time.Millisecond, "i1"))
	time.Sleep(400 * time.Millisecond) // the spread is over: the close frame is due
	if i := r.instance("i1"); i.InFlight != 1 {
		t.Errorf("cut in the middle of a frame: %+v", i)
	}
	close(more)
	if op, p, err := readFrame(br); op != 1 || string(p) != strings.Repeat("a", 100)+strings.Repeat("b", 156) || err != nil {
		t.Fatalf("%d %q %v", op, p, err)
	}
	if op, p, err := readFrame(br); op != 8 || err != nil || uint16(p[0])<<8|uint16(p[1]) != 1001 {
		t.Errorf("%d %q %v", op, p, err)
	}
	eventually(t, "in flight 0", func() bool { return r.instance("i1").InFlight == 0 })
}

func TestRawUpgradeKeepsHalfClose(t *testing.T) {
	r, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		b, _ := io.ReadAll(br) // until the client has said all
		time.Sleep(300 * time.Millisecond)
		fmt.Fprintf(c, "got %d", len(b))
	}))
	c := connect(t, addr)
	io.WriteString(c, get("/", "Connection: upgrade", "Upgrade: x")+"12345")
	io.WriteString(c, "67890")
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	if !strings.HasSuffix(string(b), "\r\n\r\ngot 10") || err != nil {
		t.Errorf("%q %v", b, err)
	}
	eventually(t, "in flight 0", func() bool { return r.instance("i1").InFlight == 0 })
}

func TestRawUpgradeIsCutAtTheDeadline(t *testing.T) {
	r, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		io.Copy(c, br)
	}))
	c := connect(t, addr)
	io.WriteString(c, get("/", "Connection: upgrade", "Upgrade: x"))
	eventually(t, "upgraded", func() bool { return r.instance("i1").Upgraded == 1 })
	began := time.Now()
	r.apply(draining(r.table(), 2, 500*time.Millisecond, "i1"))
	io.ReadAll(c)
	if d := time.Since(began); d < 400*time.Millisecond || d > 8*time.Second {
		t.Errorf("ended after %v", d)
	}
	eventually(t, "in flight 0", func() bool { return r.instance("i1").InFlight == 0 })
}

func TestEventStreamEndsInOrder(t *testing.T) {
	r, _, addr := setup(t, Config{}, app(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; ; i++ {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-q.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}))
	res, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(res.Body)
	if line, err := br.ReadString('\n'); line != "data: 0\n" || err != nil {
		t.Fatalf("%q %v", line, err)
	}
	began := time.Now()
	r.apply(draining(r.table(), 2, time.Second, "i1"))
	b, err := io.ReadAll(br)
	if err != nil {
		t.Errorf("the stream did not end in order: %v", err)
	}
	// That it is not cut is seen above: how late it ends is the machine's affair.
	if d := time.Since(began); d < 850*time.Millisecond || d > 8*time.Second {
		t.Errorf("ended after %v of 1 s", d)
	}
	if !strings.HasSuffix(string(b), "\n\n") {
		t.Errorf("ended within an event: %q", b[max(0, len(b)-20):])
	}
	eventually(t, "in flight 0", func() bool { return r.instance("i1").InFlight == 0 })
}

// A drain with a slow request, an upload and a WebSocket in flight loses none.
func TestInstanceDrainsWithoutLoss(t *testing.T) {
	t.Parallel()
	closed := make(chan uint16, 1)
	var draining1 atomic.Bool
	var came, late atomic.Int64
	ws := wsApp(closed)
	old := raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			b, err := br.Peek(6)
			if err != nil {
				return
			}
			came.Add(1)
			if draining1.Load() {
				late.Add(1)
			}
			if string(b) == "GET /w" {
				ws(c, br)
				return
			}
			q, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, q.Body)
			if q.URL.Path == "/slow" {
				time.Sleep(500 * time.Millisecond)
			}
			s := fmt.Sprint("old ", n)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(s), s)
		}
	})
	r, _, addr := setup(t, Config{}, saying(t, "x"))
	tab := r.route(2, 0, map[string]float64{"v1": 1}, map[string][]string{"v1": {old}})
	r.apply(tab)

	var wg sync.WaitGroup
	wg.Go(func() {
		res, err := http.Get("http://" + addr + "/slow")
		if err != nil {
			t.Error(err)
			return
		}
		if b, err := io.ReadAll(res.Body); string(b) != "old 0" || err != nil {
			t.Errorf("slow: %q %v", b, err)
		}
	})
	pr, pw := io.Pipe()
	wg.Go(func() {
		res, err := http.Post("http://"+addr+"/up", "x/y", pr)
		if err != nil {
			t.Error(err)
			return
		}
		if b, err := io.ReadAll(res.Body); string(b) != "old 200000" || err != nil {
			t.Errorf("upload: %q %v", b, err)
		}
	})
	pw.Write(make([]byte, 100_000))
	_, br := openSocket(t, addr)
	eventually(t, "three in flight, and there", func() bool { return r.instance("v1.1").InFlight == 3 && came.Load() == 3 })

	tab2 := r.route(3, 0, map[string]float64{"v1": 0, "v2": 1}, map[string][]string{"v1": {old}, "v2": {saying(t, "new")}})
	tab2.Routes[0].Stable = "v2"
	tab2 = draining(tab2, 3, 2*time.Second, "v1.1")
	r.apply(tab2)
	draining1.Store(true)
	if n := r.instance("v1.1").InFlight; n != 3 {
		t.Errorf("in flight %d: unfinished work is not counted", n)
	}
	for range 50 {
		if code, body, _ := fetch(t, addr); code != 200 || body != "new" {
			t.Errorf("%d %q", code, body)
		}
	}
	pw.Write(make([]byte, 100_000))
	pw.Close()
	for {
		op, _, err := readFrame(br)
		if err != nil {
			t.Errorf("WebSocket: %v", err)
			break
		}
		if op == 8 {
			break
		}
	}
	wg.Wait()
	eventually(t, "in flight 0", func() bool { return r.instance("v1.1").InFlight == 0 })
	if n := late.Load(); n != 0 {
		t.Errorf("%d requests reached the instance after the table was acknowledged", n)
	}
	if x := r.traffic("v1"); x.Failed+x.Aborted != 0 {
		t.Errorf("%+v", x)
	}
}

// load asks on kept and on new connections, without ever trying again, until
// stopped; it counts every answer that is not perfect.
type load struct {
	wg       sync.WaitGroup
	stopped  atomic.Bool
	requests atomic.Int64
	lost     atomic.Int64
}

func (l *load) run(t *testing.T, addr string, kept, fresh int) {
	one := func(c net.Conn, br *bufio.Reader, path string) (keep bool, err error) {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, get(path)); err != nil {
			return false, err
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return false, err
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			return false, err
		}
		if res.StatusCode != 200 {
			return false, errors.New(res.Status)
		}
		return !res.Close, nil
	}
	worker := func(path string, keepAlive bool) {
		for !l.stopped.Load() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				l.lost.Add(1)
				t.Errorf("dial: %v", err)
				continue
			}
			br := bufio.NewReader(c)
			for keep := true; keep && !l.stopped.Load(); {
				l.requests.Add(1)
				if keep, err = one(c, br, path); err != nil {
					l.lost.Add(1)
					t.Errorf("lost: %v", err)
					keep = false
				}
				keep = keep && keepAlive
			}
			c.Close()
		}
	}
	for i := range kept {
		l.wg.Go(func() { worker([]string{"/", "/slow"}[i%2], true) })
	}
	for range fresh {
		l.wg.Go(func() { worker("/", false) })
	}
}

func (l *load) stop() { l.stopped.Store(true); l.wg.Wait() }

// Two generations serve the same sockets; every one acknowledges every table;
// one leaves under load.
func TestGenerationsTakeOverWithoutLoss(t *testing.T) {
	release := make(chan struct{}) // lets the held request go: until then its generation cannot leave
	backend := func(name string) string {
		return app(t, func(w http.ResponseWriter, q *http.Request) {
			switch q.URL.Path {
			case "/slow":
				time.Sleep(30 * time.Millisecond)
			case "/held":
				<-release
			}
			io.WriteString(w, name)
		})
	}
	h := newHost(t, "web")
	g1 := start(t, Config{Generation: 1, Host: h, DrainGrace: 200 * time.Millisecond, DrainTimeout: time.Minute})
	g1.apply(g1.route(1, time.Second, map[string]float64{"v1": 1}, map[string][]string{"v1": {backend("a")}}))
	addr := h.addr("web")

	held := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + addr + "/held")
		if err == nil {
			resp.Body.Close()
		}
		held <- err
	}()
	eventually(t, "a request is held", func() bool { return g1.report().Connections == 1 })
	var l load
	l.run(t, addr, 6, 2)
	g2 := start(t, Config{Generation: 2, Host: h})
	if v := g2.report().Version; v != 1 {
		t.Errorf("the new generation serves table %d, not the stored one", v)
	}
	two := g1.route(2, time.Second, map[string]float64{"v1": 0.5, "v2": 0.5}, map[string][]string{"v1": {backend("b")}, "v2": {backend("c")}})
	for _, g := range []*running{g1, g2} {
		g.apply(two)
		if v := g.report().Version; v != 2 {
			t.Errorf("version %d", v)
		}
	}
	eventually(t, "both serve", func() bool {
		return g1.traffic("v2").Requests > 20 && g2.traffic("v2").Requests > 20
	})
	if err := g1.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rep := g1.report(); !rep.Draining {
		t.Error("does not say that it drains")
	}
	three := two
	three.Version = 3
	g1.apply(three) // a leaving generation still takes tables
	g2.apply(three)
	close(release)
	if err := <-held; err != nil {
		t.Errorf("the held request: %v", err)
	}
	g1.wait(30 * time.Second)
	before := g2.traffic("v1").Requests
	eventually(t, "the new one goes on", func() bool { return g2.traffic("v1").Requests > before+100 })
	l.stop()
	if l.lost.Load() != 0 || l.requests.Load() < 200 {
		t.Errorf("%d lost of %d", l.lost.Load(), l.requests.Load())
	}
}

func TestGenerationDrainsItsStreams(t *testing.T) {
	t.Parallel()
	closed := make(chan uint16, 1)
	r, _, addr := setup(t, Config{DrainTimeout: 9 * time.Second, DrainGrace: 300 * time.Millisecond}, raw(t, wsApp(closed)))
	c, br := openSocket(t, addr)
	idle := connect(t, addr)
	eventually(t, "both are connected", func() bool { return r.report().Connections == 2 })
	began := time.Now()
	if err := r.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := make(chan time.Duration, 1)
	go func() {
		idle.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("idle connection: %v", err)
		}
		left <- time.Since(began)
	}()
	if op, p, err := readFrame(br); op != 8 || err != nil || uint16(p[0])<<8|uint16(p[1]) != 1001 {
		t.Errorf("%d %q %v", op, p, err)
	} else {
		io.WriteString(c, masked(8, string(p)))
	}
	// By the grace, not by the end of the drain.
	if d := <-left; d < 250*time.Millisecond || d > 6*time.Second {
		t.Errorf("idle connection ended after %v, grace is 300 ms", d)
	}
	if code := <-closed; code != 1001 {
		t.Errorf("the app was closed with %d", code)
	}
	r.wait(20 * time.Second)
}

// Under constant change no request is lost, and none reaches an instance
// after a table without it was acknowledged and its in-flight was seen at 0.
func TestVerifiedDrainIsTrue(t *testing.T) {
	type instance struct {
		addr  string
		dead  atomic.Bool
		after atomic.Int64
	}
	var pool [2]*instance
	for i := range pool {
		in := &instance{}
		in.addr = app(t, func(w http.ResponseWriter, q *http.Request) {
			if in.dead.Load() {
				in.after.Add(1)
			}
			if q.URL.Path == "/slow" {
				time.Sleep(2 * time.Millisecond)
			}
			io.WriteString(w, "ok")
		})
		pool[i] = in
	}
	r, _, addr := setup(t, Config{}, pool[0].addr)
	var l load
	l.run(t, addr, 8, 0)
	rounds := 0
	for v := uint64(2); rounds < 40; v += 2 {
		in, out := pool[rounds%2], pool[1-rounds%2]
		tab := r.route(v, time.Second, map[string]float64{"v1": 1}, map[string][]string{"v1": {in.addr, out.addr}})
		tab.Routes[0].Targets[0].Instance, tab.Routes[0].Targets[1].Instance = in.addr, out.addr
		in.dead.Store(false)
		r.apply(tab)
		r.apply(draining(tab, v+1, time.Minute, out.addr))
		eventually(t, "in flight 0", func() bool { return r.instance(out.addr).InFlight == 0 })
		out.dead.Store(true)
		rounds++
	}
	l.stop()
	for _, in := range pool {
		if n := in.after.Load(); n != 0 {
			t.Errorf("%d requests after in-flight 0 was reported", n)
		}
	}
	if l.lost.Load() != 0 || l.requests.Load() < 40 {
		t.Errorf("%d lost of %d", l.lost.Load(), l.requests.Load())
	}
}

// The end of an event stream comes after the chunk under way.
func TestEventStreamEndsBetweenChunks(t *testing.T) {
	r, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello ")
		io.WriteString(c, "\r\n5\r\nwor")
		time.Sleep(500 * time.Millisecond)
		io.WriteString(c, "ld\r\n3\r\nxxx\r\n")
		io.Copy(io.Discard, br)
	}))
	res, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	r.apply(draining(r.table(), 2, 500*time.Millisecond, "i1"))
	if b, err := io.ReadAll(res.Body); string(b) != "hello world" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	eventually(t, "in flight 0", func() bool { return r.instance("i1").InFlight == 0 })
}

// A table may take a drain back: the instance is picked again, and streams
// that were not asked to end yet live on.
func TestDrainIsTakenBack(t *testing.T) {
	closed := make(chan uint16, 1)
	r, _, addr := setup(t, Config{}, raw(t, func(c net.Conn, br *bufio.Reader) {
		if b, _ := br.Peek(6); string(b) == "GET /w" {
			wsApp(closed)(c, br)
			return
		}
		http.ReadRequest(br)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	}))
	tab := r.table()
	openRaw := connect(t, addr)
	io.WriteString(openRaw, get("/ws", "Connection: upgrade", "Upgrade: raw"))
	eventually(t, "upgraded", func() bool { return r.instance("i1").Upgraded == 1 })
	r.apply(draining(tab, 2, 400*time.Millisecond, "i1"))
	tab.Version = 3
	r.apply(tab)
	time.Sleep(600 * time.Millisecond)
	if i := r.instance("i1"); i.Upgraded != 1 {
		t.Errorf("the stream was ended: %+v", i)
	}
	if code, body, _ := fetch(t, addr); code != 200 || body != "ok" {
		t.Errorf("%d %q", code, body)
	}
}

// An app that closes its listener waits for its connections: those that are
// idle must not keep it.
func TestLeavingInstanceLosesItsIdleConnections(t *testing.T) {
	ended := make(chan struct{}, 1)
	r, _, addr := setup(t, Config{UpstreamIdle: time.Hour}, raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(br); err != nil {
				ended <- struct{}{}
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}))
	fetch(t, addr)
	r.apply(draining(r.table(), 2, time.Minute, "i1"))
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("still open after 20 s of a drain of a minute")
	}
}
