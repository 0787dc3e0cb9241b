package h1

import (
	"bytes"
	"net/netip"
)

// maxHops is how many addresses of X-Forwarded-For are looked at.
const maxHops = 32

// Client returns the address that the request comes from: peer, or where
// peer is trusted the last address in X-Forwarded-For that is not. What is
// not an address ends the search: nobody vouches for what stands before it.
func (h *Head) Client(peer netip.Addr, trusted func(netip.Addr) bool) netip.Addr {
	hops := 0
	for i := h.n - 1; i >= 0; i-- {
		if h.fields[i].kind != forwardedFor {
			continue
		}
		for v := h.of(h.fields[i].value); len(v) > 0; {
			item := v
			if c := bytes.LastIndexByte(v, ','); c >= 0 {
				item, v = v[c+1:], v[:c]
			} else {
				v = nil
			}
			if hops++; hops > maxHops {
				return peer
			}
			a, ok := hop1(trim(item))
			if !ok {
				return peer
			}
			if peer = a; !trusted(a) {
				return peer
			}
		}
	}
	return peer
}

// hop1 reads one address of X-Forwarded-For, with or without a port.
func hop1(v []byte) (netip.Addr, bool) {
	if len(v) == 0 || len(v) > 64 {
		return netip.Addr{}, false
	}
	s := string(v)
	a, err := netip.ParseAddr(s)
	if err != nil {
		p, err := netip.ParseAddrPort(s)
		if err != nil {
			if s[0] != '[' || s[len(s)-1] != ']' {
				return netip.Addr{}, false
			}
			if a, err = netip.ParseAddr(s[1 : len(s)-1]); err != nil {
				return netip.Addr{}, false
			}
			return a.Unmap().WithZone(""), true
		}
		a = p.Addr()
	}
	return a.Unmap().WithZone(""), true
}
