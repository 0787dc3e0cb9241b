package edge

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gapless/internal/edge/h1"
	"gapless/internal/edge/xconnect"
)

func init() { xconnect.Restore() } // the two libraries have looked at it

// asksForSocket reports whether r is the extended CONNECT of a WebSocket.
func asksForSocket(r *http.Request) bool {
	return r.Method == http.MethodConnect && r.Header.Get(":protocol") == "websocket"
}

// newSocketKey makes what an instance is asked with; a client on HTTP/2 sends
// none: RFC 8441 5.1.
func newSocketKey() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.StdEncoding.EncodeToString(b[:])
}

// socketAccept is what an instance must answer to a key: RFC 6455 4.2.2.
func socketAccept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// appendUpgrade ends the head of a request for a WebSocket.
func appendUpgrade(out []byte, key string) []byte {
	out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "...)
	out = append(out, key...)
	return append(out, "\r\n\r\n"...)
}

// agreed reports whether a 101 is what the client asked for.
func (x *exchange) agreed() bool {
	s, ok := x.client.(*stream2)
	if !ok || !x.req.Upgrade {
		return x.req.Upgrade
	}
	return s.key != "" && x.resp.WebSocket && string(x.resp.Value("sec-websocket-accept")) == socketAccept(s.key)
}

// declined reports whether the instance answered a WebSocket over HTTP/2 as if
// it were an ordinary request. The client would take any 2xx for a tunnel.
func (x *exchange) declined() bool {
	if x.resp.Status/100 != 2 {
		return false
	}
	s, ok := x.client.(*stream2)
	return ok && s.key != ""
}

// decline says so. The instance did nothing wrong.
func (x *exchange) decline(i *instance) outcome {
	x.headed(i)
	x.say(own{status: 502, code: "no_websocket", text: anInstance + " answered " + strconv.Itoa(x.resp.Status) + " where a WebSocket was asked for"})
	return answered
}

// socket2 is the client's end of a WebSocket over HTTP/2: the bytes of a stream.
type socket2 struct {
	x     *exchange
	s     *stream2
	up    *upstream
	ended atomic.Bool // the instance has ended, so the stream does

	mu   sync.Mutex // what is written to the stream
	over bool       // the library's side must not be touched any more
}

// openTunnel implements switcher: 101 is 200 in HTTP/2.
func (s *stream2) openTunnel(x *exchange, u *upstream) (end, *reader, error) {
	k := &socket2{x: x, s: s, up: u}
	s.socket.Store(k)
	if s.watch.gone.Load() { // before there was a socket to close
		return nil, nil, errStreamOver
	}
	h := s.w.Header()
	for name, value := range x.resp.Fields {
		if !strings.EqualFold(string(name), "Sec-WebSocket-Accept") {
			h.Add(string(name), string(value))
		}
	}
	for name, value := range (h1.Answer{Lines: x.lines()}).Further {
		h.Add(string(name), string(value))
	}
	for _, name := range []string{"Content-Type", "Date"} {
		if h[name] == nil {
			h[name] = nil // as the instance sent it, nothing guessed
		}
	}
	s.w.WriteHeader(http.StatusOK)
	if _, err := k.Write(nil); err != nil {
		return nil, nil, err
	}
	return k, &reader{conn: k}, nil
}

var errStreamOver = errors.New("the stream is over")

func (k *socket2) Read(p []byte) (int, error) {
	n, err := k.s.r.Body.Read(p)
	switch {
	case err == nil || n > 0:
		return n, nil
	case err != io.EOF && k.ended.Load():
		return 0, io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded): // it cannot be taken back
		return 0, errStreamOver
	}
	return 0, err
}

// Write sends p at once.
func (k *socket2) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return 0, errStreamOver
	}
	k.s.watch.writeDue.Store(k.x.writeBy())
	defer k.s.watch.writeDue.Store(0)
	n, err := k.s.w.Write(p)
	if err == nil {
		err = k.s.rc.Flush()
	}
	return n, err
}

// CloseWrite is called when the instance has ended. A stream ends on both
// sides when its handler returns; what the client has sent goes through first.
func (k *socket2) CloseWrite() error {
	k.ended.Store(true)
	k.up.SetWriteDeadline(time.Now().Add(endAfter))
	return k.SetReadDeadline(past)
}

// Close resets the stream, unless it is ending in order.
func (k *socket2) Close() error {
	if k.ended.Load() {
		return nil
	}
	if !k.s.watch.gone.Load() { // nobody is told of a reset of their own
		k.SetWriteDeadline(past)
	}
	return k.SetReadDeadline(past)
}

func (k *socket2) SetReadDeadline(t time.Time) error {
	return k.s.still(func() error { return k.s.rc.SetReadDeadline(t) })
}

func (k *socket2) SetWriteDeadline(t time.Time) error {
	return k.s.still(func() error { return k.s.rc.SetWriteDeadline(t) })
}

// finish waits until nothing is being written, and lets nothing follow.
func (k *socket2) finish() {
	k.mu.Lock()
	k.over = true
	k.mu.Unlock()
}

// still calls f unless the stream is over for the library.
func (s *stream2) still(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return errStreamOver
	}
	return f()
}
