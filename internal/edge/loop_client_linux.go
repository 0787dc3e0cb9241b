package edge

import (
	"bytes"
	"net/netip"

	"golang.org/x/sys/unix"

	"gapless/internal/edge/h1"
)

// phase is what a client of a loop waits for.
type phase uint8

const (
	idling     phase = iota // the first byte of a request
	reading                 // the rest of its head
	collecting              // the rest of a small body
	waiting                 // an instance: a connection to it, or its answer
	relaying                // more of the answer
)

// loopClient is a client's connection in a loop. It has an exchange while
// there is a byte of a request.
type loopClient struct {
	fd       int
	count    uint32
	phase    phase
	watched  bool // epoll knows it
	readable bool // there may be something to read
	hungUp   bool // the client has ended its side
	trusted  bool
	size     uint8
	said     uint8    // own answers in a row
	peer     [45]byte // its address, size bytes of it
	addr     netip.Addr
	pass     pass
	door     *door
	due      int64 // edge clock when its phase has lasted too long
	since    int64 // edge clock when the instance moved last

	x  *exchange
	st *state
	r  *route
	i  *instance // taken
	u  *loopUpstream

	ahead taken
}

const clientEvents = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff

// from takes in the address of accept.
func (c *loopClient) from(name *unix.RawSockaddrInet6) {
	var ip netip.Addr
	if name.Family == unix.AF_INET6 {
		ip = netip.AddrFrom16(name.Addr).Unmap()
	} else { // of a sockaddr_in the address comes where that of IPv6 has its flow
		f := name.Flowinfo
		ip = netip.AddrFrom4([4]byte{byte(f), byte(f >> 8), byte(f >> 16), byte(f >> 24)})
	}
	c.addr, c.trusted = ip, ip.IsLoopback()
	c.size = uint8(len(ip.AppendTo(c.peer[:0])))
}

// begin serves a new client, or one that a goroutine gives back.
func (l *loop) begin(c *loopClient) {
	if l.stopped {
		l.lose(c)
		return
	}
	c.count = l.slot(c.fd, sock{c: c})
	l.idle(c)
	c.readable = true // mostly the request is here already
	l.readClient(c)
}

func (l *loop) idle(c *loopClient) {
	c.phase = idling
	c.due = l.now + int64(c.pass.gate.idleTime())
}

func (l *loop) clientEvent(c *loopClient, events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.hungUp = true
	}
	c.readable = true
	if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 && (c.phase == waiting || c.phase == relaying) {
		l.end(c, aborted)
		return
	}
	l.readClient(c)
}

// readClient reads what there is of a request, and serves it when it is whole.
func (l *loop) readClient(c *loopClient) {
	for c.phase <= collecting {
		if !c.readable && !c.ahead.ready {
			c.said = 0
			if c.x != nil && !c.x.reserve(l.edge, bufferSize) {
				transmit(c.fd, appendOwn(l.out[:0], overloaded, false, true))
				l.close(c)
				return
			}
			l.listen(c)
			return
		}
		x := c.x
		if x == nil {
			x = l.exchange()
			c.x = x
		}
		from := x.n
		n, errno := c.ahead.receive(c.fd, x.in[from:])
		switch {
		case errno == unix.EAGAIN:
			c.readable = false
			if from == 0 {
				l.free(c)
			}
			continue
		case errno != 0 || n == 0:
			l.close(c)
			return
		}
		if n < len(x.in)-from && !c.hungUp {
			c.readable = false
		}
		x.n = from + n
		if c.phase == idling {
			c.phase = reading
			c.due = l.now + int64(c.pass.gate.headTime())
		}
		if !l.advance(c, from) {
			return
		}
	}
}

// listen has epoll tell when there is something to read.
func (l *loop) listen(c *loopClient) {
	if c.watched {
		return
	}
	c.watched = true
	if err := l.watchFor(c.fd, c.count, clientEvents); err != nil {
		l.edge.log.Warn("watch a connection", "error", err)
		l.close(c)
	}
}

// advance looks at the request after bytes were added at from. It reports
// whether more of it is to be read.
func (l *loop) advance(c *loopClient, from int) (more bool) {
	x, e := c.x, l.edge
	if c.phase == reading {
		if beginsHTTP2(x.in[:x.n]) {
			l.handOver(c, handover{})
			return false
		}
		// Parsing starts anew each time, so it waits for the end of a line.
		if bytes.IndexByte(x.in[from:x.n], '\n') < 0 && x.n < maxHead {
			return true
		}
		done, bad := x.req.ParseRequest(x.in[:x.n])
		switch {
		case bad != nil, !done && x.n >= maxHead, done && x.req.Size > maxHead:
			l.handOver(c, handover{})
			return false
		case !done:
			return true
		case x.req.Upgrade || len(x.req.Host()) == 0:
			l.handOver(c, handover{})
			return false
		}
	}
	x.client, x.watch, x.clock, x.listener, x.http2, x.addr = nil, &l.watch, &l.now, c.door.l.addr, false, c.addr
	x.begin(e, l.now)
	if x.frame(x.in[x.req.Size:x.n]) != nil {
		l.handOver(c, handover{})
		return false
	}
	if !x.bodyDone {
		if x.req.Chunked || x.req.Expect || int64(x.req.Size)+x.req.ContentLength > bufferSize {
			l.handOver(c, handover{})
			return false
		}
		if c.phase != collecting {
			c.phase = collecting
			c.due = l.now + collectFor
			l.small++
			l.sweepAt = min(l.sweepAt, c.due)
		}
		return true
	}
	if c.phase == collecting {
		l.small--
	}
	c.phase = waiting
	newID(&x.id)
	x.fw = h1.Forward{Peer: c.peer[:c.size], Trusted: c.trusted, Proto: "http", Port: c.door.port, RequestID: x.id[:]}
	st := e.state.Load()
	r, o := x.choose(st)
	if o == nil {
		o = x.admit()
	}
	if o != nil {
		return l.say(c, *o)
	}
	x.toss(r)
	c.st, c.r = st, r
	l.forward(c)
	return false
}

// end draws the consequences of a try that went on to its end in the loop.
func (l *loop) end(c *loopClient, o outcome) {
	x, u := c.x, c.u
	keep := o == answered && x.keepable(u.limit)
	c.u = nil
	if u != nil {
		u.c = nil
		if keep {
			l.put(c.i, u)
		} else {
			l.drop(u)
		}
	}
	x.conclude(c.i, o)
	c.i, c.r, c.st = nil, nil, nil
	x.ended()
	switch {
	case o == aborted:
		l.close(c)
	case x.close:
		l.hangUp(c)
	default:
		l.next(c)
	}
}

// next goes on with the requests that follow.
func (l *loop) next(c *loopClient) {
	x := c.x
	if n := len(x.rest); n > 0 {
		x.n = copy(x.in[:], x.rest)
		c.phase = reading
		c.due = l.now + int64(c.pass.gate.headTime())
		if l.advance(c, 0) {
			l.readClient(c)
		}
		return
	}
	l.free(c)
	l.idle(c)
	l.readClient(c)
}

// hangUp ends the connection after an exchange; see conn.hangUp.
func (l *loop) hangUp(c *loopClient) {
	x := c.x
	switch {
	case x.cut:
		unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	case x.req.Close && len(x.rest) == 0: // nothing follows
	case lookAt(c.fd) == speaks || len(x.rest) > 0:
		l.handOver(c, handover{linger: true})
		return
	}
	l.close(c)
}

// free gives the exchange back.
func (l *loop) free(c *loopClient) {
	x := c.x
	c.x = nil
	if x.in == nil || len(l.kept) == cap(l.kept) {
		x.free()
		return
	}
	x.clear()
	l.kept = append(l.kept, x)
}

// exchange returns one with an empty buffer.
func (l *loop) exchange() (x *exchange) {
	if n := len(l.kept); n > 0 {
		x = l.kept[n-1]
		l.kept = l.kept[:n-1]
	} else {
		x = exchanges.Get().(*exchange)
		x.in = getBuffer()
		x.access.lane = uint32(l.id) + 1 // what a loop writes stays near it
	}
	x.n = 0
	return x
}

// forget takes a client out of the loop.
func (l *loop) forget(c *loopClient) {
	if c.phase == collecting {
		l.small--
	}
	l.socks[c.fd] = sock{}
	l.clients.Add(-1)
}

func (l *loop) close(c *loopClient) {
	l.forget(c)
	if c.x != nil {
		l.free(c)
	}
	closeFD(c.fd)
	l.edge.dismiss(c.pass)
}

// checkClient does what is overdue; grace: idle connections must go.
func (l *loop) checkClient(c *loopClient, grace bool) {
	late := l.now >= c.due
	switch c.phase {
	case idling:
		if late || grace || c.pass.gate.idleOver(c.due, l.now, l.edge.crowded()) {
			// A request may have come at this very moment: it is still served.
			c.readable = true
			if l.readClient(c); l.socks[c.fd].c == c && c.phase == idling {
				l.close(c)
			}
		}
	case reading:
		if late {
			l.handOver(c, handover{refuse: slowHead})
		}
	case collecting:
		if late {
			l.handOver(c, handover{})
		}
	case waiting, relaying:
		if l.now-c.since > goneAfter && (c.watched && c.hungUp && lookAt(c.fd) == gone || !c.watched && lookAt(c.fd) == gone) {
			l.end(c, aborted)
			return
		}
		if late && c.phase == waiting {
			l.timeOut(c)
		}
		if c.phase == relaying && c.x.lim.total > 0 && c.x.late() {
			c.x.failure = timeoutOf()
			l.end(c, truncated)
		}
	}
}
