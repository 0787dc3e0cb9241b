package edge

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"gapless/internal/edge/h1"
)

// client is the side that asked: an HTTP/1.1 connection or an HTTP/2 stream.
// Bodies pass as HTTP/1.1 frames them; a plain client gets answers without chunks.
type client interface {
	// more reads the next bytes of the request body, framed as the request head says.
	more(p []byte) (int, error)
	// stopMore makes a call of more return an error soon; resumeMore undoes it.
	stopMore()
	resumeMore()
	// interim passes on a 1xx answer.
	interim(x *exchange) error
	// head sends the head of the answer and the first bytes of its body.
	head(x *exchange, a h1.Answer, first []byte) error
	// write sends bytes of the body.
	write(b []byte) error
	// splice sends n bytes of the body straight from an instance. It reports
	// false if it cannot.
	splice(u *upstream, n int64) (sent int64, err error, able bool)
	// tell answers on the edge's own account.
	tell(x *exchange, o own) error
}

// watch is what the edge's clock sees of an exchange: when which side must
// have moved. Times are of the edge clock, 0 is never.
type watch struct {
	answerDue atomic.Int64 // the instance must have begun to answer
	writeDue  atomic.Int64 // the client must have taken what it was sent
	readDue   atomic.Int64 // the client must have sent more
	waiting   atomic.Int64 // since when only the instance can move: the client may be gone unseen
	gone      atomic.Bool  // the client went away
	upstream  atomic.Pointer[upstream]
}

// rest: no instance is waited for. A store costs more than a look.
func (w *watch) rest() {
	if w.upstream.Load() != nil {
		w.upstream.Store(nil)
	}
	if w.answerDue.Load() != 0 {
		w.answerDue.Store(0)
	}
	if w.waiting.Load() != 0 {
		w.waiting.Store(0)
	}
}

// exchange is one request and its answer. It is used again and again.
type exchange struct {
	edge     *Edge
	clock    *int64 // of the loop that has it; nil: see now
	client   client
	watch    *watch
	lim      *limits    // of the route, or the defaults
	addr     netip.Addr // of the client; zero: it is in fw
	peer     netip.Addr // of the connection, once the route is known
	claim    int64      // of the edge's room
	listener string
	http2    bool // the client is an HTTP/2 stream
	plain    bool // the client wants bodies without chunks

	req, resp h1.Head
	fw        h1.Forward
	id        [32]byte

	in    *buffer // the request head, and what came after it
	n     int     // bytes in it
	body  []byte  // of in: the first bytes of the body, framed
	rest  []byte  // of in, or of spare: bytes after this request
	spare *buffer // what the pump read too much
	out   *buffer // where heads are written

	bodyLeft int64 // of a Content-Length body, not in body
	bodyDone bool  // body has the end of it
	chunk    h1.Chunk
	pump     *pump   // sends the rest of the body while the answer is read
	shadow   *shadow // the copy of this exchange; nil: none is made

	aging             aging   // see pacer
	session           session // of the client; see assign
	invited           *rule   // that the address asked for
	added             []byte  // see lines
	moved             *moved  // of the route that matched
	hsts              string  // and what it says
	chosen            *share
	tried             [maxTries]*instance
	nTried            int
	retries, resets   int
	deaths            int       // instances at which the connection ended after it was sent
	lastDied          *instance // the last of them
	fresh             bool      // the next try needs a connection of its own
	retried           bool
	last              *instance     // that was tried
	failed            string        // kind of the first failure with an instance; see book
	failedBy          *instance     // nil: there was none to try
	booked, bookedBad bool          // see book
	started           int64         // edge clock when the head had been read
	held              time.Duration // of which waiting for anyone to be ready

	status    int  // of the answer sent to the client, 0: none yet
	sent      bool // a byte of the request reached an instance
	continued bool // 100 was passed on
	close     bool // the client's connection ends after this
	cut       bool // and must end so that the client sees the answer was not whole
	stale     bool // a kept connection failed, not the instance
	dirty     bool // there is more on the instance's connection than the answer
	failure   own  // what to say if nobody answers

	access accessed // what is written about it
	trail  trail    // what it asked for; see tread

	mode   framing // of the answer
	left   int64
	answer h1.Chunk
}

// framing is how the body of an answer ends.
type framing uint8

const (
	noBody  framing = iota
	counted         // after left bytes
	chunked
	untilClose
)

const (
	maxTries      = 3 // for one request: the first and two retries
	spliceFrom    = 128 << 10
	spliceStep    = 512 << 10
	maxInterim    = 32
	goneAfter     = int64(time.Second) // an exchange must last this long before the client is looked at
	holdRetry     = 250 * time.Millisecond
	settleTimeout = 2 * time.Second
)

// outcome is how one try with one instance ended.
type outcome uint8

const (
	answered  outcome = iota // the whole answer went to the client
	unsent                   // nothing reached the instance
	dropped                  // the connection ended before a byte of an answer
	broken                   // the instance failed before its answer began for the client
	truncated                // it failed after that: the client must see that there is no end
	aborted                  // the client went away
	faulted                  // the client's request is at fault: nobody else is
	shedding                 // this machine has not enough of something: nobody else is at fault
	upgraded                 // both went over to another protocol, and have ended
)

func (x *exchange) begin(e *Edge, now int64) {
	x.edge, x.started, x.held = e, now, 0
	x.lim = e.noLimits
	x.chosen, x.nTried, x.retried, x.last = nil, 0, false, nil
	x.retries, x.resets, x.fresh = 0, 0, false
	x.deaths, x.lastDied = 0, nil
	x.failed, x.failedBy, x.booked, x.bookedBad = "", nil, false, false
	x.status, x.sent, x.continued, x.cut = 0, false, false, false
	x.close = x.req.Close || e.draining.Load()
	x.failure, x.stale, x.dirty = own{}, false, false
	x.pump = nil
	x.access.reset()
	x.plain = x.req.HTTP10
	x.chunk, x.bodyLeft, x.bodyDone = h1.Chunk{}, 0, true
	x.body, x.rest = nil, nil
	x.session, x.invited, x.hsts = session{}, nil, ""
}

// now is the edge clock. A loop reads it once for a few events.
func (x *exchange) now() int64 {
	if x.clock != nil {
		return *x.clock
	}
	return x.edge.now()
}

// frame divides what came after the head into this request's body and the
// rest. It returns a refusal if the body is malformed.
func (x *exchange) frame(after []byte) *h1.Refusal {
	switch {
	case x.req.Chunked:
		n, done, err := x.chunk.Feed(after)
		if err != nil {
			return err
		}
		x.body, x.rest, x.bodyDone = after[:n], after[n:], done
	case x.req.ContentLength > 0:
		n := min(int64(len(after)), x.req.ContentLength)
		x.body, x.rest = after[:n], after[n:]
		x.bodyLeft = x.req.ContentLength - n
		x.bodyDone = x.bodyLeft == 0
	default:
		x.rest = after
	}
	return nil
}

// ended is called once when an exchange is over, by whichever driver had it
// to the end.
func (x *exchange) ended() {
	x.unaged()
	x.logged()
	x.endMirror()
	x.release(0)
}

// try gives the request to one instance.
func (x *exchange) try(ctx context.Context, i *instance) outcome {
	e := x.edge
	var u *upstream
	if !x.fresh {
		u = i.pool.get(e.now())
		if u != nil && u.sight() != quiet {
			u.Close() // it is dead, or what the instance said after its last answer would pass for the next one
			u = nil
		}
	}
	if u == nil {
		var err error
		if u, err = i.connect(ctx, e.cfg.ConnectTimeout); err != nil {
			if ctx.Err() != nil {
				return aborted
			}
			if exhausted(err) {
				return shedding
			}
			i.refused.Store(e.now())
			i.dialed(e.now(), err)
			x.failure, x.stale = refusedBy(err), false
			return unsent
		}
	}
	if !u.pooled {
		i.dialed(e.now(), nil)
	}
	x.stale = u.pooled // until the first byte of an answer
	x.watch.upstream.Store(u)
	if x.watch.gone.Load() { // before there was an upstream to wake
		u.Close()
		return aborted
	}
	if !x.send(u) {
		u.Close()
		x.failure = resetBy()
		return dropped
	}
	return x.receive(i, u, nil, 0)
}

// receive takes the answer from an instance that has the request. buf has the
// first n bytes of it already, if there is one. It keeps u or closes it.
func (x *exchange) receive(i *instance, u *upstream, buf *buffer, n int) outcome {
	reuse := false
	defer func() { x.leave(i, u, reuse) }()
	buf, n, o := x.readHead(u, i, buf, n)
	if o != answered {
		return o
	}
	if x.resp.Status == 101 {
		return x.switchOver(i, u, buf, n)
	}
	if x.http2 && x.declined() {
		defer putBuffer(buf)
		return x.decline(i)
	}
	if o = x.relay(i, u, buf, n); o == answered {
		reuse = x.reusable(u)
	}
	return o
}

// relayRest goes on with an answer whose head was sent: pending is to be
// written before all else, done says that nothing else follows.
func (x *exchange) relayRest(i *instance, u *upstream, buf *buffer, pending []byte, done bool) outcome {
	o := answered
	x.watch.answerDue.Store(x.lastBy())
	if x.deliver(pending) != nil {
		o = aborted
	} else if !done {
		o = x.relayBody(i, u, &buf)
	}
	putBuffer(buf)
	x.leave(i, u, o == answered && x.reusable(u))
	return o
}

// leave keeps the connection to an instance for another exchange, or closes it.
func (x *exchange) leave(i *instance, u *upstream, reuse bool) {
	if reuse {
		i.pool.put(u, x.edge.now())
	} else {
		u.Close()
	}
}

// reusable reports whether u can serve another exchange after a whole answer.
func (x *exchange) reusable(u *upstream) bool {
	ok := x.keepable(u.limit)
	if x.pump != nil {
		// The answer was complete before the request was: the instance gets a
		// moment to take the rest.
		if x.resp.Close || !x.pump.wait(x.settleTime()) || x.pump.discard.Load() || !x.pump.whole {
			ok = false
		}
	}
	return ok
}

// settleTime is how long an instance has for the rest of a request that it
// has answered.
func (x *exchange) settleTime() time.Duration {
	if x.http2 {
		return 20 * time.Millisecond // the client hears of the end only when this is over
	}
	return settleTimeout
}

// keepable is what the answer says of the connection it came on, which may
// then stay idle for limit.
func (x *exchange) keepable(limit time.Duration) bool {
	return x.mode != untilClose && !x.resp.Close && !x.dirty && limit > 0
}

// send writes the request's head and what there is of its body, and starts
// the pump for the rest. It returns false if nothing could be written.
func (x *exchange) send(u *upstream) bool {
	head := x.req.AppendRequest(x.out[:0], &x.fw)
	var n int
	var err error
	if len(head)+len(x.body) <= cap(head) {
		n, err = u.Write(append(head, x.body...))
	} else if n, err = u.Write(head); err == nil {
		_, err = u.Write(x.body)
	}
	x.sent = x.sent || n > 0
	if err != nil && n == 0 {
		return false
	}
	// After another error there may still be an answer to read.
	if !x.bodyDone {
		x.startPump(u)
	}
	return true
}

// readHead reads answers until the final one, passing interim ones on; buf
// has the first n bytes, if there is one. The buffer that it returns holds the
// head and what followed it.
func (x *exchange) readHead(u *upstream, i *instance, buf *buffer, n int) (_ *buffer, _ int, o outcome) {
	now := x.edge.now()
	x.watch.answerDue.Store(x.answerBy())
	if x.pump == nil {
		x.watch.waiting.Store(now)
	}
	if buf == nil {
		if buf, n, o = x.readUpstream(u, i); o != answered {
			return nil, 0, o
		}
	}
	x.stale = false
	for interims := 0; ; {
		done, bad := x.resp.ParseResponse(buf[:n])
		switch {
		case bad != nil || !done && n >= maxHead:
			putBuffer(buf)
			x.failure = malformedBy(bad)
			return nil, 0, broken
		case !done:
			k, err := x.readMore(u, buf[n:])
			if err != nil {
				putBuffer(buf)
				switch {
				case x.watch.gone.Load():
					return nil, 0, aborted
				case x.faulty():
					return nil, 0, faulted
				}
				x.failure = resetBy()
				return nil, 0, broken
			}
			n += k
			continue
		case x.resp.Status == 101:
			if !x.agreed() {
				putBuffer(buf)
				x.failure = malformedBy(nil)
				return nil, 0, broken
			}
		case x.resp.Interim():
			if interims++; interims > maxInterim {
				putBuffer(buf)
				x.failure = malformedBy(nil)
				return nil, 0, broken
			}
			x.continued = x.continued || x.resp.Status == 100
			if err := x.client.interim(x); err != nil {
				putBuffer(buf)
				return nil, 0, aborted
			}
			n = copy(buf[:], buf[x.resp.Size:n])
			if n > 0 {
				continue
			}
			putBuffer(buf)
			if buf, n, o = x.readUpstream(u, i); o != answered {
				if o == dropped {
					o = broken // it has begun to answer
				}
				return nil, 0, o
			}
			continue
		}
		x.watch.answerDue.Store(0)
		return buf, n, answered
	}
}

// readUpstream waits for bytes of an answer.
func (x *exchange) readUpstream(u *upstream, i *instance) (*buffer, int, outcome) {
	for {
		buf, n, err := u.reader.next()
		if err == nil {
			return buf, n, answered
		}
		x.sent = x.sent && !(u.bridge.refused() && x.pump == nil) // nothing was done with it
		switch {
		case x.watch.gone.Load():
			return nil, 0, aborted
		case x.faulty():
			return nil, 0, faulted
		case errors.Is(err, os.ErrDeadlineExceeded):
			if due := x.watch.answerDue.Load(); due != 0 && x.edge.now() >= due {
				if x.watch.readDue.Load() != 0 && !x.late() { // it cannot answer yet: the client has not sent all
					x.watch.answerDue.Store(x.answerBy())
					u.SetReadDeadline(time.Time{})
					continue
				}
				x.failure = timeoutOf()
				return nil, 0, broken
			}
			u.SetReadDeadline(time.Time{}) // meant for an exchange before this one
			continue
		}
		x.failure = resetBy()
		return nil, 0, dropped
	}
}

// faulty reports whether the rest of the request turned out to be malformed,
// too large or too slow.
func (x *exchange) faulty() bool { return x.pump != nil && x.pump.bad.Load() != nil }

// readMore reads into the space after what a buffer already has.
func (x *exchange) readMore(u *upstream, p []byte) (int, error) {
	for {
		n, err := u.Conn.Read(p)
		if n > 0 {
			return n, nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !x.watch.gone.Load() && !x.faulty() {
			if due := x.watch.answerDue.Load(); due == 0 || x.edge.now() < due {
				u.SetReadDeadline(time.Time{})
				continue
			}
		}
		return 0, err
	}
}
