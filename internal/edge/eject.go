package edge

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"gapless"
)

// passive is what requests tell of an instance beside their answers: whether
// the edge gets through to it at all. An answer, whatever it says, is a good
// sign here; the judge looks at those.
type passive struct {
	failures atomic.Int64 // in a row
	first    atomic.Int64 // edge clock of the first of them
	until    atomic.Int64 // edge clock: it is given nothing before this
	count    atomic.Uint64
	level    int // how often in a row it was ejected; under Edge.ejecting
	balance  atomic.Pointer[balance]
}

const (
	ejectFirst   = 10 * time.Second
	ejectLongest = 5 * time.Minute
)

// ejection is how long an instance is left alone that was ejected level times
// before: 10 s, twice as long each time, up to 5 min. Up to a fifth is taken
// off at random, so that those that failed together do not come back together.
func ejection(level int, random float64) time.Duration {
	d := ejectLongest
	if level < 5 {
		d = min(ejectFirst<<level, ejectLongest)
	}
	return d - time.Duration(random*float64(d)/5)
}

// nextLevel is the level after an ejection that ended at until. Who has not
// been ejected for as long as the longest one begins anew.
func nextLevel(level int, until, now int64) int {
	if until == 0 || now-until > int64(ejectLongest) {
		return 0
	}
	return level + 1
}

// mayEject is the rule: of a release one instance is out, or half of them; and
// one is always left where nobody can stand in.
func mayEject(all, out int, vital bool) bool {
	if vital && out+1 >= all {
		return false
	}
	return out < max(1, all/2)
}

// heard takes in how a try with an instance ended.
func (x *exchange) heard(i *instance, o outcome) {
	p := &i.passive
	switch o {
	case answered, upgraded:
		if p.failures.Load() != 0 {
			p.failures.Store(0)
		}
	case dropped:
		if !x.stale { // else a kept connection had ended, as they may
			x.edge.suspect(i, x.edge.now())
		}
	case unsent, broken, truncated:
		x.edge.suspect(i, x.edge.now())
	}
}

// suspect counts a failure of an instance, and ejects it if it is time.
func (e *Edge) suspect(i *instance, now int64) {
	p := &i.passive
	n := p.failures.Add(1)
	if n == 1 {
		p.first.Store(now)
	}
	t := p.balance.Load()
	if n < gapless.EjectAfter || t == nil || !t.eject || i.leaving.Load() {
		return
	}
	e.ejecting.Lock()
	defer e.ejecting.Unlock()
	until := p.until.Load()
	if now < until { // it was on its way before
		return
	}
	out := 0
	for _, o := range t.peers {
		if o != i && (now < o.passive.until.Load() || o.unhealthy.Load()) {
			out++
		}
	}
	if !mayEject(len(t.peers), out, t.vital) {
		if n == gapless.EjectAfter {
			e.news(i.app)
		}
		return
	}
	p.level = nextLevel(p.level, until, now)
	d := ejection(p.level, rand.Float64())
	p.until.Store(now + int64(d))
	p.count.Add(1)
	e.news(i.app)
	e.log.Warn("instance is left alone: requests do not get through to it", "app", i.app, "instance", i.id, "failures", n, "for", d.Round(time.Second))
}

// keepOne takes the instances back that are left alone where no other is left
// of a release that nobody can stand in for: a table may bring that about.
func (e *Edge) keepOne(t *balance) {
	e.ejecting.Lock()
	defer e.ejecting.Unlock()
	now := e.now()
	if !t.vital || slices.ContainsFunc(t.peers, func(i *instance) bool { return now >= i.passive.until.Load() }) {
		return
	}
	for _, i := range t.peers {
		i.passive.until.Store(0)
	}
}

func (p *passive) report(t *gapless.InstanceTraffic, now int64) {
	if t.Failed = int(p.failures.Load()); t.Failed > 0 {
		t.FailedFor = gapless.Duration(max(0, now-p.first.Load()))
	}
	t.Ejected = gapless.Duration(max(0, p.until.Load()-now))
	t.Ejections = p.count.Load()
}
