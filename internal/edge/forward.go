package edge

import (
	"net/netip"

	"gapless"
)

// forwarding is what a route says about proxies before the edge.
type forwarding struct {
	trusted []netip.Prefix
	trace   bool // make a traceparent where there is no valid one
}

func newForwarding(spec gapless.Forwarding) forwarding {
	trusted, _ := gapless.Networks(spec.Trusted) // tables are checked
	return forwarding{trusted, spec.Trace == ""}
}

// trusts reports whether the proxy at a is believed.
func (f *forwarding) trusts(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	if a.IsLoopback() {
		return true
	}
	for _, p := range f.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// place tells x what the route thinks of the peer. x.addr becomes the client:
// the last address that no trusted proxy of ours says it forwards for. May be
// called again.
func (f *forwarding) place(x *exchange) {
	x.fw.Trace = f.trace
	if !x.peer.IsValid() {
		x.peer = x.addr
	}
	x.addr = x.peer
	if len(f.trusted) == 0 && !x.fw.Trusted {
		return // the common case: a client
	}
	x.fw.Trusted = f.trusts(x.peer)
	if !x.fw.Trusted {
		return
	}
	x.addr = x.req.Client(x.peer, f.trusts)
}
