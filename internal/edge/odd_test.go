package edge

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless"
)

// oddApp does what its path says, mostly something that it should not.
func oddApp(t *testing.T) string {
	large := strings.Repeat("x", 1<<20)
	return raw(t, func(c net.Conn, r *bufio.Reader) {
		for {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if q.URL.Path != "/early" {
				io.Copy(io.Discard, q.Body)
			}
			say := func(parts ...string) {
				for k, p := range parts {
					if k > 0 {
						time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
					}
					if q.Method != "HEAD" || strings.HasPrefix(p, "HTTP/1.1 ") {
						io.WriteString(c, p)
					}
				}
			}
			const ok, chunks = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			switch q.URL.Path {
			case "/bytes":
				for _, b := range strings.Split(ok+"ok", "") {
					io.WriteString(c, b)
				}
			case "/chunks":
				say(chunks, "1\r\no\r\n", "1\r\nk\r\n", "0\r\n\r\n")
			case "/close":
				say("HTTP/1.1 200 OK\r\n\r\n", "ok")
				return
			case "/reset":
				c.(*net.TCPConn).SetLinger(0)
				return
			case "/cut":
				say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
				return
			case "/cutchunks":
				say(chunks, "5\r\nok")
				return
			case "/cuthead":
				say("HTTP/1.1 200 OK\r\nConte")
				return
			case "/large":
				say("HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(large))+"\r\n\r\n", large)
			case "/stream":
				say(chunks)
				for n := 0; n < len(large); n += 1 << 15 {
					say("8000\r\n" + large[:1<<15] + "\r\n")
				}
				say("0\r\n\r\n")
			case "/hints":
				say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", ok, "ok")
			case "/excess":
				say(ok+"ok", "and more")
			case "/none":
				say("HTTP/1.1 204 No Content\r\n\r\n")
			case "/same":
				say("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n")
			case "/garbage":
				say("HTTP/1.1 garbage\r\n\r\n")
			case "/early":
				say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
				return
			case "/end": // without a word of it
				say(ok + "ok")
				return
			case "/slow":
				time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
				say(ok, "ok")
			case "/hang":
				time.Sleep(900 * time.Millisecond)
				return
			case "/events":
				say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", "data: 1\n\n", "data: 2\n\n")
				return
			case "/wait": // for all of those that are to be here at once
				time.Sleep(500 * time.Millisecond)
				say(ok, "ok")
			default:
				say(ok + "ok")
			}
		}
	})
}

var oddPaths = []string{
	"/", "/", "/", "/bytes", "/chunks", "/close", "/reset", "/cut", "/cutchunks", "/cuthead", "/large", "/stream", "/hints", "/excess",
	"/none", "/same", "/garbage", "/early", "/end", "/slow", "/hang", "/events",
}

// oddRequest makes a request that one of the two drivers may treat unlike others.
func oddRequest(r *rand.Rand) string {
	path := oddPaths[r.IntN(len(oddPaths))]
	switch r.IntN(12) {
	case 0:
		return "HEAD " + path + " HTTP/1.1\r\nHost: a\r\n\r\n"
	case 1:
		return "GET " + path + " HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
	case 2:
		return "GET " + path + " HTTP/1.0\r\nHost: a\r\n\r\n"
	case 3:
		return "GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	case 4:
		return "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n" + strings.Repeat("b", 300)
	case 5:
		return "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n" + strings.Repeat("b", 40000)
	case 6:
		return "POST " + path + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	case 7:
		return "PUT " + path + " HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
	case 8:
		return "GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	}
	return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n"
}

// oddClient sends some requests and ends in some way.
func oddClient(addr string, r *rand.Rand) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	c := nc.(*net.TCPConn)
	c.SetDeadline(time.Now().Add(3 * time.Second))
	s := ""
	for range 1 + r.IntN(4) {
		s += oddRequest(r)
	}
	pause := time.Duration(r.IntN(4)) * 40 * time.Millisecond
	if at := r.IntN(3 * len(s)); at < len(s) {
		io.WriteString(c, s[:at])
		time.Sleep(pause)
		s = s[at:]
		if r.IntN(6) == 0 {
			return nil // in the middle
		}
	}
	go io.WriteString(c, s)
	switch r.IntN(6) {
	case 0:
		time.Sleep(pause)
	case 1:
		time.Sleep(pause)
		c.SetLinger(0)
	case 2:
		time.Sleep(pause)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	case 3:
		var b [1]byte
		for range r.IntN(300) {
			if _, err := c.Read(b[:]); err != nil {
				return nil
			}
		}
	case 4:
		time.Sleep(5 * pause)
		fallthrough
	default:
		c.SetReadDeadline(time.Now().Add(time.Duration(200+r.IntN(1500)) * time.Millisecond))
		io.Copy(io.Discard, c)
	}
	return nil
}

// TestOddOnBothSides: whatever clients and instances do, and tables bring
// meanwhile, every request is counted once, and in the end nothing is left:
// nothing in flight, no connection, no memory, descriptor or goroutine.
func TestOddOnBothSides(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("GAPLESS_TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	for k, d := range corpusDrivers {
		t.Run(d.name, func(t *testing.T) {
			t.Logf("seed %d", seed)
			loops := d.loops
			if loops > 0 {
				loops = 2 // they give each other clients
			}
			odd(t, loops, rand.New(rand.NewPCG(seed, uint64(k))))
		})
	}
}

func odd(t *testing.T, loops int, r *rand.Rand) {
	const clients, room = 80, 100
	goroutines, files := runtime.NumGoroutine(), descriptors()
	h := newHost(t, "web", "side")
	e := start(t, Config{
		Loops: loops, Host: h, AnswerTimeout: 600 * time.Millisecond, WriteTimeout: time.Second, BodyTimeout: time.Second,
		HeaderTimeout: time.Second, Memory: room * exchangeRoom, DrainTimeout: 5 * time.Second, DrainGrace: 100 * time.Millisecond,
	})
	a, b := oddApp(t), oddApp(t)
	version := uint64(0)
	table := func(drains int, listen ...string) {
		version++
		tb := table1(version, a)
		tb.Routes[0].Listen = listen
		tb.Routes[0].Hold = ms(300)
		tb.Routes[0].Balance.NoEject = true
		tb.Routes[0].Weights = []gapless.Weight{{Release: "v1", Share: 0.5}, {Release: "v2", Share: 0.5}}
		tb.Routes[0].Targets = append(tb.Routes[0].Targets, gapless.Target{Instance: "i2", Release: "v2", Address: b})
		if drains >= 0 {
			tb.Routes[0].Targets[drains].Draining = true
			tb.Routes[0].Targets[drains].Drain = ms(200)
		}
		e.apply(tb)
	}
	table(-1, "web", "side")

	end := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	for k := range clients {
		own := rand.New(rand.NewPCG(r.Uint64(), uint64(k)))
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := oddClient(h.addr("web"), own); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := 0; time.Now().Before(end); n++ {
		if n%2 == 0 {
			table(n%3-1, "web", "side")
		} else {
			table(n%3-1, "web")
		}
		time.Sleep(40 * time.Millisecond)
	}
	wg.Wait()
	table(-1, "web")

	eventually(t, "nothing is left", func() bool {
		x := e.report()
		for _, i := range x.Instances {
			if i.InFlight != 0 || i.Upgraded != 0 {
				return false
			}
		}
		return x.Connections == 0
	})
	x := e.report()
	total := uint64(0)
	for _, l := range x.Releases {
		told := uint64(0)
		for _, n := range l.Status {
			told += n
		}
		if told != l.Requests {
			t.Errorf("%s: %d requests, %d have an end: %v", l.Release, l.Requests, told, l.Status)
		}
		total += l.Requests
	}
	t.Logf("%d requests, %+v", total, x.Releases)
	if total < clients {
		t.Errorf("only %d requests", total)
	}

	// All of the room is there again: else some of these were refused.
	for range room - 5 {
		wg.Go(func() {
			c, err := net.Dial("tcp", h.addr("web"))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if code, body := ask(c, bufio.NewReader(c), get("/wait")); code != 200 {
				t.Errorf("afterwards: %d %q", code, body)
			}
		})
	}
	wg.Wait()

	if err := e.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.wait(10 * time.Second)
	e.Close()
	for _, addr := range []string{"web", "side"} {
		h.listeners[addr].Close()
	}
	eventually(t, fmt.Sprintf("there are no more descriptors than %d and the listeners of two apps", files), func() bool { return descriptors() <= files+2 })
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
}

// An instance that answers before it is asked is heard at once: what came
// with the connection is not waited for again.
func TestInstanceThatSpeaksFirst(t *testing.T) {
	t.Parallel()
	drivers(t, func(t *testing.T, cfg Config) {
		cfg.AnswerTimeout = 5 * time.Second
		r, _, addr := setup(t, cfg, raw(t, func(c net.Conn, _ *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			io.Copy(io.Discard, c)
		}))
		var wg sync.WaitGroup
		for range 24 {
			wg.Go(func() {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				for br := bufio.NewReader(c); ; {
					code, body := ask(c, br, get("/"))
					if code != 200 || body != "ok" {
						t.Errorf("%d %q", code, body)
						return
					}
					if r.traffic("v1").Requests > 1500 || t.Failed() {
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

// The whole time of a request also ends an answer of which a goroutine took
// over the rest.
func TestTotalTimeOfSlowReaders(t *testing.T) { eachDriver(t, checkTotalTimeOfSlowReaders) }

func checkTotalTimeOfSlowReaders(t *testing.T, loops int) {
	const size = 8 << 20 // more than sockets take
	r, _, addr := limited(t, Config{Loops: loops}, raw(t, func(c net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+strconv.FormatInt(size, 16)+"\r\n"+strings.Repeat("x", size)+"\r\n")
		io.Copy(io.Discard, c)
	}), func(r *gapless.Route) { r.Timeouts.Total = ms(2500) })
	c := connect(t, addr)
	io.WriteString(c, get("/"))
	time.Sleep(200 * time.Millisecond) // until the socket is full
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := io.Copy(io.Discard, c)
	if n < size || err == nil || os.IsTimeout(err) {
		t.Errorf("%d bytes, then %v, want a reset after %d", n, err, size)
	}
	eventually(t, "it is a failure of the instance", func() bool { return r.traffic("v1").Failed == 1 })
}

// What a route makes of a request holds also where only a goroutine can reach
// the instance.
func TestHandedOverAsTheRouteHasIt(t *testing.T) {
	drivers(t, func(t *testing.T, cfg Config) {
		target, ca := overTLS(t, false, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.RequestURI, " ", len(r.Header.Get("Traceparent")), " ", r.Header.Get("X-Forwarded-For"))
		})
		_, _, addr := limited(t, cfg, "https:"+target, func(r *gapless.Route) {
			r.Path, r.Strip = "/shop", []string{"v1"}
			r.UpstreamTLS = &gapless.UpstreamTLS{CAFile: ca, ServerName: "example.com"}
		})
		c := connect(t, addr)
		if code, body := ask(c, bufio.NewReader(c), get("/shop/x?y", "X-Forwarded-For: 192.0.2.1")); code != 200 || body != "/x?y 55 192.0.2.1, 127.0.0.1" {
			t.Errorf("%d %q", code, body)
		}
	})
}
