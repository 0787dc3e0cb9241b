package load

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// Every planted fault is seen, as often as it happened, and in its own class.
func TestFaultsAreSeen(t *testing.T) {
	ka := Mix{KeepAlive: 200, KeepAliveClients: 4}
	fresh := Mix{Fresh: 200}
	h2 := Mix{H2C: 200}
	up := Mix{Upload: 30, UploadSize: 64 << 10, UploadTime: 50 * time.Millisecond}
	ws := Mix{WebSockets: 2}
	sse := Mix{SSE: 1}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, s) }
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, "oops", code) }
	}
	raw := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { hangUp(w, false, s) }
	}
	reset := func(w http.ResponseWriter, r *http.Request) { hangUp(w, true, "") }
	forever := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, s)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}
	closing := func(code ...byte) func(*serverSocket, string) {
		return func(c *serverSocket, _ string) { c.send(opClose, code) }
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	const whole = ok + "Content-Length: 9\r\nX-Release: v1\r\n\r\nhello v1\n"

	tests := []struct {
		name  string
		mix   Mix
		class string
		plant func(*app)
	}{
		{"every 50th connection is reset", fresh, Reset, func(a *app) {
			a.accept = func(n int64, c net.Conn) bool {
				if n%50 != 0 {
					return false
				}
				a.hits.Add(1)
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
				return true
			}
		}},
		{"reset after the request was read", ka, Reset, func(a *app) { a.hello = a.every(7, reset) }},
		{"closed without notice after the request was written", ka, Closed, func(a *app) { a.hello = a.every(7, raw("")) }},
		{"closed within the head", ka, Truncated, func(a *app) { a.hello = a.every(7, raw(ok+"Conte")) }},
		{"body shorter than its length", ka, Truncated, func(a *app) { a.hello = a.every(7, raw(ok+"Content-Length: 99\r\n\r\nhello v1\n")) }},
		{"chunked body without its end", fresh, Truncated, func(a *app) {
			a.hello = a.every(7, raw(ok+"Transfer-Encoding: chunked\r\n\r\n9\r\nhello v1\n\r\n"))
		}},
		{"body without a length", fresh, Malformed, func(a *app) { a.hello = a.every(7, raw(ok+"\r\nhello v1\n")) }},
		{"two answers to one request", ka, Malformed, func(a *app) { a.hello = a.every(7, raw(whole+whole)) }},
		{"not HTTP", ka, Malformed, func(a *app) { a.hello = a.every(7, raw("hello v1\r\n\r\n")) }},
		{"never answered", ka, Hang, func(a *app) {
			a.hello = a.every(7, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}},
		{"never answered to the end", fresh, Hang, func(a *app) { a.hello = a.every(7, forever("hello")) }},
		{"500", ka, "status_500", func(a *app) { a.hello = a.every(7, status(500)) }},
		{"404", fresh, "status_404", func(a *app) { a.hello = a.every(7, http.NotFound) }},
		{"redirect", fresh, "status_302", func(a *app) {
			a.hello = a.every(7, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) })
		}},
		{"wrong body", ka, WrongBody, func(a *app) { a.hello = a.every(7, text("good day\n")) }},
		{"body of another release than the headers", ka, WrongBody, func(a *app) { a.hello = a.every(7, text("hello v2\n")) }},
		{"empty body", ka, WrongBody, func(a *app) { a.hello = a.every(7, text("")) }},

		{"HTTP/2: 500", h2, "status_500", func(a *app) { a.hello = a.every(7, status(500)) }},
		{"HTTP/2: stream reset", h2, Reset, func(a *app) {
			a.hello = a.every(7, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}},
		{"HTTP/2: never answered", h2, Hang, func(a *app) {
			a.hello = a.every(7, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}},

		{"slow request cut off", Mix{Slow: 30, SlowTime: 100 * time.Millisecond}, Closed, func(a *app) {
			a.slow = a.always(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(20 * time.Millisecond)
				hangUp(w, false, "")
			})
		}},
		{"slow request answered too early", Mix{Slow: 30, SlowTime: 100 * time.Millisecond}, WrongBody, func(a *app) {
			a.slow = a.always(text("slow 1 v1\n"))
		}},
		{"path of another release", Mix{Path: 200}, WrongBody, func(a *app) { a.cart = a.always(text("cart v0\n")) }},
		{"path that fails", Mix{Path: 200}, "status_500", func(a *app) {
			a.cart = a.always(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
		}},
		{"upload with a lost byte", up, WrongBody, func(a *app) {
			a.upload = a.always(func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				fmt.Fprintf(w, "%d %064x\n", n-1, 0)
			})
		}},
		{"upload reset half way", up, Reset, func(a *app) {
			a.upload = a.always(func(w http.ResponseWriter, r *http.Request) {
				io.CopyN(io.Discard, r.Body, 16<<10)
				hangUp(w, true, "")
			})
		}},
		{"upload refused early", up, "status_503", func(a *app) { a.upload = a.always(status(503)) }},
		{"upload answered before it was sent", up, WrongBody, func(a *app) { a.upload = a.always(text("fine\n")) }},

		{"WebSocket ends without a close frame", ws, "ws_1006", func(a *app) {
			a.message = a.third(func(c *serverSocket, _ string) { c.Close() })
		}},
		{"WebSocket reset", ws, "ws_1006", func(a *app) {
			a.message = a.third(func(c *serverSocket, _ string) { c.Conn.(*net.TCPConn).SetLinger(0); c.Close() })
		}},
		{"WebSocket cut within a frame", ws, "ws_1006", func(a *app) {
			a.message = a.third(func(c *serverSocket, _ string) { c.Write([]byte{0x81, 5, 'x'}); c.Close() })
		}},
		{"WebSocket closed with 1000", ws, "ws_1000", func(a *app) { a.message = a.third(closing(1000>>8, 1000&255)) }},
		{"WebSocket closed with 1011", ws, "ws_1011", func(a *app) { a.message = a.third(closing(1011>>8, 1011&255)) }},
		{"WebSocket closed without a code", ws, "ws_1005", func(a *app) { a.message = a.third(closing()) }},
		{"WebSocket masked by the server", ws, Malformed, func(a *app) {
			a.message = a.third(func(c *serverSocket, _ string) { c.Write([]byte{0x81, 0x81, 0, 0, 0, 0, 'x'}) })
		}},
		{"WebSocket echoes wrong", ws, WrongBody, func(a *app) {
			a.message = a.third(func(c *serverSocket, s string) { c.send(opText, []byte(s+"?")) })
		}},
		{"WebSocket echoes twice", ws, WrongBody, func(a *app) {
			a.message = a.third(func(c *serverSocket, s string) { c.send(opText, []byte(s)); c.send(opText, []byte(s)) })
		}},
		{"WebSocket leaves an echo out", ws, WrongBody, func(a *app) { a.message = a.third(func(*serverSocket, string) {}) }},
		{"WebSocket falls silent", Mix{WebSockets: 1}, Hang, func(a *app) {
			a.ws = a.first(func(w http.ResponseWriter, r *http.Request) {
				mute := &app{release: "v1", message: func(*serverSocket, int, string) {}}
				mute.socket(w, r)
			}, a.socket)
		}},
		{"WebSocket refused with 503", ws, "status_503", func(a *app) { a.ws = a.always(status(503)) }},
		{"WebSocket key not answered", ws, Malformed, func(a *app) {
			a.ws = a.always(raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"))
		}},

		{"events without the end of the body", sse, Truncated, func(a *app) {
			a.events = a.first(raw(ok+"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nid: 1\ndata: 1 v1\r\n"), a.fiveEvents)
		}},
		{"the stream is reset", sse, Reset, func(a *app) {
			a.events = a.first(func(w http.ResponseWriter, r *http.Request) {
				hangUp(w, true, "")
			}, a.fiveEvents)
		}},
		{"the stream ends within an event", sse, Truncated, func(a *app) {
			a.events = a.first(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "data: 1 v1\n\ndata: 2")
			}, a.fiveEvents)
		}},
		{"an event is missing", sse, WrongBody, func(a *app) {
			a.events = a.first(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				forever("data: 1 v1\n\ndata: 3 v1\n\n")(w, r)
			}, a.fiveEvents)
		}},
		{"no events", sse, Hang, func(a *app) {
			a.events = a.first(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				forever("data: 1 v1\n\n")(w, r)
			}, a.fiveEvents)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := &app{release: "v1"}
			tt.plant(a)
			timeout := 10 * time.Second
			if tt.class == Hang {
				timeout = time.Second
			}
			r, err := Start(t.Context(), Config{URL: a.start(t), Mix: tt.mix, Timeout: timeout})
			if err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(20 * time.Second)
			for r.Report().Dropped+r.Report().Bad == 0 && time.Now().Before(deadline) {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(200 * time.Millisecond) // some more of the same
			rep := r.Stop()
			want := int(a.hits.Load())
			if want == 0 {
				t.Fatalf("void: the fault did not happen\n%v", rep)
			}
			if rep.Errors[tt.class] != want || rep.Dropped+rep.Bad != want {
				t.Errorf("%d faults happened, want all in class %s:\n%v", want, tt.class, rep)
			}
			if (rep.Dropped > 0) != Dropped(tt.class) {
				t.Errorf("%d dropped, %d bad for class %s", rep.Dropped, rep.Bad, tt.class)
			}
			bad := 0
			for _, s := range r.Samples() {
				if s.Err != "" {
					bad++
				}
			}
			if bad != want {
				t.Errorf("%d bad samples kept, want %d", bad, want)
			}
		})
	}
}
