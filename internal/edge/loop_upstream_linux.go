package edge

import (
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gapless/internal/edge/h1"
)

// loopUpstream is a connection of a loop to an instance.
type loopUpstream struct {
	fd         int
	count      uint32
	i          *instance
	c          *loopClient // nil: idle
	connecting bool
	readable   bool
	hungUp     bool
	pooled     bool // it has served an exchange before
	part       *buffer
	n          int // bytes of an answer's head in part
	since      int64
	limit      time.Duration
	ahead      taken
}

// loopSide is what the loops know of an instance.
type loopSide struct {
	reach  unix.Sockaddr // nil: only goroutines can reach it
	pools  []loopPool    // by loop
	recall func()        // lets the loops close what is idle; nil: there are none
}

// loopPool has the idle connections of one loop to one instance, the last
// used on top. Only the loop touches it.
type loopPool struct {
	idle []*loopUpstream
	to   unix.Sockaddr // its own: to connect writes into it
}

// A socket that is being connected is waited for until it can be written to.
// One of a unix socket is connected at once, and would be told of every request
// that the instance has read.
const (
	upstreamEvents   = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
	connectingEvents = upstreamEvents | unix.EPOLLOUT
)

// sockaddr is where a loop can reach the instance, nil if only a goroutine can.
func (i *instance) sockaddr() unix.Sockaddr {
	if !i.plain() {
		return nil
	}
	if i.network == "unix" {
		return &unix.SockaddrUnix{Name: i.dial}
	}
	a, err := netip.ParseAddrPort(i.dial)
	switch {
	case err != nil || a.Addr().Zone() != "":
		return nil
	case a.Addr().Unmap().Is4():
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// prepareForLoops makes an instance known to the loops.
func (e *Edge) prepareForLoops(i *instance) {
	if len(e.loops) == 0 {
		return
	}
	i.reach = i.sockaddr()
	i.pools = make([]loopPool, len(e.loops))
	for k := range i.pools {
		i.pools[k].to = i.sockaddr()
	}
	i.recall = func() {
		for _, l := range e.loops {
			l.post(func() { l.empty(i) })
		}
	}
}

// empty closes what is idle of an instance that leaves.
func (l *loop) empty(i *instance) {
	for list := i.pools[l.id].idle; len(list) > 0; list = i.pools[l.id].idle {
		l.drop(list[len(list)-1])
	}
}

// forward gives the request to an instance.
func (l *loop) forward(c *loopClient) {
	x := c.x
	i := x.take(c.r)
	if i == nil || i.reach == nil {
		l.handOver(c, handover{st: c.st, r: c.r, i: i})
		return
	}
	c.i = i
	u := l.get(i)
	if u != nil && l.looksFirst(x) && lookAt(u.fd) != quiet {
		l.drop(u)
		u = nil
	}
	if u == nil {
		var err error
		if u, err = l.dial(i); err != nil {
			l.unreached(c, err)
			return
		}
	}
	c.phase, c.u, u.c = waiting, u, c
	c.since = l.now
	x.stale = u.pooled
	if u.connecting {
		c.due = l.now + int64(l.edge.cfg.ConnectTimeout)
		return
	}
	if !u.pooled {
		i.dialed(l.now, nil)
	}
	l.sendRequest(c)
}

// looksFirst reports whether a kept connection is looked at before x is sent on
// it, and is used at once then: what cannot be repeated must not meet a dead
// connection, and nothing what the instance says unasked (see serve).
func (l *loop) looksFirst(x *exchange) bool { return !x.req.Safe || l.batch.unseen }

// get takes an idle connection to i.
func (l *loop) get(i *instance) *loopUpstream {
	p := &i.pools[l.id]
	n := len(p.idle)
	if n == 0 || l.now-p.idle[n-1].since > int64(p.idle[n-1].limit) {
		return nil // too old: sweep will close it, and those below
	}
	u := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	u.pooled = true
	return u
}

// put keeps u, or closes it if the instance is leaving. Whoever leaves says so
// first and empties the pool then.
func (l *loop) put(i *instance, u *loopUpstream) {
	if i.leaving.Load() || u.hungUp || u.readable {
		l.drop(u)
		return
	}
	u.since = l.now
	p := &i.pools[l.id]
	p.idle = append(p.idle, u)
}

func (l *loop) dial(i *instance) (*loopUpstream, error) {
	family := unix.AF_UNIX
	switch i.reach.(type) {
	case *unix.SockaddrInet4:
		family = unix.AF_INET
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if family != unix.AF_UNIX {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 30)
	}
	err = unix.Connect(fd, i.pools[l.id].to)
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, err
	}
	u := &loopUpstream{fd: fd, i: i, connecting: err != nil, limit: l.edge.cfg.UpstreamIdle}
	u.count = l.slot(fd, sock{u: u})
	events := uint32(upstreamEvents)
	if u.connecting {
		events = connectingEvents
	}
	if err := l.watchFor(fd, u.count, events); err != nil {
		l.socks[fd] = sock{}
		unix.Close(fd)
		return nil, err
	}
	return u, nil
}

// unreached ends a try that has found no connection to the instance.
func (l *loop) unreached(c *loopClient, err error) {
	i := c.i
	if exhausted(err) {
		l.fail(c, shedding)
		return
	}
	i.refused.Store(l.now)
	i.dialed(l.now, err)
	c.x.failure, c.x.stale = refusedBy(err), false
	l.fail(c, unsent)
}

// fail ends a try that the client has seen nothing of: a goroutine draws the
// consequences.
func (l *loop) fail(c *loopClient, o outcome) {
	if u := c.u; u != nil {
		c.u, u.c = nil, nil
		l.drop(u)
	}
	l.handOver(c, handover{st: c.st, r: c.r, i: c.i, failed: true, o: o})
}

// timeOut ends a try that has lasted too long.
func (l *loop) timeOut(c *loopClient) {
	if c.u.connecting {
		l.unreached(c, unix.ETIMEDOUT)
		return
	}
	c.x.failure = timeoutOf()
	l.fail(c, broken)
}

// sendRequest sends the request, or has the batch do it.
func (l *loop) sendRequest(c *loopClient) {
	x, b := c.x, &l.batch
	c.due = x.dueFrom(l.now, x.lim.answer)
	if !b.asking || c.u.pooled && l.looksFirst(x) || cap(b.out)-len(b.out) < bufferSize+maxHead {
		w := x.req.AppendRequest(l.out[:0], &x.fw)
		l.ask(c, append(w, x.body...))
		return
	}
	w := x.req.AppendRequest(b.out[len(b.out):], &x.fw)
	w = append(w, x.body...)
	b.out = b.out[:len(b.out)+len(w)]
	b.requests = append(b.requests, parcel{c, c.u, w})
}

// ask sends w, the request, to the instance.
func (l *loop) ask(c *loopClient, w []byte) {
	x, u := c.x, c.u
	n, errno := transmit(u.fd, w)
	x.sent = x.sent || n > 0
	switch {
	case n == len(w):
	case errno == 0 || errno == unix.EAGAIN:
		l.handOver(c, handover{st: c.st, r: c.r, i: c.i, u: u, request: append([]byte(nil), w[n:]...)})
	default:
		x.failure = resetBy()
		l.fail(c, dropped)
	}
}

func (l *loop) upstreamEvent(u *loopUpstream, events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		u.hungUp = true
	}
	if u.connecting {
		if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return
		}
		u.connecting = false
		if code, err := unix.GetsockoptInt(u.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			l.unreached(u.c, syscall.Errno(code))
			return
		}
		u.i.dialed(l.now, nil)
		c := u.c
		if l.sendRequest(c); u.c == c && events&^unix.EPOLLOUT != 0 { // it spoke first, and epoll tells it once
			u.readable = true
			l.readUpstream(u)
		}
		return
	}
	if events&^unix.EPOLLOUT != 0 {
		u.readable = true
		l.readUpstream(u)
	}
}

// readUpstream takes what an instance says.
func (l *loop) readUpstream(u *loopUpstream) {
	for budget := readBudget; u.readable; budget-- {
		c := u.c
		if c == nil {
			l.drop(u) // it closed an idle connection, or talks without being asked
			return
		}
		if budget == 0 { // others wait for this thread
			l.handOver(c, handover{st: c.st, r: c.r, i: c.i, u: u, relaying: c.phase == relaying})
			return
		}
		// What has arrived is to be in[at:at+n], and has room before it.
		in, at, room := l.in, answerRoom, scratch
		batched := u.ahead.ready
		switch {
		case batched:
			in, at, room = l.batch.in[u.ahead.at-growRoom:], growRoom, bufferSize
		case c.phase == waiting:
			room = bufferSize
			copy(in[at:], u.part.bytes(u.n))
		}
		n, errno := u.ahead.receive(u.fd, in[at+u.n:at+room])
		switch {
		case errno == unix.EAGAIN:
			u.readable = false
			return
		case errno != 0 || n == 0:
			l.upstreamEnded(c, errno)
			return
		}
		if n += u.n; n < room && !u.hungUp {
			u.readable = false
		}
		c.since = l.now
		if c.phase == relaying {
			l.relay(c, in[at:at+n])
		} else if w := l.answer(c, in[:at+n], at); w != nil {
			if batched {
				l.batch.answers = append(l.batch.answers, parcel{c, u, w})
				return
			}
			l.deliver(c, w, true)
		}
		if u.c != c {
			return
		}
	}
}

// bytes are the first n of b, which may be nil.
func (b *buffer) bytes(n int) []byte {
	if b == nil {
		return nil
	}
	return b[:n]
}

// upstreamEnded is called when nothing more comes from an instance.
func (l *loop) upstreamEnded(c *loopClient, errno syscall.Errno) {
	x, u := c.x, c.u
	switch {
	case c.phase == relaying && errno == 0 && x.mode == untilClose:
		if !x.plain {
			if n, _ := transmit(c.fd, []byte(h1.LastChunk)); n < len(h1.LastChunk) {
				l.handOver(c, handover{st: c.st, r: c.r, i: c.i, u: u, relaying: true, answer: []byte(h1.LastChunk)[n:], whole: true})
				return
			}
		}
		l.end(c, answered)
	case c.phase == relaying:
		x.failure = resetBy()
		l.end(c, truncated)
	default:
		x.failure = resetBy()
		o := dropped
		if u.n > 0 {
			o = broken // it had begun to answer
		}
		l.fail(c, o)
	}
}

// answer takes the head of an answer and what follows it, in[at:]. It returns
// what is to be delivered if that is all there is, and a part of in.
func (l *loop) answer(c *loopClient, in []byte, at int) (whole []byte) {
	x, u, b := c.x, c.u, in[at:]
	x.stale = false
	done, bad := x.resp.ParseResponse(b)
	if bad == nil && !done && len(b) < maxHead {
		if u.part == nil {
			u.part = getBuffer()
		}
		u.n = copy(u.part[:], b)
		return nil
	}
	if bad != nil || !done || x.resp.Status < 200 || x.endless() || x.large(len(b)) {
		buf := getBuffer()
		l.handOver(c, handover{st: c.st, r: c.r, i: c.i, u: u, buf: buf, n: copy(buf[:], b)})
		return nil
	}
	l.forgetPart(u)
	a := x.frameAnswer()
	u.limit = x.idleLimit()
	first, done, bad := x.reframe(b[x.resp.Size:])
	if bad != nil {
		x.failure = malformedBy(bad)
		l.fail(c, broken)
		return nil
	}
	x.headed(c.i)
	c.phase = relaying
	w := x.resp.AppendResponse(l.out[:0], a)
	if !done {
		x.release(streamRoom)
	}
	body := at + x.resp.Size
	head := body - len(w)
	if x.mode == noBody || x.mode == untilClose || x.plain || head < 0 {
		l.deliver(c, append(w, first...), done)
		return nil
	}
	// The body stays where it is, and the head goes before it.
	copy(in[head:], w)
	w = in[head : body+len(first)]
	if done {
		return w
	}
	l.deliver(c, w, false)
	return nil
}

// answerRoom is where in a loop's buffer answers are read to: what is before
// it has room for a head that becomes longer.
const answerRoom = bufferSize

// endless: events, which end only when somebody ends them.
func (x *exchange) endless() bool { return x.resp.EventStream && x.resp.ContentLength < 0 }

// large: the kernel moves what is left of such a body better than a loop.
func (x *exchange) large(n int) bool {
	return x.resp.ContentLength-int64(n-x.resp.Size) >= spliceFrom && !x.resp.Bodiless(x.req.Head)
}

// relay takes more of the body.
func (l *loop) relay(c *loopClient, b []byte) {
	x := c.x
	out, done, bad := x.reframe(b)
	if bad != nil {
		x.failure = malformedBy(bad)
		l.end(c, truncated)
		return
	}
	l.deliver(c, out, done)
}

// deliver writes to the client; whole: nothing follows.
func (l *loop) deliver(c *loopClient, w []byte, whole bool) {
	n := 0
	if len(w) > 0 {
		var errno syscall.Errno
		n, errno = transmit(c.fd, w)
		if errno != 0 && errno != unix.EAGAIN {
			l.end(c, aborted)
			return
		}
	}
	switch {
	case n < len(w): // it reads slowly
		l.handOver(c, handover{st: c.st, r: c.r, i: c.i, u: c.u, relaying: true, answer: append([]byte(nil), w[n:]...), whole: whole})
	case whole:
		l.end(c, answered)
	}
}

func (l *loop) forgetPart(u *loopUpstream) {
	putBuffer(u.part)
	u.part, u.n = nil, 0
}

// release takes a connection out of the loop, which nobody uses there.
func (l *loop) release(u *loopUpstream) {
	l.forgetPart(u)
	l.socks[u.fd] = sock{}
	if u.c == nil {
		p := &u.i.pools[l.id]
		for k, o := range p.idle {
			if o == u {
				p.idle = append(p.idle[:k], p.idle[k+1:]...)
				break
			}
		}
	}
}

func (l *loop) drop(u *loopUpstream) {
	l.release(u)
	closeFD(u.fd)
}
