package edge

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless"
)

// TestMain lets more tests run at once than there are processors: most of them
// wait most of the time. What the command line says still holds.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// host holds listening sockets as the keeper does.
type host struct {
	mu        sync.Mutex
	listeners map[string]*net.TCPListener
	saved     []byte
	saveErr   error
}

func newHost(t testing.TB, addrs ...string) *host {
	h := &host{listeners: map[string]*net.TCPListener{}}
	for _, a := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h.listeners[a] = l.(*net.TCPListener)
		t.Cleanup(func() { l.Close() })
	}
	return h
}

func (h *host) Listener(_ context.Context, addr string) (net.Listener, error) {
	l := h.listeners[addr]
	if l == nil {
		return nil, fmt.Errorf("%s is not held", addr)
	}
	f, err := l.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

func (h *host) Save(_ context.Context, b []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.saveErr != nil {
		return h.saveErr
	}
	h.saved = append([]byte(nil), b...)
	return nil
}

func (h *host) Load(context.Context) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.saved, nil
}

func (h *host) addr(name string) string { return h.listeners[name].Addr().String() }

// running is an edge generation under test.
type running struct {
	*Client
	t      testing.TB
	cancel context.CancelFunc
	ended  chan error
	socket string
	last   gapless.Table
}

func start(t testing.TB, cfg Config) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "edge")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Socket = filepath.Join(dir, "edge.sock")
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, cancel: cancel, ended: make(chan error, 1), socket: cfg.Socket}
	go func() { r.ended <- Run(ctx, cfg) }()
	eventually(t, "the control socket answers", func() bool {
		r.Client, err = Dial(t.Context(), cfg.Socket)
		return err == nil
	})
	t.Cleanup(func() {
		cancel()
		r.Close()
		os.RemoveAll(dir)
	})
	return r
}

// wait fails the test unless the edge ends within d.
func (r *running) wait(d time.Duration) {
	r.t.Helper()
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("Run: %v", err)
		}
	case <-time.After(d):
		r.t.Errorf("the edge did not end within %v", d)
	}
}

func (r *running) apply(table gapless.Table) {
	r.t.Helper()
	if err := r.Apply(r.t.Context(), table); err != nil {
		r.t.Fatalf("apply table %d: %v", table.Version, err)
	}
	r.last = table
}

func (r *running) report() gapless.EdgeReport {
	r.t.Helper()
	rep, err := r.Report(r.t.Context())
	if err != nil {
		r.t.Fatalf("report: %v", err)
	}
	return rep
}

func (r *running) instance(id string) gapless.InstanceTraffic {
	for _, i := range r.report().Instances {
		if i.Instance == id {
			return i
		}
	}
	return gapless.InstanceTraffic{}
}

func (r *running) traffic(release string) gapless.ReleaseTraffic {
	for _, x := range r.report().Releases {
		if x.Release == release {
			return x
		}
	}
	return gapless.ReleaseTraffic{}
}

// eventually polls until ok, at most half a minute: the machine may be busy.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// app starts an HTTP/1.1 backend and returns its address.
func app(t testing.TB, h http.HandlerFunc) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// raw starts a backend that answers each connection with do.
func raw(t testing.TB, do func(c net.Conn, r *bufio.Reader)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				do(c, bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}

// table1 routes everything on "web" to one instance of v1.
func table1(version uint64, address string) gapless.Table {
	return gapless.Table{Version: version, Routes: []gapless.Route{{
		App: "shop", Listen: []string{"web"}, Path: "/", Stable: "v1",
		Weights: []gapless.Weight{{Release: "v1", Share: 1}},
		Targets: []gapless.Target{{Instance: "i1", Release: "v1", Address: address}},
		Hold:    gapless.Duration(2 * time.Second),
		Probe:   gapless.Health{Interval: gapless.Duration(time.Hour)},
	}}}
}

// setup starts an edge that routes to one backend, and returns its address.
func setup(t testing.TB, cfg Config, address string) (*running, *host, string) {
	h := newHost(t, "web")
	cfg.Host = h
	r := start(t, cfg)
	r.apply(table1(1, address))
	return r, h, h.addr("web")
}

// send writes a raw request on a new connection and returns all that comes
// back until the connection ends or says nothing for a while.
func send(t testing.TB, addr, request string) string {
	t.Helper()
	c := connect(t, addr)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("read answer to %.60q: %v (got %.200q)", request, err, b)
	}
	return string(b)
}

func connect(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func get(path string, fields ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: shop.test\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

// addressed dials one address whatever the name.
type addressed struct{ addr string }

func (a *addressed) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, a.addr)
}
