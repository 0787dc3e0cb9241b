package edge

import (
	"context"
	"time"

	"gapless/internal/edge/h1"
)

// run takes the request to an instance and the answer back. Afterwards
// x.close says whether the client's connection can be used again.
func (x *exchange) run(ctx context.Context) {
	st := x.edge.state.Load()
	r, o := x.choose(st)
	if o == nil {
		o = x.admit()
	}
	if o != nil {
		x.say(*o)
		return
	}
	x.toss(r)
	x.carry(ctx, st, r)
}

// choose finds the route of the request. It counts nothing and may be called
// again. A second result: the edge answers this itself.
func (x *exchange) choose(st *state) (*route, *own) {
	r := x.place(st)
	if r == nil {
		return nil, &noRoute
	}
	if x.moved != nil {
		if o := x.movedTo(st); o.status != 0 {
			said := o
			return nil, &said
		}
	}
	x.lim = r.limits
	if o := x.lim.forbids(x); o != nil {
		return nil, o
	}
	return r, nil
}

// toss gives the request to a release of its route, for good.
func (x *exchange) toss(r *route) {
	x.chosen = x.assign(r)
	x.chosen.traffic.requests.Add(1)
	x.age()
	x.mirrorTo(r.mirror)
}

// carry tries instances until the request is answered. The coin has fallen.
func (x *exchange) carry(ctx context.Context, st *state, r *route) {
	for {
		if newer := x.edge.state.Load(); newer != st {
			if r, st = x.follow(newer), newer; r == nil {
				x.unanswered(noRoute)
				return
			}
			if m := x.lim.maintenance; m != nil {
				if o := m.answer(x); o.status != 0 {
					x.unanswered(o)
					return
				}
			}
		}
		var i *instance
		if x.retries < maxTries {
			i = x.take(r)
		}
		if i == nil {
			if x.sent && !x.req.Safe || x.deadly() || !x.hold(ctx, st, r) {
				x.giveUp()
				return
			}
			x.nTried, x.retries, x.fresh = 0, 0, false
			continue
		}
		if !x.conclude(i, x.try(ctx, i)) {
			return
		}
	}
}

// take picks an instance and counts the request in flight with it. nil:
// nobody is ready.
func (x *exchange) take(r *route) *instance {
	for !r.limits.paused {
		i := x.pick(r)
		if i == nil {
			return nil
		}
		if !i.acquire() {
			continue // it began to leave just now: the pick does not return it again
		}
		if x.retries > 0 || i.release != x.chosen.release {
			x.again()
			if i.release != x.chosen.release {
				x.fail(kindUnready, nil)
			}
		}
		x.last, x.fw.Strip = i, r.prefix(i.release)
		return i
	}
	return nil
}

// let ends what take began.
func (x *exchange) let(i *instance) {
	if i.done() == 0 && i.leaving.Load() {
		x.edge.news(i.app) // somebody waits for this
	}
}

// conclude draws the consequences of a try with an instance that take
// returned. It reports whether there is to be another one.
func (x *exchange) conclude(i *instance, o outcome) (again bool) {
	x.watch.rest()
	x.heard(i, o)
	x.let(i)
	var bad *h1.Refusal
	if x.pump != nil {
		bad = x.pump.bad.Load()
		x.settle(o)
	}
	switch o {
	case answered:
		return false
	case truncated:
		x.chosen.traffic.failed.Add(1)
		if x.status < 500 { // else it was counted with its head
			x.blame(i)
		}
		x.book(kindCut, i)
		x.close, x.cut = true, true
		return false
	case aborted:
		x.abort()
		return false
	case faulted:
		x.fault(bad)
		return false
	case broken:
		x.blame(i)
		x.giveUp()
		return false
	case shedding:
		x.edge.shed.overload.Add(1)
		x.unanswered(overloaded)
		return false
	}
	if x.sent && !x.req.Safe {
		x.blame(i)
		x.giveUp()
		return false
	}
	// Nothing was sent, or it is safe to send it again.
	x.retries++
	if o == dropped || x.stale {
		x.diedAt(i)
	}
	if x.fresh = x.stale; x.fresh {
		return true // a kept connection closed just as it was used: the instance gets a fresh one
	}
	x.blame(i)
	if o == dropped {
		if x.resets++; x.resets > 1 {
			x.giveUp() // a request that brings instances down must not go round
			return false
		}
	}
	if x.deadly() || !x.mayRepeat() {
		x.giveUp()
		return false
	}
	x.fail(x.failure.code, i)
	x.avoid(i)
	return true
}

// blame counts an answer that an instance did not give, or not whole.
func (x *exchange) blame(i *instance) {
	if !x.watch.gone.Load() {
		i.bad.Add(1)
	}
}

// diedAt notes an instance whose connection ended after the request was sent,
// and before an answer came.
func (x *exchange) diedAt(i *instance) {
	if x.lastDied != i {
		x.lastDied = i
		x.deaths++
	}
}

// deadly reports whether two instances died of the request, or seem to have:
// another one is not asked. A kept connection that ends just as it is used
// looks alike, which is why an instance is asked once more on a fresh one.
func (x *exchange) deadly() bool { return x.deaths > 1 }

// follow finds this request's place in a newer state.
func (x *exchange) follow(st *state) *route {
	r := x.place(st)
	if r == nil {
		return nil
	}
	// The request stays booked where its coin fell, also if that is gone.
	chosen := &share{release: x.chosen.release, traffic: x.chosen.traffic, arm: x.chosen.arm, balance: x.chosen.balance}
	if s := r.share(x.chosen.release); s != nil && s.traffic == x.chosen.traffic {
		chosen.weight, chosen.upTo, chosen.instances = s.weight, s.upTo, s.instances
		chosen.balance = s.balance
	}
	x.chosen, x.lim = chosen, r.limits
	return r
}

// again books that the request goes to another instance, once per request.
func (x *exchange) again() {
	if !x.retried {
		x.retried = true
		x.chosen.traffic.retried.Add(1)
	}
}

func (x *exchange) avoid(i *instance) {
	if x.nTried < len(x.tried) {
		x.tried[x.nTried] = i
		x.nTried++
	}
}

// hold waits for a newer table, or a moment if there are instances that
// refuse connections. It returns false when the request has waited enough.
func (x *exchange) hold(ctx context.Context, st *state, r *route) bool {
	e := x.edge
	left := x.patienceLeft(r)
	if left <= 0 || x.watch.gone.Load() || x.overfull() || !x.queueUp() {
		return false
	}
	if x.held == 0 {
		x.chosen.traffic.held.Add(1)
	}
	began := e.now()
	x.watch.waiting.Store(began)
	if x.aging.by != nil {
		x.aging.pause(began)
	}
	t := time.NewTimer(min(left, holdRetry))
	select {
	case <-st.changed:
	case <-ctx.Done():
	case <-t.C:
	}
	t.Stop()
	x.watch.waiting.Store(0)
	x.unqueue()
	x.held += max(time.Duration(e.now()-began), 1)
	x.chosen.traffic.waited(x.held)
	if x.aging.by != nil {
		x.aging.resume(x.started + int64(x.held))
	}
	return ctx.Err() == nil
}

// giveUp answers for instances that did not.
func (x *exchange) giveUp() {
	if x.watch.gone.Load() {
		x.abort()
		return
	}
	if x.failure.status == 0 {
		x.unanswered(x.lim.unready())
		return
	}
	x.chosen.traffic.failed.Add(1)
	x.book(x.failure.code, x.last)
	x.unanswered(x.failure)
}

// abort books that the client went away. That is nobody's failure.
func (x *exchange) abort() {
	x.close, x.access.left = true, true
	x.chosen.traffic.aborted.Add(1)
	if x.status == 0 {
		x.chosen.traffic.status[0].Add(1)
	}
}

// fault answers a request that turned out to be malformed, too large or too
// slow after an instance had the begin of it. That is nobody's failure either.
func (x *exchange) fault(bad *h1.Refusal) {
	x.close = true
	x.chosen.traffic.aborted.Add(1)
	if x.status != 0 { // the answer had begun: the client must see that there is no end
		x.cut = true
		return
	}
	x.unanswered(badRequest(bad))
}

// unanswered books that no instance answered, and says o.
func (x *exchange) unanswered(o own) {
	x.chosen.traffic.status[0].Add(1)
	x.say(o)
}

// say answers on the edge's own account. The connection is kept if nothing
// of the request is left unread.
func (x *exchange) say(o own) {
	if !x.bodyDone {
		x.close = true
	}
	x.status = o.status
	o = x.lim.dress(o)
	x.says(o)
	x.watch.writeDue.Store(x.writeBy())
	if x.client.tell(x, o) != nil {
		x.close = true
	}
	x.watch.writeDue.Store(0)
}

// settle ends the pump after the instance was let go of: after a whole
// answer the rest of the request is read away, so that the client, which may
// not have looked at the answer yet, does not write into a reset.
func (x *exchange) settle(o outcome) {
	// An HTTP/2 client hears of the end of the answer only when this exchange is over.
	if x.close || x.http2 || o != answered || !x.pump.wait(x.lim.bodyIdle) {
		x.pump.stop()
	}
	if x.pump.whole {
		x.rest, x.spare = x.pump.rest, x.pump.buf
		if o != answered {
			x.bodyDone = true // so the connection can be kept
		}
	} else {
		x.close = true
	}
	x.pump = nil
}
