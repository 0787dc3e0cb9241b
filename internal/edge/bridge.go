package edge

//lint:file-ignore SA1019 client connections of net/http do not say why a stream failed: whether the instance has looked at a request decides if it may have it again

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"gapless/internal/edge/h1"
)

// links are the HTTP/2 connections to one instance. golang.org/x/net/http2
// does the framing; each stream is a bridge to the core.
type links struct {
	mu      sync.Mutex
	conns   []*http2.ClientConn
	dialing chan struct{} // holds one token: many requests wait for one connection
}

// keepLink is how long an HTTP/2 connection to an instance may be without a stream.
const keepLink = 5 * time.Minute

// get reserves a stream, on a connection that is there or on a new one.
func (l *links) get(ctx context.Context, r *reaching, timeout time.Duration) (*http2.ClientConn, error) {
	if cc := l.reserve(); cc != nil {
		return cc, nil
	}
	l.mu.Lock()
	if l.dialing == nil {
		l.dialing = make(chan struct{}, 1)
	}
	dialing := l.dialing
	l.mu.Unlock()
	select {
	case dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-dialing }()
	if cc := l.reserve(); cc != nil {
		return cc, nil // somebody else's dial
	}
	nc, err := r.wire(ctx, timeout)
	if err != nil {
		return nil, err
	}
	cc, err := l.transport().NewClientConn(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	if !cc.ReserveNewRequest() {
		cc.Close()
		return nil, errors.New("the instance takes no HTTP/2 stream")
	}
	l.mu.Lock()
	l.conns = append(l.conns, cc)
	l.mu.Unlock()
	return cc, nil
}

func (l *links) reserve() *http2.ClientConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.conns[:0]
	var found *http2.ClientConn
	for _, cc := range l.conns {
		if found == nil && cc.ReserveNewRequest() {
			found = cc
		}
		if s := cc.State(); !s.Closed && !s.Closing || s.StreamsActive+s.StreamsReserved > 0 {
			kept = append(kept, cc)
		}
	}
	clear(l.conns[len(kept):])
	l.conns = kept
	return found
}

func (l *links) transport() *http2.Transport {
	return &http2.Transport{
		AllowHTTP: true, DisableCompression: true, IdleConnTimeout: keepLink,
		MaxHeaderListSize: maxHead, StrictMaxConcurrentStreams: true,
	}
}

// shut closes connections as soon as they have no streams. Streams go on.
func (l *links) shut() {
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	for _, cc := range conns {
		if s := cc.State(); s.StreamsActive+s.StreamsReserved == 0 {
			cc.Close()
			continue
		}
		cc.SetDoNotReuse()
		go cc.Shutdown(context.Background()) // GOAWAY; returns when the last stream has ended, or the connection
	}
}

// bridge is one HTTP/2 stream to an instance as the core sees one: a
// connection that takes an HTTP/1.1 request and gives an HTTP/1.1 answer.
type bridge struct {
	net.Conn // what the core reads: the near end of a pipe
	far      net.Conn
	links    *links
	to       *reaching
	timeout  time.Duration

	cc     *http2.ClientConn // has a stream reserved; nil: used
	ctx    context.Context
	cancel context.CancelFunc
	due    time.Time   // of a gRPC call; zero: never
	refuse atomic.Bool // the instance said that it has not looked at the request

	// of the request, written by the core
	begun   bool
	length  int64 // of the body left, when it is counted
	chunked bool
	chunk   h1.Chunk
	tail    []byte // trailers as they came
	trailer http.Header
	body    *replay
}

func (l *links) bridge(ctx context.Context, r *reaching, timeout time.Duration) (*bridge, error) {
	cc, err := l.get(ctx, r, timeout)
	if err != nil {
		return nil, err
	}
	b := &bridge{links: l, to: r, timeout: timeout, cc: cc}
	b.Conn, b.far = net.Pipe()
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b, nil
}

// Close ends the stream; if it is not over, the instance hears RST_STREAM.
func (b *bridge) Close() error {
	b.cancel()
	b.far.Close()
	if b.body != nil {
		b.body.close(io.ErrClosedPipe)
	}
	if !b.begun { // give the reserved stream back: a request that is dead already
		if cc := b.cc; cc != nil {
			b.cc, b.begun = nil, true
			q, _ := http.NewRequestWithContext(b.ctx, http.MethodGet, "http://unused/", nil)
			go cc.RoundTrip(q)
		}
	}
	return b.Conn.Close()
}

var errHead = errors.New("the head of the request was not written in one piece")

// Write takes the request as HTTP/1.1 frames it. The head comes first, whole.
func (b *bridge) Write(p []byte) (int, error) {
	all := len(p)
	if !b.begun {
		n, err := b.begin(p)
		if err != nil {
			return 0, err
		}
		p = p[n:]
	}
	if b.body == nil {
		return all, nil
	}
	if !b.chunked {
		if len(p) > 0 {
			if err := b.body.write(p); err != nil {
				return 0, err
			}
		}
		if b.length -= int64(len(p)); b.length <= 0 {
			b.body.close(io.EOF)
		}
		return all, nil
	}
	for len(p) > 0 {
		if b.chunk.InTrailer() {
			_, n, done, bad := b.chunk.Next(p[:1])
			if bad != nil {
				return 0, bad
			}
			b.tail = append(b.tail, p[0])
			if p = p[n:]; done {
				b.end()
				break
			}
			continue
		}
		data, n, _, bad := b.chunk.Next(p)
		if bad != nil {
			return 0, bad
		}
		if len(data) > 0 {
			if err := b.body.write(data); err != nil {
				return 0, err
			}
		}
		p = p[n:]
	}
	return all, nil
}

// end passes the trailers on: only those that were announced can be.
func (b *bridge) end() {
	h1.EachTrailer(b.tail, func(name, value []byte) bool {
		k := textproto.CanonicalMIMEHeaderKey(string(name))
		if _, ok := b.trailer[k]; ok {
			b.trailer[k] = append(b.trailer[k], string(value))
		}
		return true
	})
	b.body.close(io.EOF)
}

// begin starts the stream with the head in p, and returns its size.
func (b *bridge) begin(p []byte) (int, error) {
	var h h1.Head
	done, bad := h.ParseRequest(p)
	if bad != nil {
		return 0, bad
	}
	if !done {
		return 0, errHead
	}
	scheme := "http"
	if b.to.TLS() {
		scheme = "https"
	}
	target := string(h.Target())
	q := (&http.Request{
		Method: string(h.Method()), Host: string(h.Host()), Header: http.Header{"User-Agent": {""}},
		URL:   &url.URL{Scheme: scheme, Host: string(h.Host()), Opaque: target},
		Proto: "HTTP/2.0", ProtoMajor: 2,
	})
	if strings.HasPrefix(target, "//") { // Opaque would make a host of it
		path, query, _ := strings.Cut(target, "?")
		plain, err := url.PathUnescape(path)
		if err != nil {
			return 0, err
		}
		q.URL.Opaque, q.URL.Path, q.URL.RawPath, q.URL.RawQuery = "", plain, path, query
	}
	for name, value := range h.Fields {
		switch k := textproto.CanonicalMIMEHeaderKey(string(name)); k {
		case "Host", "Expect":
		case "User-Agent":
			q.Header.Set(k, string(value))
		case "Trailer":
			for t := range strings.SplitSeq(string(value), ",") {
				if t = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(t)); t != "" && !forbiddenTrailer(t) && h.Chunked {
					if b.trailer == nil {
						b.trailer = http.Header{}
					}
					b.trailer[t] = nil
				}
			}
		default:
			q.Header[k] = append(q.Header[k], string(value))
		}
	}
	b.due = deadline(q.Header, time.Now())
	if h.Trailers {
		q.Header["Te"] = []string{"trailers"}
	}
	if h.HasBody() {
		b.body = newReplay()
		b.chunked, b.length = h.Chunked, h.ContentLength
		q.Body, q.ContentLength = b.body.reader(), h.ContentLength
		q.GetBody, q.Trailer = b.body.again, maps.Clone(b.trailer)
		own := q.Trailer
		b.body.atEnd = func() { maps.Copy(own, b.trailer) } // by whoever reads the end: before it the library looks at the map
	}
	q = q.WithContext(httptrace.WithClientTrace(b.ctx, &httptrace.ClientTrace{Got1xxResponse: b.interim}))
	b.begun = true
	go b.run(q, h.Head)
	return h.Size, nil
}

func forbiddenTrailer(name string) bool {
	return name == "Content-Length" || name == "Transfer-Encoding" || name == "Trailer"
}

// refused reports whether the instance said that it did nothing with the
// request.
func (b *bridge) refused() bool { return b != nil && b.refuse.Load() }

const maxFreshLinks = 3 // streams that the instance may refuse before the request fails

// run has the request answered, and ends the pipe to the core when it is.
func (b *bridge) run(q *http.Request, head bool) {
	defer b.far.Close()
	for refusals := 0; ; {
		cc := b.cc
		b.cc = nil
		res, err := cc.RoundTrip(q)
		if err == nil {
			b.answer(res, head)
			return
		}
		if b.ctx.Err() != nil {
			return
		}
		if b.ranOut(err) {
			b.far.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: " + outOfTime + "\r\nContent-Length: 0\r\n\r\n"))
			return
		}
		if !unprocessed(err) {
			return
		}
		// The instance has not looked at it: it gets it again, as long as what
		// it was sent of the body is still here.
		if q.Body != nil {
			body, err := q.GetBody()
			if err != nil {
				return
			}
			q.Body = body
		}
		if refusals++; refusals == maxFreshLinks {
			b.refuse.Store(true)
			return
		}
		if b.cc, err = b.links.get(b.ctx, b.to, b.timeout); err != nil {
			b.refuse.Store(true)
			return
		}
	}
}

// unprocessed reports whether err says that the instance did nothing with
// the request: the stream was refused, or is beyond the last of a GOAWAY.
func unprocessed(err error) bool {
	if se := (http2.StreamError{}); errors.As(err, &se) {
		return se.Code == http2.ErrCodeRefusedStream
	}
	// The library does not export these.
	switch err.Error() {
	case "http2: client conn not usable", "http2: Transport received Server's graceful shutdown GOAWAY":
		return true
	}
	return false
}

// interim passes on a 1xx answer.
func (b *bridge) interim(code int, h textproto.MIMEHeader) error {
	_, err := b.far.Write(append(appendFields(appendStatus(nil, code), http.Header(h)), "\r\n"...))
	return err
}

func appendStatus(out []byte, code int) []byte {
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(code), 10)
	out = append(out, ' ')
	out = append(out, http.StatusText(code)...)
	return append(out, "\r\n"...)
}

func appendFields(out []byte, h http.Header) []byte {
	for name, values := range h {
		for _, v := range values {
			out = append(out, name...)
			out = append(out, ": "...)
			out = append(out, v...)
			out = append(out, "\r\n"...)
		}
	}
	return out
}

// answer writes res as HTTP/1.1: what comes is passed on at once.
func (b *bridge) answer(res *http.Response, head bool) {
	defer res.Body.Close()
	for _, k := range []string{"Connection", "Transfer-Encoding", "Upgrade", "Keep-Alive", "Content-Length", "Trailer"} {
		delete(res.Header, k)
	}
	out := appendFields(appendStatus(nil, res.StatusCode), res.Header)
	bodiless := head || res.StatusCode == 204 || res.StatusCode == 304
	counted := res.ContentLength >= 0 && len(res.Trailer) == 0
	switch {
	case counted && (res.ContentLength > 0 || !bodiless) && res.StatusCode != 204:
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, res.ContentLength, 10)
		out = append(out, "\r\n"...)
	case bodiless:
	default:
		for t := range res.Trailer {
			out = append(out, "Trailer: "...)
			out = append(out, t...)
			out = append(out, "\r\n"...)
		}
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	out = append(out, "\r\n"...)
	if bodiless {
		b.far.Write(out)
		return
	}
	buf, data := getBuffer(), getBuffer()
	defer putBuffer(buf)
	defer putBuffer(data)
	for {
		// The head goes with the first bytes only if these are there already,
		// and the reader below would wait for them.
		if len(out) > 0 {
			if _, err := b.far.Write(out); err != nil {
				return
			}
		}
		n, err := res.Body.Read(data[:bufferSize-64])
		switch out = buf[:0]; {
		case counted:
			out = data[:n]
		default:
			out = h1.AppendChunk(out, data[:n])
		}
		if err == io.EOF {
			if !counted {
				out = append(out, "0\r\n"...)
				out = appendFields(out, res.Trailer)
				out = append(out, "\r\n"...)
			}
			b.far.Write(out)
			return
		}
		if err != nil {
			if !counted && b.ranOut(err) {
				out = append(out, "0\r\nGrpc-Status: "+outOfTime+"\r\n\r\n"...)
			}
			b.far.Write(out)
			return // the end of the pipe comes too early: the core sees that
		}
	}
}

// replay is the body of a request on its way to an instance. While it is
// small it is kept, so that it can be sent again when it was not looked at.
type replay struct {
	mu    sync.Mutex
	more  *sync.Cond
	kept  []byte // what was written and can still be asked for
	base  int    // of kept in the whole body
	read  int    // the furthest that the present reader is
	gen   int    // of readers: only the last one may read
	err   error  // after all of it
	atEnd func() // before a reader hears of the end
}

const maxReplay = 64 << 10

func newReplay() *replay {
	r := new(replay)
	r.more = sync.NewCond(&r.mu)
	return r
}

// write waits until there is room: as much is kept as can be sent again, and
// beyond that what was not read.
func (r *replay) write(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(p) > 0 {
		for r.err == nil && r.base+len(r.kept)-r.read >= maxReplay {
			r.more.Wait()
		}
		if r.err != nil {
			return io.ErrClosedPipe
		}
		n := min(len(p), maxReplay)
		if len(r.kept)+n > maxReplay { // what was read is given up
			gone := r.read - r.base
			r.kept = append(r.kept[:0], r.kept[gone:]...)
			r.base += gone
		}
		r.kept = append(r.kept, p[:n]...)
		p = p[n:]
		r.more.Broadcast()
	}
	return nil
}

func (r *replay) close(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = err
	}
	r.more.Broadcast()
	r.mu.Unlock()
}

func (r *replay) reader() io.ReadCloser {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gen++
	r.more.Broadcast()
	return &replayReader{r, r.gen}
}

var errGone = errors.New("the body cannot be sent again")

// again is a reader from the start.
func (r *replay) again() (io.ReadCloser, error) {
	r.mu.Lock()
	if r.base > 0 {
		r.mu.Unlock()
		return nil, errGone
	}
	r.read = 0
	r.mu.Unlock()
	return r.reader(), nil
}

type replayReader struct {
	*replay
	mine int
}

func (r *replayReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if r.mine != r.gen {
			return 0, io.ErrClosedPipe
		}
		if have := r.kept[r.read-r.base:]; len(have) > 0 && (r.err == nil || r.err == io.EOF) {
			n := copy(p, have)
			r.read += n
			r.more.Broadcast()
			return n, nil
		}
		if r.err != nil {
			if r.err == io.EOF && r.atEnd != nil {
				r.atEnd()
			}
			return 0, r.err
		}
		r.more.Wait()
	}
}

// Close is called by the library when it reads no more.
func (r *replayReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mine == r.gen {
		r.gen++
		r.more.Broadcast()
	}
	return nil
}
