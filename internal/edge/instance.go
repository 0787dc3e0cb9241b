package edge

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"gapless"
)

// target names an instance for good: with another address or release it is another one.
type target struct{ app, id, release, address string }

// instance is one running copy of a release as the edge sees it. It outlives
// the tables that name it, until nothing of it is in flight.
type instance struct {
	target
	network, dial string

	inFlight atomic.Int64
	upgraded atomic.Int64
	copies   atomic.Int64 // of inFlight
	requests atomic.Uint64
	bad      atomic.Uint64
	latency  [gapless.LatencyBuckets]atomic.Uint64
	leaving  atomic.Bool // draining, or no longer in the table: takes no new request

	unhealthy atomic.Bool  // by the probes
	refused   atomic.Int64 // edge clock of the last failed connection
	refusals  atomic.Int64 // connections refused in a row
	refuses   atomic.Int64 // edge clock of the first of them
	passive   passive
	since     int64 // edge clock when a table named it first
	probe     gapless.Health
	stopProbe func()

	pool pool
	via  *reaching
	loopSide

	mu      sync.Mutex
	streams map[*stream]struct{}
	parting *parting
}

func newInstance(t target) *instance {
	i := &instance{target: t, network: "tcp", dial: t.address, streams: map[*stream]struct{}{}, via: new(reaching)}
	if u, err := gapless.ParseUpstream(t.address); err == nil { // tables are checked
		i.via.Upstream, i.network, i.dial = u, u.Network, u.Address
	}
	i.refused.Store(-int64(time.Hour))
	return i
}

// acquire counts a request in flight, unless the instance is leaving. The
// order matters: leaving is set first and in-flight is read after it, so
// whoever sees 0 after the table was applied has seen the last request.
func (i *instance) acquire() bool {
	i.inFlight.Add(1)
	if i.leaving.Load() {
		i.inFlight.Add(-1)
		return false
	}
	i.requests.Add(1)
	return true
}

// done ends what acquire began, and returns what is left in flight.
func (i *instance) done() (left int64) { return i.inFlight.Add(-1) }

// leave takes the instance out of the pick and lets its long-lived streams
// end within d. Calling it again changes nothing.
func (i *instance) leave(d time.Duration) {
	if i.leaving.Swap(true) {
		return
	}
	i.pool.shut()
	i.via.links.shut()
	if i.recall != nil {
		i.recall()
	}
	i.part(d)
}

// stay undoes leave. Streams that were not asked to end yet stay, too.
func (i *instance) stay() {
	if !i.leaving.Load() {
		return
	}
	i.partNoMore()
	i.pool.open()
	i.leaving.Store(false)
}

// partNoMore undoes part.
func (i *instance) partNoMore() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.parting != nil {
		close(i.parting.undo)
		i.parting = nil
	}
	for s := range i.streams {
		s.at = time.Time{}
	}
}

// trust is how much of what is known against an instance is believed.
type trust uint8

const (
	wary  trust = iota // all of it
	bold               // only that it refused a connection just now: too few would be left
	blind              // nothing: there is nobody else
)

// usable reports whether the pick may take it.
func (i *instance) usable(now int64, t trust) bool {
	switch {
	case i.leaving.Load():
		return false
	case t == blind:
		return true
	case now-i.refused.Load() <= int64(refusedPause):
		return false
	}
	return t == bold || !i.unhealthy.Load() && now >= i.passive.until.Load()
}

// refusedPause is how long an instance that refused a connection is not
// picked. Without it the least loaded instance would be the one that is gone.
const refusedPause = 300 * time.Millisecond

// streamKind says how a long-lived exchange ends when it must.
type streamKind uint8

const (
	webSocket   streamKind = iota // close frame 1001, spread over the first third of the drain
	eventStream                   // end of the body, at nine tenths of it
	rawUpgrade                    // cut at the deadline
)

// stream is an exchange that does not end by itself.
type stream struct {
	kind  streamKind
	end   func(deadline time.Time) // asks it to end; called once, in its own goroutine
	at    time.Time
	asked bool
}

// parting is the leaving of one instance's streams.
type parting struct {
	began, deadline time.Time
	undo            chan struct{}
}

// when says when a stream is to be asked, at random within its span.
func (p *parting) when(k streamKind) time.Time {
	d := p.deadline.Sub(p.began)
	switch k {
	case webSocket:
		return p.began.Add(time.Duration(rand.Float64() * float64(min(d/3, 3*time.Second))))
	case eventStream:
		// Before the deadline, so that in-flight is seen to be 0 when it comes.
		return p.began.Add(d * 9 / 10)
	}
	return p.deadline.Add(-d / 20)
}

// part asks the streams of the instance to end, those that begin later too.
// An earlier deadline replaces a later one.
func (i *instance) part(d time.Duration) {
	now := time.Now()
	p := &parting{began: now, deadline: now.Add(d), undo: make(chan struct{})}
	i.mu.Lock()
	if old := i.parting; old != nil {
		if !p.deadline.Before(old.deadline) {
			i.mu.Unlock()
			return
		}
		close(old.undo)
		for s := range i.streams {
			s.at = time.Time{}
		}
	}
	i.parting = p
	i.mu.Unlock()
	go i.endStreams(p)
}

// partUnlessParting is part for an instance that came after the drain began.
func (i *instance) partUnlessParting(d time.Duration) {
	i.mu.Lock()
	has := i.parting != nil
	i.mu.Unlock()
	if !has {
		i.part(d)
	}
}

// endStreams asks every stream when its time has come, until the parting is
// undone or nothing is in flight any more.
func (i *instance) endStreams(p *parting) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now := time.Now()
		i.mu.Lock()
		for s := range i.streams {
			if s.at.IsZero() {
				s.at = p.when(s.kind)
			}
			if !s.asked && !now.Before(s.at) {
				s.asked = true
				go s.end(p.deadline)
			}
		}
		i.mu.Unlock()
		if i.leaving.Load() && i.inFlight.Load() == 0 || now.After(p.deadline.Add(time.Minute)) {
			return
		}
		select {
		case <-p.undo:
			return
		case <-tick.C:
		}
	}
}

func (i *instance) add(s *stream) {
	i.mu.Lock()
	i.streams[s] = struct{}{}
	i.mu.Unlock()
}

func (i *instance) remove(s *stream) {
	i.mu.Lock()
	delete(i.streams, s)
	i.mu.Unlock()
}

// dialed takes in how a connection to the instance went.
func (i *instance) dialed(now int64, err error) {
	switch {
	case err == nil:
		if i.refusals.Load() != 0 {
			i.refusals.Store(0)
		}
	case refusedConnection(err):
		if i.refusals.Add(1) == 1 {
			i.refuses.Store(now)
		}
	}
}

// latencies are its histogram without the zeros at the end.
func (i *instance) latencies() []uint64 {
	n := len(i.latency)
	for n > 0 && i.latency[n-1].Load() == 0 {
		n--
	}
	out := make([]uint64, n)
	for b := range out {
		out[b] = i.latency[b].Load()
	}
	return out
}

func (i *instance) report(now int64) gapless.InstanceTraffic {
	t := gapless.InstanceTraffic{
		App: i.app, Instance: i.id,
		InFlight: int(i.inFlight.Load()), Upgraded: int(i.upgraded.Load()),
		Healthy: !i.unhealthy.Load(), Requests: i.requests.Load(), Bad: i.bad.Load(),
	}
	if t.Refused = int(i.refusals.Load()); t.Refused > 0 {
		t.RefusedFor = gapless.Duration(max(0, now-i.refuses.Load()))
	}
	i.passive.report(&t, now)
	return t
}
