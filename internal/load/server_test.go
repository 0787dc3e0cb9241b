package load

import (
	"bufio"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// app is a correct server. Each func field that is set replaces one part of it
// with a faulty one.
type app struct {
	release string
	hits    atomic.Int64 // how often a planted fault happened

	hello   http.HandlerFunc                              // GET /
	slow    http.HandlerFunc                              // GET /slow
	cart    http.HandlerFunc                              // GET /cart
	upload  http.HandlerFunc                              // POST /upload
	events  http.HandlerFunc                              // GET /events
	ws      http.HandlerFunc                              // GET /ws
	message func(c *serverSocket, n int, text string)     // instead of the n-th echo of a WebSocket
	accept  func(n int64, c net.Conn) (refuse bool)       // on each new connection
	wrap    func(http.ResponseWriter, *http.Request) bool // before anything; true: done
}

// start serves a on a loopback port until the test ends and returns its URL.
func (a *app) start(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: a, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(&listener{Listener: l, accept: a.accept})
	t.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String()
}

type listener struct {
	net.Listener
	n      atomic.Int64
	accept func(n int64, c net.Conn) bool
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.accept == nil || !l.accept(l.n.Add(1), c) {
			return c, err
		}
	}
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Release", a.release)
	w.Header().Set("X-Instance", "i1")
	if a.wrap != nil && a.wrap(w, r) {
		return
	}
	pick := func(faulty, good http.HandlerFunc) {
		if faulty != nil {
			good = faulty
		}
		good(w, r)
	}
	switch r.URL.Path {
	case "/":
		pick(a.hello, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello %s\n", a.release) })
	case "/cart":
		pick(a.cart, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "cart %s\n", a.release) })
	case "/slow":
		pick(a.slow, func(w http.ResponseWriter, r *http.Request) {
			ms, _ := strconv.Atoi(r.FormValue("ms"))
			time.Sleep(time.Duration(ms) * time.Millisecond)
			fmt.Fprintf(w, "slow %d %s\n", ms, a.release)
		})
	case "/upload":
		pick(a.upload, func(w http.ResponseWriter, r *http.Request) {
			h := sha256.New()
			n, err := io.Copy(h, r.Body)
			if err == nil {
				fmt.Fprintf(w, "%d %x\n", n, h.Sum(nil))
			}
		})
	case "/events":
		pick(a.events, a.fiveEvents)
	case "/ws":
		pick(a.ws, a.socket)
	default:
		http.NotFound(w, r)
	}
}

// fiveEvents is a stream that ends cleanly.
func (a *app) fiveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := 1; i <= 5 && r.Context().Err() == nil; i++ {
		fmt.Fprintf(w, "id: %d\ndata: %d %s\n\n", i, i, a.release)
		w.(http.Flusher).Flush()
		time.Sleep(20 * time.Millisecond)
	}
}

// serverSocket is the server's end of a WebSocket.
type serverSocket struct {
	net.Conn
	in *bufio.Reader
}

func (s *serverSocket) send(op byte, payload []byte) {
	s.Write(append([]byte{0x80 | op, byte(len(payload))}, payload...))
}

// next returns the next frame of the client.
func (s *serverSocket) next() (op byte, text string, err error) {
	var h [6]byte
	if _, err := io.ReadFull(s.in, h[:]); err != nil {
		return 0, "", err
	}
	if h[1]&0x80 == 0 {
		return 0, "", fmt.Errorf("client frame without a mask")
	}
	p := make([]byte, h[1]&0x7f)
	_, err = io.ReadFull(s.in, p)
	for i := range p {
		p[i] ^= h[2+i&3]
	}
	return h[0] & 0x0f, string(p), err
}

func (a *app) socket(w http.ResponseWriter, r *http.Request) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer nc.Close()
	s := &serverSocket{nc, rw.Reader}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(s, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Accept: %s\r\nX-Release: %s\r\nX-Instance: i1\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]), a.release)
	s.send(opText, []byte("hello "+a.release))
	s.send(opPing, []byte("are you there"))
	for n := 1; ; {
		op, text, err := s.next()
		switch {
		case err != nil:
			return
		case op == opClose:
			s.send(opClose, []byte(text))
			return
		case op == opPong:
		case a.message != nil:
			a.message(s, n, text)
			n++
		default:
			s.send(opText, []byte(text))
		}
	}
}

// every lets each n-th request of a handler meet the fault.
func (a *app) every(n int64, fault http.HandlerFunc) http.HandlerFunc {
	var count atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if count.Add(1)%n != 0 {
			fmt.Fprintf(w, "hello %s\n", a.release)
			return
		}
		a.hits.Add(1)
		fault(w, r)
	}
}

// always lets every request meet the fault.
func (a *app) always(fault http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a.hits.Add(1)
		fault(w, r)
	}
}

// first lets the first request meet the fault; the others are answered by then.
func (a *app) first(fault, then http.HandlerFunc) http.HandlerFunc {
	var met atomic.Bool
	return func(w http.ResponseWriter, r *http.Request) {
		if met.Swap(true) {
			then(w, r)
			return
		}
		a.hits.Add(1)
		fault(w, r)
	}
}

// third lets the third message of each WebSocket meet the fault.
func (a *app) third(fault func(c *serverSocket, text string)) func(*serverSocket, int, string) {
	return func(c *serverSocket, n int, text string) {
		if n != 3 {
			c.send(opText, []byte(text))
			return
		}
		a.hits.Add(1)
		fault(c, text)
	}
}

// hangUp takes the connection from net/http, writes what is given and closes it.
func hangUp(w http.ResponseWriter, reset bool, text string) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	io.WriteString(c, text)
	if reset {
		c.(*net.TCPConn).SetLinger(0)
	}
	c.Close()
}
