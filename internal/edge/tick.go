package edge

import (
	"sync/atomic"
	"time"
)

const tickEvery = 100 * time.Millisecond

// tick is the one clock of all connections: requests set when something is
// due and need no timers of their own. A deadline that fires for an exchange
// that is already over is recognised by who it wakes, and ignored.
func (e *Edge) tick() {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	var list []ticked
	for n := 0; ; n++ {
		select {
		case <-e.ctx.Done():
			return
		case <-t.C:
		}
		if n%5 != 0 && !e.draining.Load() {
			continue
		}
		list = list[:0]
		e.tickMu.Lock()
		for c := range e.ticking {
			list = append(list, c)
		}
		e.tickMu.Unlock()
		now, grace := e.now(), e.graceOver()
		for _, c := range list {
			c.check(now, grace)
		}
		clear(list)

		e.mu.Lock()
		for _, i := range e.instances {
			i.pool.expire(now)
		}
		e.mu.Unlock()
		e.feel(now)
		e.expireLeases()
	}
}

// ticked is a client that the clock looks after.
type ticked interface {
	// check wakes whoever waits for something that is overdue; grace: idle
	// connections must go.
	check(now int64, grace bool)
	// cut ends it now.
	cut()
}

func (e *Edge) watchOver(c ticked) {
	e.tickMu.Lock()
	e.ticking[c] = struct{}{}
	e.tickMu.Unlock()
}

func (e *Edge) forget(c ticked) {
	e.tickMu.Lock()
	delete(e.ticking, c)
	e.tickMu.Unlock()
}

func (c *conn) check(now int64, grace bool) {
	w := &c.watch
	if overdue(&w.readDue, now) || c.idle.Load() && (grace || c.gate.idleOver(w.readDue.Load(), now, c.edge.crowded())) {
		c.SetReadDeadline(past)
	}
	if overdue(&w.writeDue, now) {
		c.SetWriteDeadline(past)
	}
	u := w.upstream.Load()
	if u == nil && w.waiting.Load() == 0 {
		return
	}
	if since := w.waiting.Load(); since != 0 && now-since > goneAfter && c.left() {
		w.gone.Store(true)
		if u != nil {
			u.SetReadDeadline(past)
		}
		return
	}
	if u != nil && overdue(&w.answerDue, now) {
		u.SetReadDeadline(past)
	}
}

func (c *conn) cut() {
	c.watch.gone.Store(true)
	c.Close()
	if u := c.watch.upstream.Load(); u != nil {
		u.SetReadDeadline(past)
	}
}

func (s *stream2) check(now int64, _ bool) {
	s.mu.Lock() // the library's side of a stream must not be touched after its end
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if overdue(&s.watch.readDue, now) {
		s.rc.SetReadDeadline(past)
	}
	if overdue(&s.watch.writeDue, now) {
		s.rc.SetWriteDeadline(past)
	}
	if u := s.watch.upstream.Load(); u != nil && overdue(&s.watch.answerDue, now) {
		u.SetReadDeadline(past)
	}
}

func (s *stream2) cut() { s.gone() }

func overdue(due *atomic.Int64, now int64) bool {
	d := due.Load()
	return d != 0 && now >= d
}
