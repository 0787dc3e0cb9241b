package edge

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gapless/internal/edge/h1"
)

// preface takes a connection over that began as HTTP/2 does, if it did.
// net/http does the framing of HTTP/2 and nothing else: each stream becomes an
// exchange of the core.
func (c *conn) preface(buf *buffer, n int) {
	e := c.edge
	first := append([]byte(nil), buf[:n]...)
	putBuffer(buf)
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for len(first) < len(preface) && strings.HasPrefix(preface, string(first)) {
		var more [len(preface)]byte
		c.SetReadDeadline(time.Now().Add(c.gate.headTime()))
		n, err := c.Read(more[:])
		if err != nil {
			return
		}
		first = append(first, more[:n]...)
	}
	if !strings.HasPrefix(string(first), preface) {
		if c.tls != nil { // the client has agreed to HTTP/2: it is told in it
			c.Write([]byte(notHTTP2))
			return
		}
		c.Write(appendOwn(nil, badRequest(&h1.Refusal{Status: 400, Reason: "malformed first line"}), false, true))
		return
	}
	c.SetReadDeadline(time.Time{})
	e.forget(c)
	ended := make(chan struct{})
	f := &farewell{Conn: c.Conn, first: first}
	k := newCalm(f)
	l := &single{conn: k, closed: make(chan struct{})}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	// A server per connection: it can be told to say GOAWAY at any moment,
	// also when it began after the drain did.
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Context().Err() != nil {
				panic(http.ErrAbortHandler) // reset before its turn came
			}
			c.stream(w, r)
			if r.Context().Err() == nil {
				k.answered.Add(1)
			}
		}),
		Protocols:         &protocols,
		IdleTimeout:       c.gate.idleTime(),
		ReadHeaderTimeout: c.gate.headTime(),
		MaxHeaderBytes:    maxHead,
		HTTP2:             e.bounds2(),
		BaseContext:       func(net.Listener) context.Context { return e.ctx },
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(ended)
				l.Close()
			}
		},
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-e.drained:
			time.Sleep(50 * time.Millisecond) // it may have begun just now
			if f.leave() == nil {
				select { // what is on its way arrives
				case <-time.After(e.cfg.DrainGrace):
				case <-stop:
				}
			}
			srv.Shutdown(e.ctx)
		case <-stop:
		}
	}()
	cut := context.AfterFunc(e.ctx, func() { c.Close() })
	defer cut()
	srv.Serve(l) // returns when the connection has ended, or GOAWAY was said
	if l.given {
		<-ended
	}
}

// bounds2 is what one HTTP/2 connection may take of the edge.
func (e *Edge) bounds2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          250,
		MaxReadFrameSize:              64 << 10, // each connection keeps a buffer for the largest that came
		MaxReceiveBufferPerConnection: 1 << 20,
		MaxReceiveBufferPerStream:     512 << 10, // one upload that nobody reads does not hold the others up
		WriteByteTimeout:              e.cfg.WriteTimeout,
	}
}

// single is a listener that has one connection.
type single struct {
	conn   net.Conn
	given  bool
	once   sync.Once
	closed chan struct{}
}

func (l *single) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *single) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *single) Addr() net.Addr { return l.conn.LocalAddr() }

// stream2 is one HTTP/2 stream as the core sees it.
type stream2 struct {
	w     http.ResponseWriter
	r     *http.Request
	rc    *http.ResponseController
	watch watch

	mu   sync.Mutex // the clock against the end of the stream
	over bool

	key    string // that the instance is asked with for a WebSocket; "": it is none
	socket atomic.Pointer[socket2]

	data   []byte // of the chunk being made
	eof    bool
	ending []byte // of the body, after eof

	framed bool // the answer comes in chunks
	chunk  h1.Chunk
	tail   []byte // its trailers, as they came
}

// stream writes the request as an HTTP/1.1 head, which goes the same way as
// one that came in as such: through the same parser.
func (c *conn) stream(w http.ResponseWriter, r *http.Request) {
	e := c.edge
	x := exchanges.Get().(*exchange)
	s := &stream2{w: w, r: r, rc: http.NewResponseController(w)}
	x.client, x.watch, x.listener, x.http2, x.addr = s, &s.watch, c.listener, true, c.addr
	if x.out == nil {
		x.out = getBuffer()
	}
	if asksForSocket(r) {
		s.key = newSocketKey()
	}
	head, ok := appendHead(nil, r, s.key)
	e.watchOver(s)
	defer func() {
		e.forget(s)
		if k := s.socket.Load(); k != nil {
			k.finish()
		}
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		x.free()
	}()
	done, bad := false, &h1.Refusal{Status: 400, Reason: "malformed request"}
	if ok {
		done, bad = x.req.ParseRequest(head)
	}
	if bad == nil && (!done || x.req.Size != len(head) || len(head) > maxHead) {
		bad = &h1.Refusal{Status: 431, Reason: headLarge.text}
	}
	if bad != nil {
		x.req.Head = r.Method == http.MethodHead
		x.refused(e, c.listener, c.peer, badRequest(bad))
		s.tell(x, badRequest(bad))
		return
	}
	x.begin(e, e.now())
	x.close = false
	x.bodyLeft = max(x.req.ContentLength, 0)
	x.bodyDone = !x.req.HasBody()
	x.fw = h1.Forward{Peer: c.peer, Trusted: c.trusted, Proto: c.proto(), Port: c.port, Host: c.local, RequestID: newID(&x.id)}
	ctx := r.Context()
	defer context.AfterFunc(ctx, s.gone)()
	x.run(ctx)
	x.ended()
	if x.cut {
		panic(http.ErrAbortHandler) // the library's way to reset one stream
	}
}

// gone is called when the client has left or reset the stream.
func (s *stream2) gone() {
	s.watch.gone.Store(true)
	if u := s.watch.upstream.Load(); u != nil {
		u.SetReadDeadline(past)
	}
	if k := s.socket.Load(); k != nil {
		k.up.Close()
	}
}

// appendHead writes r as an HTTP/1.1 request head, with a key as one for a
// WebSocket. false: it cannot be one.
func appendHead(out []byte, r *http.Request, key string) ([]byte, bool) {
	method, target := r.Method, r.RequestURI
	switch {
	case key != "":
		method = http.MethodGet
	case r.Method == http.MethodConnect || target == "": // refused by the parser, whatever it is for
		target = "/"
	}
	out = append(out, method...)
	out = append(out, ' ')
	out = append(out, target...)
	out = append(out, " HTTP/1.1\r\nHost: "...)
	out = append(out, r.Host...)
	out = append(out, "\r\n"...)
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade":
			continue
		case ":protocol":
			if r.Method == http.MethodConnect {
				continue
			}
		case "Sec-Websocket-Key", "Sec-Websocket-Accept":
			if key != "" {
				continue
			}
		case "Cookie": // HTTP/2 may divide it
			values = []string{strings.Join(values, "; ")}
		}
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n") {
				return nil, false
			}
			out = append(out, name...)
			out = append(out, ": "...)
			out = append(out, v...)
			out = append(out, "\r\n"...)
		}
	}
	if key != "" {
		return appendUpgrade(out, key), true
	}
	for name := range r.Trailer {
		out = append(out, "Trailer: "...)
		out = append(out, name...)
		out = append(out, "\r\n"...)
	}
	switch {
	case r.ContentLength > 0 && len(r.Trailer) == 0:
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, r.ContentLength, 10)
		out = append(out, "\r\n"...)
	case r.ContentLength < 0, r.ContentLength > 0:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		out = append(out, "Content-Length: 0\r\n"...)
	}
	return append(out, "\r\n"...), true
}

// more implements client: it puts a body of unknown length into chunks.
func (s *stream2) more(p []byte) (int, error) {
	if s.r.ContentLength > 0 && len(s.r.Trailer) == 0 {
		return s.r.Body.Read(p)
	}
	if s.eof {
		if len(s.ending) == 0 {
			return 0, io.EOF
		}
		n := copy(p, s.ending)
		s.ending = s.ending[n:]
		return n, nil
	}
	const room = 16 // for the size line and the line end
	if s.data == nil {
		s.data = make([]byte, len(p)-room)
	}
	n, err := s.r.Body.Read(s.data[:len(p)-room])
	out := h1.AppendChunk(p[:0], s.data[:n])
	if err == io.EOF {
		s.eof = true
		s.ending = s.lastChunk()
		k := copy(p[len(out):], s.ending)
		s.ending = s.ending[k:]
		return len(out) + k, nil
	}
	return len(out), err
}

// lastChunk ends the body, with the trailers that were announced.
func (s *stream2) lastChunk() []byte {
	out := []byte("0\r\n")
	for name, values := range s.r.Trailer {
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				continue
			}
			out = append(out, name...)
			out = append(out, ": "...)
			out = append(out, v...)
			out = append(out, "\r\n"...)
		}
	}
	return append(out, "\r\n"...)
}

func (s *stream2) stopMore()   { s.rc.SetReadDeadline(past) }
func (s *stream2) resumeMore() {}

func (s *stream2) interim(x *exchange) error {
	if x.resp.Status == 100 {
		return nil // the library says it when the body is read
	}
	h := s.w.Header()
	for name, value := range x.resp.Fields {
		h.Add(string(name), string(value))
	}
	s.w.WriteHeader(x.resp.Status)
	clear(h)
	return nil
}

func (s *stream2) head(x *exchange, a h1.Answer, first []byte) error {
	h := s.w.Header()
	for name, value := range x.resp.Fields {
		h.Add(string(name), string(value))
	}
	for name, value := range a.Further {
		h.Add(string(name), string(value))
	}
	if n := x.resp.ContentLength; n >= 0 && x.resp.Status != 204 {
		h.Set("Content-Length", strconv.FormatInt(n, 10))
	}
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // as the instance sent it, nothing guessed
	}
	if h["Date"] == nil {
		h["Date"] = nil
	}
	s.w.WriteHeader(x.resp.Status)
	if x.mode == noBody {
		return nil
	}
	if x.mode == counted && x.left == 0 && len(first) == 0 {
		return nil // the end of the stream goes with the head: gRPC calls that trailers only
	}
	s.framed = x.mode == chunked || x.mode == untilClose
	return s.write(first)
}

func (s *stream2) write(b []byte) error {
	if s.framed {
		return s.unframe(b)
	}
	if len(b) > 0 {
		if _, err := s.w.Write(b); err != nil {
			return err
		}
	}
	return s.rc.Flush()
}

// unframe writes what is in chunks, and sets the trailers when they are whole.
func (s *stream2) unframe(b []byte) error {
	for len(b) > 0 {
		if s.chunk.InTrailer() {
			_, _, done, bad := s.chunk.Next(b[:1])
			if bad != nil {
				return bad // the core has looked at it: this cannot be
			}
			s.tail = append(s.tail, b[0])
			if b = b[1:]; done {
				s.trailers()
				return nil // the end of the stream is at hand, and flushes
			}
			continue
		}
		data, n, _, bad := s.chunk.Next(b)
		if bad != nil {
			return bad
		}
		if len(data) > 0 {
			if _, err := s.w.Write(data); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return s.rc.Flush()
}

func (s *stream2) trailers() {
	h := s.w.Header()
	h1.EachTrailer(s.tail, func(name, value []byte) bool {
		h.Add(http.TrailerPrefix+string(name), string(value))
		return true
	})
}

func (s *stream2) splice(*upstream, int64) (int64, error, bool) { return 0, nil, false }

func (s *stream2) tell(x *exchange, o own) error {
	h := s.w.Header()
	h.Set("Content-Type", o.contentType())
	h.Set("Cache-Control", "no-store")
	h.Set("X-Gapless-Error", o.code)
	h.Set("Content-Length", strconv.Itoa(o.size()))
	if after := o.retryAfter(); after != "" {
		h.Set("Retry-After", after)
	}
	if o.to != "" {
		h.Set("Location", o.to)
	}
	if x.hsts != "" {
		h.Set(hstsName, x.hsts)
	}
	s.w.WriteHeader(o.status)
	if x.req.Head {
		return nil
	}
	if o.page != nil {
		_, err := s.w.Write(o.page.body)
		return err
	}
	_, err := io.WriteString(s.w, o.text+"\n")
	return err
}
