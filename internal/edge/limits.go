package edge

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"gapless"
	"gapless/internal/edge/h1"
)

// limits are what a route lets clients take, with every default filled in.
// They never change; both drivers ask them, and nothing here waits.
type limits struct {
	body       int64 // bytes; 0: no limit
	bodyRate   int64 // bytes per second
	headSize   int
	headFields int

	rate   pace
	seed   uint64 // of the app, among the keys of the meter
	exempt []netip.Prefix

	held     int64
	heldSize int64
	queue    *queue

	bodyIdle, answer, write, total time.Duration // total 0: no limit

	paused      bool // a person holds the traffic
	maintenance *closure
	pages       map[int]*page
}

// setBounds makes the limits of the edge itself.
func (e *Edge) setBounds() {
	e.most = connectionsFor(e.cfg.MaxConnections)
	if e.most < e.cfg.MaxConnections {
		e.log.Info("fewer connections than wanted fit below the limit of descriptors", "connections", e.most, "wanted", e.cfg.MaxConnections)
	}
	e.room.max = cmp.Or(e.cfg.Memory, roomOf(memory()))
	e.noLimits = e.cfg.limitsOf(gapless.Route{}, nil, nil)
	e.anyGate = &gate{perIP: map[netip.Addr]int{}}
	e.anyGate.terms.Store(e.termsOf(nil))
}

// limitsOf are the limits of a route. The table was validated.
func (c Config) limitsOf(r gapless.Route, q *queue, pages map[int]*page) *limits {
	l, t := r.Limits.InForce(), r.Timeouts // whose defaults the edge itself may have others of
	out := &limits{
		body:       cmp.Or(l.Body, c.MaxBody),
		bodyRate:   l.BodyRate,
		headSize:   int(min(l.HeaderSize, maxHead)),
		headFields: min(l.Headers, h1.MaxFields),
		rate:       paceOf(l.RequestsPerIP, l.Burst),
		held:       int64(l.Held),
		heldSize:   l.HeldSize,
		queue:      q,
		bodyIdle:   cmp.Or(t.Body.Std(), c.BodyTimeout),
		answer:     cmp.Or(t.Answer.Std(), c.AnswerTimeout),
		write:      cmp.Or(t.Write.Std(), c.WriteTimeout),
		total:      t.Total.Std(),
		paused:     r.Held,
		pages:      pages,
	}
	out.seed = seedOf(r.App)
	out.exempt, _ = gapless.Exempt(l.Exempt)
	if m := r.Maintenance; m != nil {
		out.maintenance = closureOf(m)
	}
	return out
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

var (
	manyRequests = own{status: 429, code: "too_many_requests", text: "too many requests from this address", retry: true}
	overloaded   = own{status: 503, code: "overloaded", text: "this server has too much to do", retry: true}
	held         = own{status: 503, code: "held", text: "the traffic of this app is held for a moment", retry: true}
)

// forbids says which limit of its route a request breaks by what it is. It
// counts nothing and may be asked again. nil: none.
func (l *limits) forbids(x *exchange) *own {
	if l.maintenance != nil {
		if o := l.maintenance.answer(x); o.status != 0 {
			said := o // only what is said is allocated
			return &said
		}
	}
	switch {
	case l.headSize < maxHead && x.req.Size > l.headSize, l.headFields < h1.MaxFields && x.req.FieldCount() > l.headFields:
		return &headLarge
	case l.body > 0 && (x.req.ContentLength > l.body || x.chunk.Data() > l.body):
		return &tooLarge
	}
	return nil
}

// admit counts the request in: it takes a token of its client's address and
// room for its buffers, which ended gives back. nil: it is admitted.
// It is asked once for a request.
func (x *exchange) admit() *own {
	if x.lim.rate.every > 0 {
		if a := x.from(); a.IsValid() && !contains(x.lim.exempt, a) && !x.edge.meter.take(x.lim.rate, x.lim.seed, a, x.now()) {
			x.edge.shed.requests.Add(1)
			return &manyRequests
		}
	}
	if !x.edge.room.take(exchangeRoom-x.claim, x.edge.room.max) {
		x.edge.shed.overload.Add(1)
		return &overloaded
	}
	x.claim = exchangeRoom
	return nil
}

// shed counts what the edge refused to protect itself.
type shed struct {
	connections, requests, overload, holds atomic.Uint64
}

func (s *shed) report() gapless.Shed {
	return gapless.Shed{Connections: s.connections.Load(), Requests: s.requests.Load(), Overload: s.overload.Load(), Holds: s.holds.Load()}
}

// unready is what is said when a request has waited in vain.
func (l *limits) unready() own {
	if l.paused {
		return held
	}
	return notReady
}

// from is the address of whoever asks: what a proxy that is believed says, or
// the peer.
func (x *exchange) from() netip.Addr {
	if x.fw.Trusted {
		var last []byte
		for name, value := range x.req.Fields {
			if len(name) == len(forwardedFor) && strings.EqualFold(string(name), forwardedFor) {
				last = value
			}
		}
		if len(last) > 0 {
			if i := bytes.LastIndexByte(last, ','); i >= 0 {
				last = last[i+1:]
			}
			if a, err := netip.ParseAddr(string(bytes.TrimSpace(last))); err == nil {
				return a.Unmap().WithZone("")
			}
		}
	}
	if x.addr.IsValid() {
		return x.addr
	}
	a, _ := netip.ParseAddr(string(x.fw.Peer))
	return a.Unmap()
}

const forwardedFor = "X-Forwarded-For"

// due is when something that begins now and may take d is over, which is
// never later than the end of the request's whole time.
func (x *exchange) due(d time.Duration) int64 { return x.dueFrom(x.now(), d) }

func (x *exchange) dueFrom(now int64, d time.Duration) int64 {
	due := now + int64(d)
	if x.lim.total > 0 {
		due = min(due, x.started+int64(x.lim.total))
	}
	return due
}

func (x *exchange) writeBy() int64  { return x.due(x.lim.write) }
func (x *exchange) answerBy() int64 { return x.due(x.lim.answer) }

// lastBy is when the answer must be over, 0: never. What is meant to last is
// not cut.
func (x *exchange) lastBy() int64 {
	if x.lim.total == 0 || x.resp.EventStream || x.resp.Status == 101 {
		return 0
	}
	return x.started + int64(x.lim.total)
}

// late reports whether the whole time of the request is over.
func (x *exchange) late() bool {
	last := x.lastBy()
	return last != 0 && x.now() >= last
}

// patience is how long the next bytes of a body may take: a silent client has
// bodyIdle, and one that trickles so much more as it sends at bodyRate. Once
// the answer has begun the two sides talk, and only silence counts.
func (l *limits) patience(waited time.Duration, total int64, rated bool) time.Duration {
	if !rated {
		return l.bodyIdle
	}
	earned := time.Duration(math.MaxInt64)
	if s := total / l.bodyRate; s < int64(math.MaxInt64/int64(time.Second))/2 {
		earned = l.bodyIdle + time.Duration(s)*time.Second + time.Duration(total%l.bodyRate)*time.Second/time.Duration(l.bodyRate)
	}
	return max(min(l.bodyIdle, earned-waited), 0)
}

// exhausted reports whether a connection failed for want of something of this
// machine, so that it says nothing of the other side.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EADDRNOTAVAIL)
}
