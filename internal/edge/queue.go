package edge

import (
	"sync/atomic"
	"time"

	"gapless"
)

// queue counts the requests of one app that wait. It outlives tables.
type queue struct {
	waiting, bytes atomic.Int64
}

// queuesOf gives each app of a table its queue. e.mu is held.
func (e *Edge) queuesOf(t gapless.Table) map[string]*queue {
	out := map[string]*queue{}
	for _, r := range t.Routes {
		if out[r.App] = e.queues[r.App]; out[r.App] == nil {
			out[r.App] = &queue{}
		}
	}
	e.queues = out
	return out
}

// queueUp counts a request among those that wait; false: there is no more
// place, and it must be answered.
func (x *exchange) queueUp() bool {
	e, l, n := x.edge, x.lim, x.weight()
	ok := e.holding.Add(1) <= int64(e.cfg.MaxHeld)
	if q := l.queue; q != nil {
		waiting, bytes := q.waiting.Add(1), q.bytes.Add(n)
		ok = ok && waiting <= l.held && bytes <= l.heldSize
	}
	if !ok {
		x.unqueue()
		e.shed.holds.Add(1)
	}
	return ok
}

// unqueue undoes queueUp.
func (x *exchange) unqueue() {
	x.edge.holding.Add(-1)
	if q := x.lim.queue; q != nil {
		q.waiting.Add(-1)
		q.bytes.Add(-x.weight())
	}
}

// weight is how many bytes a request takes while it waits: its buffers, and
// of HTTP/2 what of its body may have come already.
func (x *exchange) weight() int64 {
	n := int64(len(x.body))
	for _, b := range []*buffer{x.in, x.out, x.spare} {
		if b != nil {
			n += bufferSize
		}
	}
	if x.http2 && !x.bodyDone {
		n += streamWindow
	}
	return n
}

// streamWindow is how much of one stream's body net/http takes unasked.
const streamWindow = 1 << 20

// patienceLeft is how much longer a request may wait for somebody to be ready.
func (x *exchange) patienceLeft(r *route) time.Duration {
	left := r.hold - x.held
	if x.lim.total > 0 {
		left = min(left, time.Duration(x.started+int64(x.lim.total)-x.edge.now()))
	}
	return left
}
