package edge

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gapless/internal/edge/h1"
)

const (
	closeGoingAway = 1001
	closeReason    = "server is going away, please reconnect"

	answerClose = 3 * time.Second // for the client to answer a close frame
	endAfter    = time.Second     // for the app to end after its close frame
	halfOpenWS  = 10 * time.Second
	halfOpenRaw = 5 * time.Minute // without a byte, after the other direction has ended
)

// tunnel carries an upgraded connection, in both directions until both have
// ended. Of WebSockets it follows the frames, so that it can say goodbye.
type tunnel struct {
	client end
	up     *upstream
	socket bool
	ended  chan struct{}
	half   atomic.Int64 // directions that have ended

	mu      sync.Mutex // what is written to the client
	down    h1.Frames
	closing bool
	said    bool          // our close frame is written, nothing follows it
	saidIt  chan struct{} // closed then

	upMu     sync.Mutex // what is written to the instance
	upward   h1.Frames
	injected bool          // our close frame is written to the instance
	replied  chan struct{} // closed when the client's close frame went through
}

// end is one end of a tunnel: a connection, or a stream of HTTP/2.
type end interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// switcher is a client that can go over to another protocol.
type switcher interface {
	// openTunnel passes 101 on and returns the client's end of the tunnel to u.
	openTunnel(x *exchange, u *upstream) (end, *reader, error)
}

func (c *conn) openTunnel(x *exchange, _ *upstream) (end, *reader, error) {
	_, err := c.Write(x.resp.AppendResponse(x.out[:0], h1.Answer{Lines: x.lines()}))
	return c.Conn, &c.reader, err
}

// switchOver passes 101 on and serves the tunnel until it ends.
func (x *exchange) switchOver(i *instance, u *upstream, buf *buffer, n int) outcome {
	defer func() { putBuffer(buf) }()
	x.close, x.status = true, x.resp.Status
	x.chosen.traffic.answered(i, x.status, time.Duration(x.edge.now()-x.started)-x.held)
	x.book("", i)
	x.watch.upstream.Store(nil)

	t := &tunnel{
		up: u, socket: x.req.WebSocket,
		ended: make(chan struct{}), saidIt: make(chan struct{}), replied: make(chan struct{}),
	}
	s := &stream{kind: rawUpgrade, end: t.cut}
	if t.socket {
		s.kind, s.end = webSocket, t.sayGoodbye
	}
	i.upgraded.Add(1)
	defer i.upgraded.Add(-1)
	defer close(t.ended)

	client, from, err := x.client.(switcher).openTunnel(x, u)
	if err != nil {
		return aborted
	}
	t.client = client
	if t.writeDown(buf[x.resp.Size:n]) != nil || t.writeUp(x.rest) != nil {
		return answered
	}
	putBuffer(buf)
	buf = nil
	x.slim()
	i.add(s)
	defer i.remove(s)

	upEnded := make(chan struct{})
	go func() {
		defer close(upEnded)
		t.pipe(from, client, u.Conn, t.writeUp)
	}()
	t.pipe(&u.reader, u.Conn, client, t.writeDown)
	<-upEnded
	return answered
}

// pipe carries one direction to its end, then half-closes the other side. An
// error ends both.
func (t *tunnel) pipe(r *reader, from, to end, write func([]byte) error) {
	err := t.copy(r, from, to, write)
	t.half.Add(1)
	if hc, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		err = hc.CloseWrite()
	}
	if err != nil {
		t.client.Close()
		t.up.Close()
		return
	}
	// Wake the other direction: it may not stay half open for ever.
	to.SetReadDeadline(past)
}

// copy returns nil when from has ended in order.
func (t *tunnel) copy(r *reader, from, to end, write func([]byte) error) error {
	var until time.Time // when this direction has had its time; zero: while the other one lives
	for {
		half := t.half.Load() > 0
		var err error
		if t.socket || half || r.raw == nil {
			var buf *buffer
			var n int
			if buf, n, err = r.next(); err == nil {
				err = write(buf[:n])
				putBuffer(buf)
				if err != nil {
					return err
				}
				if half {
					until = time.Now().Add(t.halfOpen())
					from.SetReadDeadline(until)
				}
				continue
			}
			if err == io.EOF {
				return nil
			}
		} else if _, err = io.Copy(to, from); err == nil {
			return nil
		}
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case t.half.Load() == 0: // the clock meant an exchange before this
			from.SetReadDeadline(time.Time{})
		case until.IsZero(): // the other direction has just ended
			until = time.Now().Add(t.halfOpen())
			from.SetReadDeadline(until)
		case time.Now().Before(until):
			from.SetReadDeadline(until)
		default:
			return err
		}
	}
}

func (t *tunnel) halfOpen() time.Duration {
	if t.socket {
		return halfOpenWS
	}
	return halfOpenRaw
}

// writeDown writes what the instance says to the client, up to our close frame.
func (t *tunnel) writeDown(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.socket {
		return t.sendDown(data)
	}
	if t.said {
		return nil
	}
	end := 0
	for end < len(data) && !(t.closing && t.down.Boundary()) {
		end += t.down.Next(data[end:])
	}
	if err := t.sendDown(data[:end]); err != nil {
		return err
	}
	return t.sayIfDue()
}

func (t *tunnel) sendDown(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	_, err := t.client.Write(data)
	return err
}

// sayIfDue writes our close frame to the client if it is to be said and no
// frame is under way. t.mu is held.
func (t *tunnel) sayIfDue() error {
	if !t.closing || t.said || !t.down.Boundary() {
		return nil
	}
	t.said = true
	close(t.saidIt)
	if t.down.Closed { // the app was first
		return nil
	}
	return t.sendDown(h1.AppendClose(nil, closeGoingAway, closeReason, false))
}

// writeUp writes what the client says to the instance.
func (t *tunnel) writeUp(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	t.upMu.Lock()
	defer t.upMu.Unlock()
	if t.injected {
		return nil
	}
	if t.socket {
		for rest := data; len(rest) > 0; {
			was := t.upward.Closed
			rest = rest[t.upward.Next(rest):]
			if t.upward.Closed && !was {
				defer close(t.replied)
			}
		}
	}
	_, err := t.up.Write(data)
	return err
}

// sayGoodbye ends a WebSocket as both sides expect it: a close frame 1001 to
// the client at a frame boundary; the client's answer goes through to the
// app, which ends the connection. Whoever does not play along is cut off.
func (t *tunnel) sayGoodbye(deadline time.Time) {
	t.client.SetWriteDeadline(deadline)
	t.mu.Lock()
	t.closing = true
	err := t.sayIfDue()
	t.mu.Unlock()
	if err != nil {
		t.cut(deadline)
		return
	}
	if !t.await(t.saidIt, time.Until(deadline)*9/10) {
		t.cut(deadline) // one frame lasted for all of the drain
		return
	}
	if !t.await(t.replied, min(answerClose, max(time.Until(deadline)/2, 100*time.Millisecond))) {
		t.upMu.Lock()
		if t.upward.Boundary() {
			t.injected = true
			t.up.SetWriteDeadline(time.Now().Add(time.Second))
			t.up.Write(h1.AppendClose(nil, closeGoingAway, closeReason, true))
		}
		t.upMu.Unlock()
	}
	t.await(nil, min(endAfter, max(time.Until(deadline)/2, 50*time.Millisecond)))
	t.cut(deadline)
}

// await reports whether c was closed within d, before the tunnel ended.
func (t *tunnel) await(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-t.ended:
	case <-timer.C:
	}
	return false
}

func (t *tunnel) cut(time.Time) {
	t.client.Close()
	t.up.Close()
}
