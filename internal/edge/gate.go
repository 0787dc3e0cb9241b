package edge

import (
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gapless"
)

// gate is what counts on one address before the route of a request is known.
// It outlives tables, and connections outlive it.
type gate struct {
	terms atomic.Pointer[terms]
	open  atomic.Int64 // connections

	mu    sync.Mutex
	perIP map[netip.Addr]int // by group; only of those that a rule counts
}

// terms are the present limits of a gate.
type terms struct {
	head, idle  time.Duration
	connections int64 // 0: no limit but the edge's
	rules       []ipRule
	proxies     []netip.Prefix // whose connections begin with a PROXY protocol header
}

// ipRule limits the connections of one address.
type ipRule struct {
	most   int
	exempt []netip.Prefix
}

// termsOf are the smallest values that routes of one address give.
func (e *Edge) termsOf(routes []gapless.Route) *terms {
	t := &terms{head: e.cfg.HeaderTimeout, idle: e.cfg.IdleTimeout}
	least := func(have *time.Duration, given *bool, want gapless.Duration) {
		if want > 0 && (!*given || want.Std() < *have) {
			*have, *given = want.Std(), true
		}
	}
	var head, idle bool
	for _, r := range routes {
		proxies, _ := gapless.Networks(r.Forwarding.Proxies)
		t.proxies = append(t.proxies, proxies...)
		least(&t.head, &head, r.Timeouts.Head)
		least(&t.idle, &idle, r.Timeouts.Idle)
		if n := int64(r.Limits.Connections); n > 0 && (t.connections == 0 || n < t.connections) {
			t.connections = n
		}
		if n := r.Limits.ConnectionsPerIP; n > 0 {
			exempt, _ := gapless.Exempt(r.Limits.Exempt)
			if k := slices.IndexFunc(t.rules, func(o ipRule) bool { return reflect.DeepEqual(o.exempt, exempt) }); k >= 0 {
				t.rules[k].most = min(t.rules[k].most, n)
			} else {
				t.rules = append(t.rules, ipRule{n, exempt})
			}
		}
	}
	if len(t.rules) == 0 { // nobody takes everything
		exempt, _ := gapless.Exempt(nil)
		t.rules = []ipRule{{max(e.most/2, 1), exempt}}
	}
	return t
}

// openGates gives every address of a table its gate, with present terms.
func (e *Edge) openGates(t gapless.Table, before map[string]*gate) map[string]*gate {
	routes := map[string][]gapless.Route{}
	for _, r := range t.Routes {
		for _, addr := range r.Listen {
			routes[addr] = append(routes[addr], r)
		}
	}
	out := map[string]*gate{}
	for addr, list := range routes {
		g := before[addr]
		if g == nil {
			g = &gate{perIP: map[netip.Addr]int{}}
		}
		g.terms.Store(e.termsOf(list))
		out[addr] = g
	}
	return out
}

// gateOf is the gate of an address of the present table.
func (e *Edge) gateOf(listener string) *gate {
	if g := e.state.Load().gates[listener]; g != nil {
		return g
	}
	return e.anyGate // its app has just left
}

func (g *gate) headTime() time.Duration { return g.terms.Load().head }
func (g *gate) idleTime() time.Duration { return g.terms.Load().idle }

// pass is the entry of one connection in the books: whoever gets one gives it
// back when the connection ends.
type pass struct {
	gate    *gate
	counted netip.Addr // group, in perIP; zero: it is not
}

// admit counts a connection of ip in. A status: it is not to be served; it
// counts all the same until its pass is given back, because it takes a
// descriptor until then.
func (e *Edge) admit(g *gate, ip netip.Addr) (pass, own) {
	p := pass{gate: g}
	all, here := e.connections.Add(1), g.open.Add(1)
	t := g.terms.Load()
	if all > int64(e.most) || t.connections > 0 && here > t.connections {
		e.shed.connections.Add(1)
		return p, tooMany
	}
	counts := false
	for _, r := range t.rules {
		counts = counts || !contains(r.exempt, ip)
	}
	if !counts || !ip.IsValid() {
		return p, own{}
	}
	key := group(ip)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range t.rules {
		if g.perIP[key] >= r.most && !contains(r.exempt, ip) {
			e.shed.connections.Add(1)
			return p, tooManyOfYours
		}
	}
	g.perIP[key]++
	p.counted = key
	return p, own{}
}

// dismiss gives a pass back.
func (e *Edge) dismiss(p pass) {
	p.gate.open.Add(-1)
	e.connections.Add(-1)
	if !p.counted.IsValid() {
		return
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if p.gate.perIP[p.counted]--; p.gate.perIP[p.counted] <= 0 {
		delete(p.gate.perIP, p.counted)
	}
}

// peerOf is the address at the other end; zero: it has none.
func peerOf(nc net.Conn) netip.Addr {
	a, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(a.IP)
	return ip.Unmap()
}

var tooManyOfYours = own{status: 429, code: "too_many_connections", text: "too many connections from this address", retry: true}

const (
	refusalsAtOnce = 64                     // connections that are told why, at the same time
	refusalTime    = 250 * time.Millisecond // for one of them to hear it
)

// turnAway ends a connection that admit refused. It never waits. Clients are
// told why as long as few are, so that a storm costs nothing but its accepts.
func (e *Edge) turnAway(nc net.Conn, p pass, o own) {
	if e.mayRefuse() {
		go e.refuse(nc, p, o)
		return
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	nc.Close()
	e.dismiss(p)
}

// mayRefuse reports whether one more connection may be told why, by refuse.
func (e *Edge) mayRefuse() bool {
	if e.refusing.Add(1) <= refusalsAtOnce {
		return true
	}
	e.refusing.Add(-1)
	return false
}

// refuse tells a client why it is not served, and ends its connection.
func (e *Edge) refuse(nc net.Conn, p pass, o own) {
	defer e.dismiss(p)
	defer e.refusing.Add(-1)
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(refusalTime))
	tcp, _ := nc.(*net.TCPConn)
	if _, err := nc.Write(appendOwn(nil, o, false, true)); err != nil || tcp == nil || tcp.CloseWrite() != nil {
		return
	}
	var b [512]byte // closing with bytes unread would take the answer back
	for range 64 {
		if _, err := nc.Read(b[:]); err != nil {
			return
		}
	}
}

// crowded reports whether connections are so many that idle ones must go
// sooner.
func (e *Edge) crowded() bool { return e.connections.Load() > int64(e.most)*3/4 }

// crowdedIdle is how long a kept connection may be idle in a crowd.
const crowdedIdle = 10 * time.Second

// idleOver reports whether a connection that is idle until due has to go now.
func (g *gate) idleOver(due, now int64, crowded bool) bool {
	return crowded && due != 0 && now-(due-int64(g.idleTime())) > int64(min(crowdedIdle, g.idleTime()))
}
