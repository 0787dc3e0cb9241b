package edge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestHostileClients: whatever some clients do, others are served, and when
// they have gone nothing is left of them.
func TestHostileClients(t *testing.T) {
	for _, d := range corpusDrivers {
		t.Run(d.name, func(t *testing.T) { hostile(t, Config{Loops: d.loops}) })
	}
}

func hostile(t *testing.T, cfg Config) {
	cfg.HeaderTimeout, cfg.BodyTimeout, cfg.WriteTimeout = time.Second, time.Second, time.Second
	large := strings.Repeat("x", 4<<20)
	r, _, addr := setup(t, cfg, app(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/large" {
			io.WriteString(w, large)
			return
		}
		io.WriteString(w, "good")
	}))
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return nil
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		return c
	}
	for _, attack := range []struct {
		name  string
		times int
		one   func(c net.Conn)
	}{
		{"slow heads", 200, func(c net.Conn) {
			for _, s := range strings.SplitAfter("GET / HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("X: y\r\n", 100), "\n") {
				if _, err := io.WriteString(c, s); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}},
		{"slow bodies", 200, func(c net.Conn) {
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
			io.Copy(io.Discard, c)
		}},
		{"idle connections", 1000, func(c net.Conn) { time.Sleep(time.Second) }},
		{"clients that read nothing", 50, func(c net.Conn) {
			c.(*net.TCPConn).SetReadBuffer(4096)
			io.WriteString(c, get("/large"))
			time.Sleep(2 * time.Second)
		}},
		{"half-closed", 200, func(c net.Conn) {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n")
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		}},
		{"resets", 1000, func(c net.Conn) {
			io.WriteString(c, get("/large"))
			c.(*net.TCPConn).SetLinger(0)
		}},
		{"large heads", 200, func(c net.Conn) {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 64<<10))
			io.Copy(io.Discard, c)
		}},
		{"tiny chunks", 20, func(c net.Conn) {
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 200 {
				if _, err := io.WriteString(c, strings.Repeat("1\r\nx\r\n", 20)); err != nil {
					return
				}
			}
		}},
		{"rapid resets of HTTP/2", 20, func(c net.Conn) {
			fr := preface2(c)
			go io.Copy(io.Discard, c)
			head := encoded(func(e *hpack.Encoder) {})
			for id := uint32(1); id < 2000; id += 2 {
				if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndStream: true, EndHeaders: true}) != nil ||
					fr.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					return
				}
			}
		}},
		{"continuations without end", 20, func(c net.Conn) {
			fr := preface2(c)
			go io.Copy(io.Discard, c)
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: encoded(func(*hpack.Encoder) {})})
			more := make([]byte, 0, 8000)
			for range 100 {
				more = append(more, 0x00, 1, 'x', 1, 'y')
			}
			for range 500 {
				if fr.WriteContinuation(1, false, more) != nil {
					return
				}
			}
		}},
		{"header bombs", 20, func(c net.Conn) {
			fr := preface2(c)
			go io.Copy(io.Discard, c)
			head := encoded(func(e *hpack.Encoder) {
				e.WriteField(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("b", 3000)})
				for range 4000 {
					e.WriteField(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("b", 3000)})
				}
			})
			for id := uint32(1); id < 20; id += 2 {
				if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndStream: true, EndHeaders: true}) != nil {
					return
				}
			}
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			eventually(t, "nobody is left from before", func() bool { return r.report().Connections == 0 })
			routines := runtime.NumGoroutine()
			stop := make(chan struct{})
			var good, bad atomic.Int64
			var beside, attackers sync.WaitGroup
			for range 4 {
				beside.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						if c := dial(); c != nil {
							io.WriteString(c, get("/good", "Connection: close"))
							res, err := http.ReadResponse(bufio.NewReader(c), nil)
							if err == nil && res.StatusCode == 200 {
								good.Add(1)
							} else {
								bad.Add(1)
								t.Errorf("a good client got %v, %v", res, err)
							}
							c.Close()
						}
						time.Sleep(2 * time.Millisecond)
					}
				})
			}
			for range attack.times {
				attackers.Go(func() {
					if c := dial(); c != nil {
						defer c.Close()
						attack.one(c)
					}
				})
			}
			attackers.Wait()
			close(stop)
			beside.Wait()
			eventually(t, "the edge has let go of them", func() bool { return r.report().Connections == 0 })
			eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= routines+20 })
			var mem runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&mem)
			t.Logf("%d good requests, %d bad; heap %d MB, %d descriptors", good.Load(), bad.Load(), mem.HeapAlloc>>20, descriptors())
			if mem.HeapAlloc > 128<<20 {
				t.Errorf("%d MB are left on the heap", mem.HeapAlloc>>20)
			}
			if good.Load() == 0 {
				t.Error("void: no good request")
			}
		})
	}
}

func preface2(c net.Conn) *http2.Framer {
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.WriteSettings()
	return fr
}

// encoded is a header block of a GET, and more.
func encoded(more func(*hpack.Encoder)) []byte {
	var b strings.Builder
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}} {
		e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	more(e)
	return []byte(b.String())
}

func descriptors() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}
