package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestTwentyGenerations replaces the edge twenty times, one right after the
// other, while clients of several kinds ask. None of them may lose a request,
// and what the generations counted is together what the clients asked for.
func TestTwentyGenerations(t *testing.T) {
	for _, d := range corpusDrivers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			generations(t, Config{Loops: d.loops, DrainGrace: 300 * time.Millisecond}, 20)
		})
	}
}

func generations(t *testing.T, cfg Config, n int) {
	var served atomic.Int64
	arrived := make(chan string, 1)
	var held sync.Map // what a generation is kept alive with: path → channel
	address := app(t, func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		io.Copy(io.Discard, r.Body)
		if c, ok := held.Load(r.URL.Path); ok {
			arrived <- r.URL.Path
			<-c.(chan struct{})
		}
		if r.URL.Path == "/slow" {
			time.Sleep(150 * time.Millisecond)
		}
		io.WriteString(w, r.URL.Path)
	})
	h := newHost(t, "web")
	cfg.Host, cfg.Generation = h, 1
	r := start(t, cfg)
	r.apply(table1(1, address))
	addr := h.addr("web")

	var asked, lost atomic.Int64
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	ask := func(c net.Conn, br *bufio.Reader, request, want string) (keep bool) {
		asked.Add(1)
		c.SetDeadline(time.Now().Add(30 * time.Second))
		io.WriteString(c, request)
		res, err := http.ReadResponse(br, nil)
		var b []byte
		if err == nil {
			b, err = io.ReadAll(res.Body)
		}
		if err != nil || res.StatusCode != 200 || string(b) != want {
			lost.Add(1)
			t.Errorf("%.40q: %v, %v, %q", request, err, res, b)
			return false
		}
		return !res.Close
	}
	var wg sync.WaitGroup
	client := func(request, want string, kept bool) {
		wg.Go(func() {
			for !stopped() {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					lost.Add(1)
					t.Error(err)
					return
				}
				br := bufio.NewReader(c)
				// A client that pauses for longer than the grace could meet a
				// connection that is being closed; these do not.
				for ask(c, br, request, want) && kept && !stopped() {
					time.Sleep(time.Millisecond)
				}
				c.Close()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for range 4 {
		client(get("/kept"), "/kept", true)
	}
	client("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100_000), "/up", true)
	client("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "/chunks", true)
	client(get("/fresh"), "/fresh", false)
	client(get("/slow"), "/slow", true)
	client(get("/slow"), "/slow", false)
	wg.Go(func() { // HTTP/2, on one connection after the other
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		hc := http.Client{Transport: &http.Transport{Protocols: &p}}
		defer hc.CloseIdleConnections()
		for !stopped() {
			asked.Add(1)
			res, err := hc.Get("http://" + addr + "/two")
			var b []byte
			if err == nil {
				b, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			if err != nil || res.StatusCode != 200 || string(b) != "/two" {
				lost.Add(1)
				t.Errorf("HTTP/2: %v, %v, %q", err, res, b)
			}
			time.Sleep(2 * time.Millisecond)
		}
	})

	var counted uint64
	last := func(old *running, path string, release chan struct{}, ended *sync.WaitGroup) {
		var requests uint64
		eventually(t, "only the held request is left", func() bool {
			rep := old.report()
			requests = 0
			for _, x := range rep.Releases {
				requests += x.Requests
			}
			return rep.Draining && rep.Connections == 1
		})
		counted += requests
		close(release)
		ended.Wait()
		old.wait(10 * time.Second)
	}
	for g := range n {
		path, release := fmt.Sprintf("/held-%d", g), make(chan struct{})
		held.Store(path, release)
		var ended sync.WaitGroup
		ended.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			ask(c, bufio.NewReader(c), get(path), path)
		})
		select {
		case <-arrived:
		case <-time.After(30 * time.Second):
			t.Fatal("the held request did not arrive")
		}
		old := r
		if g == n-1 { // the last one is only drained, when nobody asks any more
			close(stop)
			wg.Wait()
			old.cancel()
			last(old, path, release, &ended)
			break
		}
		cfg.Generation++
		r = start(t, cfg)
		old.cancel()
		last(old, path, release, &ended)
	}
	t.Logf("%d requests asked for, %d served, %d counted by %d generations, %d lost", asked.Load(), served.Load(), counted, n, lost.Load())
	if int64(counted) != asked.Load() || served.Load() < asked.Load() {
		t.Errorf("%d requests were asked for, the generations counted %d and the app %d", asked.Load(), counted, served.Load())
	}
	if asked.Load() < int64(20*n) {
		t.Errorf("void: only %d requests", asked.Load())
	}
}
