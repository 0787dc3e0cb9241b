package edge

import (
	"sync"

	"gapless"
)

// pacer counts the requests that a coin gave to one release by limits of age.
// Those in flight are in a list, so that a report can tell of the ones that
// have become too old meanwhile. Its numbers only grow.
//
// The list is made of the exchanges themselves: nothing is allocated, and a
// request costs two short looks at a lock.
type pacer struct {
	mu          sync.Mutex
	paces       gapless.Paces
	first, last *aging // in flight, by age as a rule, and younger than one of their limits
	least       int64  // nothing younger is slow
	freed       bool   // its counter is gone
}

// paceLimits is how many limits of age a request is held against.
const paceLimits = 2 * gapless.Quantiles

// ages are the limits that requests of one release are held against now.
type ages struct {
	*pacer
	limits [paceLimits]int64 // in nanoseconds: for worse, then for the margin; 0: none
	leaves [paceLimits]int64 // the same for who goes away: see leave
	least  int64             // of them; 0: there is none
}

// aging is an exchange as a pacer sees it. All of it is under the pacer's lock,
// but whoever has the exchange, and alone changes by, may look at that without.
type aging struct {
	by         *ages // nil: its age is nobody's evidence, or was counted
	since      int64 // edge clock
	slow       uint8 // limits that it was found to have passed, a bit each
	listed     bool
	prev, next *aging
}

// agesOf makes what the limits l say of requests of stable, or of the candidate.
func agesOf(l gapless.LatencyLimits, stable bool) *ages {
	a := &ages{}
	for i := range gapless.Quantiles {
		worse, margin := l.Worse[i], l.Margin[i]
		if stable {
			worse, margin = l.Quantile[i], l.Quantile[i]
		}
		a.limits[i], a.limits[gapless.Quantiles+i] = int64(max(worse, 0)), int64(max(margin, 0))
		a.leaves[i], a.leaves[gapless.Quantiles+i] = a.limits[i], min(a.limits[gapless.Quantiles+i], int64(max(l.Quantile[i], 0)))
	}
	for _, limit := range a.limits {
		if limit > 0 && (a.least == 0 || limit < a.least) {
			a.least = limit
		}
	}
	return a
}

// pace is where a request is counted by limit k.
func (p *pacer) pace(k int) *gapless.Pace {
	if k < gapless.Quantiles {
		return &p.paces.Worse[k]
	}
	return &p.paces.Margin[k-gapless.Quantiles]
}

// enter begins to look at an exchange that came at since. false: it counts for
// nobody any more.
func (a *ages) enter(x *aging, since int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.freed {
		return false
	}
	x.by, x.since, x.slow = a, since, 0
	if a.pacer.least == 0 || a.least < a.pacer.least {
		a.pacer.least = a.least
	}
	a.list(x)
	return true
}

// list and unlist: p.mu is held.
func (p *pacer) list(x *aging) {
	x.listed, x.prev, x.next = true, p.last, nil
	if p.last == nil {
		p.first = x
	} else {
		p.last.next = x
	}
	p.last = x
}

func (p *pacer) unlist(x *aging) {
	if !x.listed {
		return
	}
	x.listed = false
	if x.prev == nil {
		p.first = x.next
	} else {
		x.prev.next = x.next
	}
	if x.next == nil {
		p.last = x.prev
	} else {
		x.next.prev = x.prev
	}
	x.prev, x.next = nil, nil
}

// passed counts x as slow by each of these limits below its age, once. all:
// there is no limit left that it could pass. a.mu is held.
func (a *ages) passed(x *aging, age int64, limits *[paceLimits]int64) (all bool) {
	all = true
	for k, limit := range limits {
		switch {
		case limit == 0 || x.slow&(1<<k) != 0:
		case age > limit:
			x.slow |= 1 << k
			a.pace(k).Slow++
		default:
			all = false
		}
	}
	return all
}

// look counts what has become too old in flight.
func (p *pacer) look(now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for x := p.first; x != nil && now-x.since > p.least; {
		next := x.next
		if x.by.passed(x, now-x.since, &x.by.limits) {
			p.unlist(x)
		}
		x = next
	}
}

// sum is what was counted so far.
func (p *pacer) sum() gapless.Paces {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paces
}

// free reports whether nothing can be counted any more beyond told, which was
// reported. Then nothing is.
func (p *pacer) free(told gapless.Paces) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.freed = p.freed || p.first == nil && p.paces == told
	return p.freed
}

// end counts an exchange that has been answered at this age.
func (x *aging) end(age int64) {
	a := x.by
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unlist(x)
	x.by = nil
	a.passed(x, age, &a.limits)
	for k, limit := range a.limits {
		if limit > 0 && x.slow&(1<<k) == 0 {
			a.pace(k).Fast++
		}
	}
}

// leave ends the look at an exchange that nobody knows the end of: its client
// went away. What it was too old for by then stays counted. By the margin it is
// slow from stable's quantile on, as one of stable is: else clients that wait no
// longer than the margin would hide the candidate's slow requests, and it would
// seem proven that it is within it.
func (x *aging) leave(now int64) {
	a := x.by
	a.mu.Lock()
	defer a.mu.Unlock()
	x.by = nil
	if x.listed {
		a.unlist(x)
		a.passed(x, now-x.since, &a.leaves)
	}
}

// pause stops its age, resume lets it go on as if it had come at since.
func (x *aging) pause(now int64) {
	a := x.by
	a.mu.Lock()
	defer a.mu.Unlock()
	a.passed(x, now-x.since, &a.limits)
	a.unlist(x)
}

func (x *aging) resume(since int64) {
	a := x.by
	a.mu.Lock()
	defer a.mu.Unlock()
	x.since = since
	a.unlist(x)
	a.list(x)
}

// age begins to look at how old this request becomes, if that is evidence. Of
// a session only its first request is: the others depend on it.
func (x *exchange) age() {
	a := x.chosen.arm
	if a == nil {
		return
	}
	by := a.ages.Load()
	if by == nil || x.session.counts && !x.session.tell || by.enter(&x.aging, x.started) {
		return
	}
	// Its counter was freed: it was of a route that is gone, or of several.
	renewed := &ages{pacer: x.edge.counters.pacer(a.key()), limits: by.limits, leaves: by.leaves, least: by.least}
	a.ages.CompareAndSwap(by, renewed)
	renewed.enter(&x.aging, x.started)
}

// aged counts how old the request was when its answer began, as the latencies
// of its release are counted: without the time that it was held, and without
// that of the answer's body, which is the client's as often as the instance's.
// That a client took its time to send a body is in it, for both releases alike.
func (x *exchange) aged() {
	if x.aging.by != nil {
		x.aging.end(x.edge.now() - x.started - int64(x.held))
	}
}

// unaged lets go of a request without an answer that is evidence.
func (x *exchange) unaged() {
	if x.aging.by != nil {
		x.aging.leave(x.edge.now())
	}
}

// key is what the ages of an arm's requests are counted by. The instance is
// not in it: a request that is old already may go to another one.
func (a *arm) key() CounterKey {
	k := CounterKey{App: a.app, Release: a.release, Version: a.version, Weight: a.weight}
	if a.sticky {
		k.Session = gapless.SessionNew
	}
	return k
}

// limitAges has an arm's requests held against the limits of its app. e.mu is held.
func (e *Edge) limitAges(a *arm) {
	l := e.paced[a.app]
	if l.Version == 0 || l.Stable != a.stable || l.Candidate != a.candidate {
		a.ages.Store(nil)
		return
	}
	by := agesOf(l, a.release == a.stable)
	if by.least == 0 {
		a.ages.Store(nil)
		return
	}
	by.pacer = e.counters.pacer(a.key())
	a.ages.Store(by)
}

// pace takes in limits of age for an app: they hold for requests that come
// from now on. Version 0 ends them.
func (e *Edge) pace(app string, l gapless.LatencyLimits) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.paced[app] == l {
		return
	}
	if l.Version == 0 {
		delete(e.paced, app)
	} else {
		e.paced[app] = l
	}
	for _, a := range e.state.Load().arms {
		if a.app == app {
			e.limitAges(a)
		}
	}
}

// pacedBy lists the versions of the limits that hold. e.mu is held.
func (e *Edge) pacedBy() map[string]uint64 {
	out := map[string]uint64{}
	for app, l := range e.paced {
		out[app] = l.Version
	}
	return out
}

// newArm makes the arm of a share of a route whose candidate's share is w. e.mu is held.
func (e *Edge) newArm(spec gapless.Route, r *route, s *share, w float64) *arm {
	a := &arm{app: spec.App, release: s.release, version: e.versions[spec.App], weight: w, stable: spec.Stable}
	a.sticky = r.sessions != nil && r.sessions.weight > 0
	for _, w := range spec.Weights {
		if w.Release != spec.Stable {
			a.candidate = w.Release
		}
	}
	e.limitAges(a)
	return a
}
