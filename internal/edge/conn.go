package edge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"gapless/internal/edge/h1"
)

// exchanges are used again, so that a request on a kept connection allocates nothing.
var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// free makes the exchange ready for another client.
func (x *exchange) free() {
	x.clear()
	putBuffer(x.in)
	x.in = nil
	exchanges.Put(x)
}

// clear lets go of everything but the buffer of the request.
func (x *exchange) clear() {
	x.release(0)
	putBuffer(x.spare)
	x.spare, x.client, x.watch, x.clock = nil, nil, nil, nil
	x.chosen, x.last, x.lastDied, x.failedBy, x.tried = nil, nil, nil, nil, [maxTries]*instance{}
	x.peer = netip.Addr{}
}

// conn is the HTTP/1.1 driver: one goroutine per client connection.
type conn struct {
	net.Conn
	edge     *Edge
	tcp      *net.TCPConn // nil: not TCP
	tls      *secure      // nil: plain
	reader   reader
	watch    watch
	idle     atomic.Bool // waits for the first byte of a request
	listener string
	local    string // address that the client connected to
	port     string
	peer     []byte
	addr     netip.Addr // zero: unknown
	gate     *gate
	pass     pass
	trusted  bool
	vec      [2][]byte
	home     *loop // that it goes back to when it is idle; nil: none
	door     *door
}

func (e *Edge) newConn(nc net.Conn, listener string) *conn {
	c := &conn{Conn: nc, edge: e, listener: listener, gate: e.gateOf(listener)}
	c.tcp, _ = nc.(*net.TCPConn)
	c.reader.init(nc)
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		ip, _ := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()
		c.trusted = ip.IsLoopback()
		c.addr = ip.WithZone("")
		c.peer = ip.AppendTo(nil)
	} else {
		c.peer = []byte("unknown")
	}
	if a, ok := nc.LocalAddr().(*net.TCPAddr); ok {
		c.local = a.String()
		c.port = strconv.Itoa(a.Port)
	}
	return c
}

// serve answers requests until one side has had enough, or the connection
// goes back to its loop.
func (c *conn) serve() {
	for {
		buf, n, ok := c.await()
		if !ok {
			break
		}
		if n = c.undecided(buf, n); beginsHTTP2(buf[:n]) {
			c.preface(buf, n)
			break
		}
		x := exchanges.Get().(*exchange)
		x.in, x.n = buf, n
		keep := c.requests(x, nil)
		x.free()
		if !keep {
			break
		}
		if c.home != nil && c.giveBack() {
			return
		}
	}
	c.end()
}

// end closes the connection for good.
func (c *conn) end() {
	c.edge.forget(c)
	c.Close()
	c.edge.dismiss(c.pass)
}

// await waits for the first bytes of a request.
func (c *conn) await() (*buffer, int, bool) {
	e := c.edge
	c.watch.readDue.Store(e.now() + int64(c.gate.idleTime()))
	c.idle.Store(true)
	buf, n, err := c.first()
	for err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		c.SetReadDeadline(time.Time{})
		due, now := c.watch.readDue.Load(), e.now()
		over := c.graceOver() || now >= due || c.gate.idleOver(due, now, e.crowded())
		if over {
			// A request may have come at this very moment: it is still served.
			c.idle.Store(false)
			buf, n, err = c.firstNow()
			break
		}
		buf, n, err = c.first()
	}
	c.idle.Store(false)
	c.watch.readDue.Store(0)
	return buf, n, err == nil
}

// requests serves the request at the start of x.in, and those that follow it
// at once; begun finishes the first if it is under way already. It reports
// whether the connection can be kept.
func (c *conn) requests(x *exchange, begun func()) bool {
	x.client, x.watch, x.listener, x.http2 = c, &c.watch, c.listener, false
	if begun == nil { // else x.addr and x.fw are what the route made of them
		x.addr = c.addr
	}
	if x.out == nil {
		x.out = getBuffer()
	}
	for {
		if begun != nil {
			begun()
			begun = nil
		} else {
			if !c.readHead(x) {
				return false
			}
			x.begin(c.edge, c.edge.now())
			newID(&x.id)
			x.fw = c.forward(x)
			if bad := x.frame(x.in[x.req.Size:x.n]); bad != nil {
				c.refuse(x, badRequest(bad))
				return false
			}
			x.run(c.edge.ctx)
		}
		x.ended()
		if x.close {
			c.hangUp(x)
			return false
		}
		if len(x.rest) == 0 {
			return true
		}
		x.n = copy(x.in[:], x.rest)
		putBuffer(x.spare)
		x.spare = nil
		if x.out == nil {
			x.out = getBuffer()
		}
	}
}

// forward is what instances are told about this client.
func (c *conn) forward(x *exchange) h1.Forward {
	return h1.Forward{Peer: c.peer, Trusted: c.trusted, Proto: c.proto(), Port: c.port, Host: c.local, RequestID: x.id[:]}
}

// readHead parses the request head in x.in, reading on while it is not
// complete. It answers what is refused.
func (c *conn) readHead(x *exchange) bool {
	e := c.edge
	for {
		done, bad := x.req.ParseRequest(x.in[:x.n])
		switch {
		case bad != nil:
			c.refuse(x, badRequest(bad))
			return false
		case done && x.req.Size > maxHead, !done && x.n >= maxHead:
			if o := headLarge; bytes.IndexByte(x.in[:maxHead], '\n') >= 0 {
				c.refuse(x, o)
			} else {
				c.refuse(x, lineLarge)
			}
			return false
		case done:
			c.watch.readDue.Store(0)
			return true
		}
		if c.watch.readDue.Load() == 0 {
			if !x.reserve(e, 2*bufferSize) {
				c.refuse(x, overloaded)
				return false
			}
			c.watch.readDue.Store(e.now() + int64(c.gate.headTime()))
		}
		// Parsing starts anew each time, so it waits for the end of a line.
		for from := x.n; bytes.IndexByte(x.in[from:x.n], '\n') < 0 && x.n < maxHead; {
			n, err := c.Read(x.in[x.n:])
			x.n += n
			if n > 0 {
				continue
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.SetReadDeadline(time.Time{})
				if e.now() < c.watch.readDue.Load() {
					continue
				}
				c.refuse(x, slowHead)
			}
			return false
		}
	}
}

// refuse answers a request that is not going anywhere and ends the connection.
func (c *conn) refuse(x *exchange, o own) {
	c.edge.log.Debug("request refused", "code", o.code, "reason", o.text, "peer", string(c.peer))
	x.refused(c.edge, c.listener, c.peer, o)
	if _, err := c.Write(appendOwn(x.out[:0], o, false, true)); err == nil {
		c.lingerOn()
	}
}

// hangUp prepares the end of the connection after x. Closing with bytes
// unread resets the connection, and the answer on its way with it, so what
// the client still sends is read away for a while.
func (c *conn) hangUp(x *exchange) {
	if c.tcp == nil || x.status == 101 {
		return
	}
	if x.cut {
		c.tcp.SetLinger(0) // the client must not take what it has for a whole answer
		if c.tls != nil {
			c.tcp.Close() // no close_notify: that would be an end in order
		}
		return
	}
	if p := look(c.socket()); p == gone || p == quiet && x.bodyDone {
		return
	}
	c.lingerOn()
}

func (c *conn) lingerOn() {
	if c.tcp == nil || c.endTLS() != nil || c.tcp.CloseWrite() != nil {
		return
	}
	c.tcp.SetReadDeadline(time.Now().Add(2 * time.Second))
	buf := getBuffer()
	defer putBuffer(buf)
	for range 256 {
		if _, err := c.tcp.Read(buf[:]); err != nil {
			return
		}
	}
}

// more implements client.
func (c *conn) more(p []byte) (int, error) { return c.Read(p) }

func (c *conn) stopMore()   { c.SetReadDeadline(past) }
func (c *conn) resumeMore() { c.SetReadDeadline(time.Time{}) }

func (c *conn) interim(x *exchange) error {
	if x.req.HTTP10 {
		return nil
	}
	_, err := c.Write(x.resp.AppendResponse(x.out[:0], h1.Answer{}))
	return err
}

func (c *conn) head(x *exchange, a h1.Answer, first []byte) error {
	out := x.resp.AppendResponse(x.out[:0], a)
	if len(out)+len(first) <= cap(out) {
		_, err := c.Write(append(out, first...))
		return err
	}
	c.vec = [2][]byte{out, first}
	v := net.Buffers(c.vec[:])
	_, err := v.WriteTo(c.Conn)
	return err
}

func (c *conn) write(b []byte) error {
	_, err := c.Write(b)
	return err
}

func (c *conn) splice(u *upstream, n int64) (int64, error, bool) {
	if c.tcp == nil || c.tls != nil || u.raw == nil {
		return 0, nil, false
	}
	n, err := c.tcp.ReadFrom(&io.LimitedReader{R: u.Conn, N: n})
	return n, err, true
}

func (c *conn) tell(x *exchange, o own) error {
	o.hsts = x.hsts
	out := appendOwn(x.out[:0], o, x.req.Head || o.page != nil, x.close)
	if o.page == nil || x.req.Head {
		_, err := c.Write(out)
		return err
	}
	c.vec = [2][]byte{out, o.page.body}
	v := net.Buffers(c.vec[:])
	_, err := v.WriteTo(c.Conn)
	return err
}
