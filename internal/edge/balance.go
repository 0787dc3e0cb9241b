package edge

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"gapless"
)

// balance is what holds for one release of a state beside its weight.
type balance struct {
	candidate bool    // there is a stable release with instances beside it
	vital     bool    // nobody can stand in for it
	weight    float64 // that its coin has
	slow      int64   // nanoseconds of the slow start
	slowUntil int64   // edge clock: until then some instances are new
	limit     int64   // of requests in flight; 0: none, or by its weight
	eject     bool
	budget    *budget
	peers     []*instance // those that are picked from
}

// setBalance makes the balance of all releases of a route. e.mu is held.
func (e *Edge) setBalance(r *route, spec gapless.Route) {
	b := spec.Balance
	if e.budgets[spec.App] == nil {
		e.budgets[spec.App] = newBudget(e.now())
	}
	stable := r.stable != nil && len(r.stable.instances) > 0
	set := func(s *share, alone bool) {
		t := &balance{
			candidate: stable && !alone && s != r.stable, weight: s.weight,
			slow: int64(b.SlowStart), slowUntil: slowStart(s.instances, e.now(), b.SlowStart.Std()),
			eject: !b.NoEject, budget: e.budgets[spec.App], peers: s.instances,
		}
		t.vital = !t.candidate
		t.limit = int64(b.Candidate)
		if s == r.stable {
			t.limit = int64(b.Stable)
		}
		s.balance = t
		if !alone {
			e.keepOne(t)
			for _, i := range s.instances {
				i.passive.balance.Store(t)
			}
		}
	}
	for _, s := range r.shares {
		set(s, false)
	}
	for _, o := range append([]*route{r.preview}, rulesOf(r)...) {
		if o == nil {
			continue
		}
		for _, s := range o.shares {
			set(s, true)
			s.balance.limit = 0
		}
	}
	total := func() (n uint64) {
		for _, s := range r.shares {
			n += s.traffic.requests.Load()
		}
		return n
	}
	e.budgets[spec.App].earn(b.Retries, total)
}

// rulesOf are the routes that requests of a route take without a coin.
func rulesOf(r *route) (list []*route) {
	for _, rule := range r.rules {
		list = append(list, rule.to)
	}
	return list
}

// forgetBudgets drops the budgets of apps that a table does not name. e.mu is held.
func (e *Edge) forgetBudgets(t gapless.Table) {
	maps.DeleteFunc(e.budgets, func(app string, _ *budget) bool {
		return !slices.ContainsFunc(t.Routes, func(r gapless.Route) bool { return r.App == app })
	})
}

// kindOver is the kind of a request that a candidate was not given because it
// had too many in flight already.
const kindOver = "over_limit"

const (
	// candidateFloor is how many requests in flight a candidate may always have.
	candidateFloor = 64
	// hangTime is how long a candidate may answer nothing at all before it has
	// too many in flight, whatever it has beside stable.
	hangTime = 2 * time.Second
)

// candidateLimit is how many requests a candidate of weight w may have in
// flight, of total in flight with all releases, when perSecond come: twice its
// share. It is never less than what comes to it while it pauses for a moment,
// and never more than half of what the edge can take.
func candidateLimit(w float64, total int64, perSecond float64, most int64) int64 {
	n := math.Ceil(2 * w * float64(total))
	n = max(n, math.Ceil(w*perSecond*hangTime.Seconds()), candidateFloor)
	return min(int64(n), most)
}

// overloads reports whether a candidate has as many requests in flight as it
// may have, so that those that come go to stable.
func (e *Edge) overloads(r *route, s *share) bool {
	n := s.inFlight()
	if l := s.balance.limit; l > 0 {
		return n >= l
	}
	if n < candidateFloor {
		return false
	}
	total, perSecond := int64(0), 0.0
	for _, o := range r.shares {
		total += o.inFlight()
		perSecond += o.traffic.tempo.perSecond()
	}
	return n >= candidateLimit(s.balance.weight, total, perSecond, int64(e.cfg.MaxConnections)/2)
}

// limited reports whether a release has a limit of its own.
func (s *share) limited() bool { return s.balance != nil && s.balance.limit > 0 }

// full reports whether a limited release has as many requests in flight as it may.
func (s *share) full() bool { return s.inFlight() >= s.balance.limit }

// overfull reports whether this request came to a release at its limit.
func (x *exchange) overfull() bool { return x.failure.code == overfull.code }

// inFlight is what the instances of a release have to do for users. Upgraded connections
// stay open by their nature, and are not counted.
func (s *share) inFlight() (n int64) {
	for _, i := range s.instances {
		n += i.inFlight.Load() - i.upgraded.Load() - i.copies.Load()
	}
	return n
}

// tempo is how many requests of one kind come per second, as of late.
type tempo struct {
	rate     atomic.Uint64 // bits of a float64
	requests uint64        // at the last look; these two are of who holds Edge.mu
	at       int64
}

func (p *tempo) perSecond() float64 { return math.Float64frombits(p.rate.Load()) }

// look takes a new look. What grows is believed at once, what falls by half.
func (p *tempo) look(requests uint64, now int64) {
	d := time.Duration(now - p.at).Seconds()
	if d <= 0 {
		return
	}
	rate := float64(requests-p.requests) / d
	p.rate.Store(math.Float64bits(max(rate, (rate+p.perSecond())/2)))
	p.requests, p.at = requests, now
}

// feel looks how many requests come.
func (e *Edge) feel(now int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.counts {
		t.tempo.look(t.requests.Load(), now)
	}
}

// unhealthyAfter and healthyAfter are the thresholds of the probes.
func unhealthyAfter(h gapless.Health) int { return cmp.Or(h.Unhealthy, 3) }
func healthyAfter(h gapless.Health) int   { return cmp.Or(h.Healthy, 2) }
