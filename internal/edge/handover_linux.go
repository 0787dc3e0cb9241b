package edge

import (
	"golang.org/x/sys/unix"
)

// handover is an exchange on its way from a loop to a goroutine: where it is.
type handover struct {
	refuse own  // answer this, the request is not whole
	linger bool // it is over, and the connection is to be ended gently

	st *state
	r  *route        // nil: there is no exchange yet, only bytes
	i  *instance     // taken; nil: nobody is
	u  *loopUpstream // the connection to i; nil: there is none yet

	failed bool // the try with i is over
	o      outcome

	told []byte // the rest of an answer of the edge itself

	request  []byte  // of the request, not sent yet
	buf      *buffer // has the first n bytes of the answer
	n        int
	relaying bool   // the head of the answer is on its way to the client,
	answer   []byte // but for this,
	whole    bool   // and then all is said
}

// handOver gives a client to a goroutine, with the exchange as it is.
func (l *loop) handOver(c *loopClient, h handover) {
	x := c.x
	if h.u != nil {
		if h.buf == nil && h.u.n > 0 {
			h.buf, h.n = getBuffer(), h.u.n
			copy(h.buf[:], h.u.part[:h.u.n])
		}
		l.release(h.u)
		h.u.c, c.u = nil, nil
		epollCtl(l.ep, unix.EPOLL_CTL_DEL, h.u.fd, nil)
	}
	l.forget(c)
	if c.watched {
		epollCtl(l.ep, unix.EPOLL_CTL_DEL, c.fd, nil)
	}
	c.x = nil
	if x != nil {
		x.clock = nil
	}
	go l.edge.takeOver(l, c, x, h)
}

// takeOver serves a client that a loop gave away, and gives it back when it
// can.
func (e *Edge) takeOver(l *loop, from *loopClient, x *exchange, h handover) {
	nc, err := connOf(from.fd)
	var u *upstream
	if err == nil && h.u != nil {
		up, broke := connOf(h.u.fd)
		if err = broke; err == nil {
			u = &upstream{Conn: up, pooled: h.u.pooled, limit: h.u.limit}
			u.reader.init(up)
		} else {
			nc.Close()
		}
	}
	if err != nil { // out of descriptors
		e.log.Warn("hand a connection over", "error", err)
		if h.u != nil && nc == nil {
			closeFD(h.u.fd)
		}
		if h.i != nil {
			x.let(h.i)
		}
		if h.r != nil {
			x.abort()
		}
		putBuffer(h.buf)
		if h.r != nil || h.told != nil { // else there is no exchange, or it has ended
			x.ended()
		}
		x.free()
		e.dismiss(from.pass)
		return
	}
	c := e.newConn(nc, from.door.l.addr)
	c.gate, c.pass = from.pass.gate, from.pass
	c.home, c.door = l, from.door
	c.peer, c.addr, c.trusted = from.peer[:from.size], from.addr, from.trusted // a socket that is reset does not know
	e.watchOver(c)
	if e.ctx.Err() != nil { // whoever cuts what is left has not seen it
		c.cut()
	}
	c.serveFrom(x, &h, u)
}

// serveFrom goes on with an exchange, then serves like any other connection.
func (c *conn) serveFrom(x *exchange, h *handover, u *upstream) {
	keep := false
	switch {
	case h.linger:
		c.lingerOn()
	case h.refuse.status != 0:
		x.out = orBuffer(x.out)
		c.refuse(x, h.refuse)
	case h.told != nil:
		keep = c.requests(x, func() { x.tellOn(h.told) })
	case h.r != nil:
		keep = c.requests(x, func() { c.goOn(x, h, u) })
	case beginsHTTP2(x.in[:x.n]):
		c.preface(x.in, x.n)
		x.in = nil
	default:
		keep = c.requests(x, nil)
	}
	x.free()
	switch {
	case !keep:
		c.end()
	case !c.giveBack():
		c.serve()
	}
}

// say answers on the edge's own account; see exchange.say. What the client
// does not take at once a goroutine writes. It reports whether the client is
// idle then, and may be read from.
func (l *loop) say(c *loopClient, o own) (more bool) {
	x := c.x
	x.status = o.status
	o = x.lim.dress(o)
	x.says(o)
	w := appendOwn(l.out[:0], o, x.req.Head, x.close)
	n, errno := transmit(c.fd, w)
	if n < len(w) && (errno == 0 || errno == unix.EAGAIN) {
		l.handOver(c, handover{told: append([]byte(nil), w[n:]...)})
		return false
	}
	x.ended()
	switch {
	case n < len(w):
		l.close(c)
		return false
	case x.close:
		l.hangUp(c)
		return false
	case len(x.rest) > 0: // one after the other would never return
		x.n = copy(x.in[:], x.rest)
		l.handOver(c, handover{})
		return false
	}
	l.free(c)
	l.idle(c)
	if c.said++; c.said < sayBudget {
		return true
	}
	fd, count := c.fd, c.count
	c.said = 0
	l.post(func() { // others have their turn first
		if l.socks[fd].count == count && l.socks[fd].c == c {
			l.readClient(c)
		}
	})
	return false
}

// sayBudget is how many own answers one client gets in a row.
const sayBudget = 16

// tellOn goes on with an answer that a loop began.
func (x *exchange) tellOn(rest []byte) {
	x.watch.writeDue.Store(x.writeBy())
	if x.client.write(rest) != nil {
		x.close = true
	}
	x.watch.writeDue.Store(0)
}

func orBuffer(b *buffer) *buffer {
	if b == nil {
		b = getBuffer()
	}
	return b
}

// goOn takes the exchange from where the loop left it to its end.
func (c *conn) goOn(x *exchange, h *handover, u *upstream) {
	ctx := c.edge.ctx
	var o outcome
	switch {
	case h.i == nil:
		x.carry(ctx, h.st, h.r)
		return
	case h.failed:
		o = h.o
	case u == nil:
		o = x.try(ctx, h.i)
	default:
		x.watch.upstream.Store(u)
		if h.relaying {
			o = x.relayRest(h.i, u, h.buf, h.answer, h.whole)
			break
		}
		if len(h.request) > 0 {
			n, _ := u.Write(h.request)
			x.sent = x.sent || n > 0
		}
		o = x.receive(h.i, u, h.buf, h.n) // also where writing failed: there may still be an answer to read
	}
	if x.conclude(h.i, o) {
		x.carry(ctx, h.st, h.r)
	}
}

// giveBack returns an idle connection to the loop that it came from.
func (c *conn) giveBack() bool {
	e := c.edge
	if c.reader.raw == nil || e.draining.Load() {
		return false
	}
	fd := -1
	var err error
	if c.reader.raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }) != nil || err != nil {
		return false
	}
	e.forget(c)
	c.Close()
	back := &loopClient{fd: fd, door: c.door, trusted: c.trusted, addr: c.addr, pass: c.pass}
	back.size = uint8(copy(back.peer[:], c.peer))
	c.home.give(back)
	return true
}
