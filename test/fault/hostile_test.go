package fault

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gapless"
	"gapless/test/rig"
)

const (
	goodRequests  = 1000      // beside each attack
	mostMemory    = 256 << 10 // KiB that an edge may take more while it is attacked
	keptMemory    = 192 << 10 // KiB that it may keep of that until its collector runs, which is every two minutes when it idles
	idleMemory    = 40 << 10  // KiB for all idle connections
	idleConnected = 10_000
	othersOpen    = 200 // connections of everybody else meanwhile
)

// attack is what hostile clients do, each on one connection after the other.
type attack struct {
	name    string
	clients int
	one     func(c net.Conn, over <-chan struct{}) // until over is closed, at the latest
}

var attacks = []attack{
	{"slow heads", 300, func(c net.Conn, over <-chan struct{}) {
		for _, s := range strings.SplitAfter("GET / HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("X: y\r\n", 100), "\n") {
			if _, err := io.WriteString(c, s); err != nil || pause(50*time.Millisecond, over) {
				return
			}
		}
	}},
	{"slow bodies", 300, func(c net.Conn, over <-chan struct{}) {
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
		pause(1500*time.Millisecond, over)
	}},
	{"clients that read nothing", 100, func(c net.Conn, over <-chan struct{}) {
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		_, _ = io.WriteString(c, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
		pause(1500*time.Millisecond, over)
	}},
	{"resets", 50, func(c net.Conn, over <-chan struct{}) {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		_ = c.(*net.TCPConn).SetLinger(0)
		pause(5*time.Millisecond, over)
	}},
	{"large heads", 50, func(c net.Conn, over <-chan struct{}) {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 64<<10))
		pause(20*time.Millisecond, over)
	}},
	{"rapid resets of HTTP/2", 10, func(c net.Conn, over <-chan struct{}) {
		fr := http2Client(c)
		head := head2(0)
		for id := uint32(1); id < 4000; id += 2 {
			if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndStream: true, EndHeaders: true}) != nil ||
				fr.WriteRSTStream(id, http2.ErrCodeCancel) != nil || id%200 == 1 && pause(time.Millisecond, over) {
				break
			}
		}
		pause(50*time.Millisecond, over)
	}},
	{"header bombs of HTTP/2", 10, func(c net.Conn, over <-chan struct{}) {
		fr := http2Client(c)
		head := head2(4000)
		for id := uint32(1); id < 20; id += 2 {
			if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndStream: true, EndHeaders: true}) != nil ||
				pause(5*time.Millisecond, over) {
				return
			}
		}
	}},
}

// pause waits and reports whether it is over.
func pause(d time.Duration, over <-chan struct{}) bool {
	select {
	case <-over:
		return true
	case <-time.After(d):
		return false
	}
}

func http2Client(c net.Conn) *http2.Framer {
	_, _ = io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	_ = fr.WriteSettings()
	go func() { _, _ = io.Copy(io.Discard, c) }()
	return fr
}

// head2 is the header block of a GET, with so many references to one large field.
func head2(bombs int) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/large"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for range bombs {
		_ = e.WriteField(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("b", 3000)})
	}
	return b.Bytes()
}

// TestHostileClients attacks the real binary, alone in front of a server, in
// several ways. Good clients beside each attack are served, the memory that
// the attack takes is bounded, and what it took is given back.
func TestHostileClients(t *testing.T) {
	p := startProxy(t)
	p.beside(t, func(over <-chan struct{}) {}) // pools and threads are there
	before := p.quiet(t, func(s rig.Size) bool { return true })
	t.Logf("before: %s", before)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			rig.Eventually(t, 15*time.Second, "nobody is left from before", func() bool {
				return p.size(t).Descriptors <= before.Descriptors+100
			})
			var made atomic.Int64
			most := p.beside(t, func(over <-chan struct{}) {
				var all sync.WaitGroup
				for range a.clients {
					all.Go(func() {
						for !pause(0, over) {
							c, err := net.Dial("tcp", p.address)
							if err != nil {
								pause(10*time.Millisecond, over)
								continue
							}
							made.Add(1)
							_ = c.SetDeadline(time.Now().Add(10 * time.Second))
							a.one(c, over)
							_ = c.Close()
						}
					})
				}
				all.Wait()
			})
			t.Logf("%d attacks; at most %s", made.Load(), most)
			if made.Load() < int64(a.clients) {
				t.Errorf("void: %d attacks by %d clients", made.Load(), a.clients)
			}
			if more := most.Memory - before.Memory; more > mostMemory {
				t.Errorf("the edge took %d KiB more while it was attacked", more)
			}
		})
	}
	t.Run("idle connections", func(t *testing.T) { p.idle(t) })
	after := p.quiet(t, func(s rig.Size) bool {
		return s.Descriptors <= before.Descriptors && s.Memory <= before.Memory+keptMemory
	})
	t.Logf("after: %s", after)
	if after.Descriptors > before.Descriptors {
		t.Errorf("%d descriptors were open before, %d are", before.Descriptors, after.Descriptors)
	}
	if more := after.Memory - before.Memory; more > keptMemory {
		t.Errorf("the edge kept %d KiB", more)
	}
	p.stop(t)
}

// idle opens ten thousand connections that say nothing, or as many as the
// limit of descriptors has room for: the edge keeps one to an instance free
// for each.
func (p *proxy) idle(t *testing.T) {
	before := p.size(t)
	fit := idleConnected
	if limit := int(rig.RaiseDescriptors(t, 2*idleConnected+2*othersOpen+500)); limit < 2*fit+2*othersOpen+128 {
		if fit = (limit-128)/2 - othersOpen; fit < 1000 {
			t.Skipf("the hard limit of descriptors is %d: ten thousand connections need %d", limit, 2*idleConnected+2*othersOpen+128)
		}
		t.Logf("the hard limit of descriptors is %d: %d connections and not ten thousand", limit, fit)
	}
	var mu sync.Mutex
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	var full rig.Size
	most := p.beside(t, func(over <-chan struct{}) {
		var dials sync.WaitGroup
		next := make(chan struct{}, fit)
		for range fit {
			next <- struct{}{}
		}
		close(next)
		for range 64 {
			dials.Go(func() {
				for range next {
					c, err := net.Dial("tcp", p.address)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					open = append(open, c)
					mu.Unlock()
				}
			})
		}
		dials.Wait()
		rig.Eventually(t, 10*time.Second, "all are accepted", func() bool {
			full = p.size(t)
			return full.Descriptors >= fit
		})
		<-over
	})
	each := float64(full.Memory-before.Memory) * 1024 / float64(fit)
	t.Logf("%d idle connections; %s, %.0f bytes for each; at most %s", fit, full, each, most)
	if more := most.Memory - before.Memory; more > idleMemory {
		t.Errorf("the edge took %d KiB more for %d idle connections", more, fit)
	}
}

// proxy is `gapless proxy` in front of a server of the test.
type proxy struct {
	address string
	cmd     *exec.Cmd
	log     *bytes.Buffer
	ended   chan error
}

func startProxy(t *testing.T) *proxy {
	t.Helper()
	rig.RaiseDescriptors(t, 2*idleConnected+2*othersOpen+500) // the edge has it from us
	exe, err := rig.Binary("")
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 4<<20)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/large" {
			_, _ = io.WriteString(w, large)
			return
		}
		_, _ = io.WriteString(w, "good")
	}))
	t.Cleanup(srv.Close)
	p := &proxy{address: rig.FreeAddress(t), log: new(bytes.Buffer), ended: make(chan error, 1)}
	second := gapless.Duration(time.Second)
	table, err := json.Marshal(gapless.Table{Version: 1, Routes: []gapless.Route{{
		App: "web", Listen: []string{p.address}, Path: "/", Stable: "v1",
		Weights:  []gapless.Weight{{Release: "v1", Share: 1}},
		Targets:  []gapless.Target{{Instance: "i1", Release: "v1", Address: srv.Listener.Addr().String()}},
		Probe:    gapless.Health{Interval: 2 * second, Timeout: 2 * second},
		Timeouts: gapless.Timeouts{Head: second, Body: second, Write: second},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "routes.json")
	if err := os.WriteFile(path, table, 0o644); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(exe, "proxy", "--table", path, "--drain", "2s")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	rig.Eventually(t, 10*time.Second, "the proxy serves", func() bool {
		status, body, _, err := get(p.address, "/", time.Second)
		return err == nil && status == 200 && body == "good"
	})
	return p
}

// stop ends the proxy as its user would.
func (p *proxy) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("the proxy ended with %v\n%s", err, p.log)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("the proxy goes on after SIGTERM")
	}
}

func (p *proxy) size(t *testing.T) rig.Size {
	t.Helper()
	s, err := rig.SizeOf(p.cmd.Process.Pid)
	if err != nil {
		t.Errorf("the proxy: %v", err)
	}
	return s
}

// quiet waits a while for the proxy to be as small as is wanted, and at least
// until it has left idle connections to the server.
func (p *proxy) quiet(t *testing.T, small func(rig.Size) bool) rig.Size {
	t.Helper()
	last := p.size(t)
	for begin := time.Now(); ; last = p.size(t) {
		if waited := time.Since(begin); waited > 40*time.Second || waited > 5*time.Second && small(last) {
			return last
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// beside runs hostile clients until good ones had a thousand answers, and
// returns the most that the edge took meanwhile.
func (p *proxy) beside(t *testing.T, hostile func(over <-chan struct{})) (most rig.Size) {
	t.Helper()
	over := make(chan struct{})
	var bad sync.WaitGroup
	bad.Go(func() { hostile(over) })
	var asked, lost atomic.Int64
	var good sync.WaitGroup
	for n := range 8 {
		good.Go(func() {
			var c net.Conn
			var br *bufio.Reader
			for ; !pause(2*time.Millisecond, over); asked.Add(1) {
				err := error(nil)
				if c == nil {
					if c, err = net.DialTimeout("tcp", p.address, 10*time.Second); err == nil {
						br = bufio.NewReader(c)
					}
				}
				if err == nil {
					err = askGood(c, br)
				}
				if err != nil {
					lost.Add(1)
					t.Logf("a good client: %v", err)
				}
				if c != nil && (err != nil || n%2 == 0) { // every second client keeps its connection
					_ = c.Close()
					c = nil
				}
			}
			if c != nil {
				_ = c.Close()
			}
		})
	}
	begin := time.Now()
	for asked.Load() < goodRequests || time.Since(begin) < 1500*time.Millisecond {
		if time.Since(begin) > 60*time.Second {
			t.Errorf("only %d requests of good clients in a minute", asked.Load())
			break
		}
		s := p.size(t)
		most = rig.Size{Memory: max(most.Memory, s.Memory), Threads: max(most.Threads, s.Threads), Descriptors: max(most.Descriptors, s.Descriptors)}
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(begin)
	close(over)
	good.Wait()
	bad.Wait()
	t.Logf("%d good requests in %s, %d lost", asked.Load(), took.Round(time.Millisecond), lost.Load())
	if lost.Load()*1000 > asked.Load() {
		t.Errorf("%d of %d good requests were lost", lost.Load(), asked.Load())
	}
	return most
}

func askGood(c net.Conn, br *bufio.Reader) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "GET /good HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || string(b) != "good") {
		err = fmt.Errorf("status %d, %.40q", res.StatusCode, b)
	}
	return err
}
