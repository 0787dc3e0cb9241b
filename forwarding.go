package gapless

import (
	"net/netip"
	"strings"
)

// TracePass leaves W3C trace headers as they come; "" makes a traceparent for
// requests that have no valid one.
const TracePass = "pass"

// Forwarding says who may speak for clients, and what instances hear of them.
type Forwarding struct {
	// Trusted are networks, in CIDR, whose proxies are believed what they say
	// about where a request comes from. Loopback always is.
	Trusted []string `json:"trusted,omitempty"`
	// Proxies are networks whose connections begin with a PROXY protocol
	// header (version 1 or 2). It counts for every app of the address.
	Proxies []string `json:"proxies,omitempty"`
	Trace   string   `json:"trace,omitempty"` // TracePass or ""
}

// Zero reports whether nothing is set.
func (f Forwarding) Zero() bool { return len(f.Trusted)+len(f.Proxies) == 0 && f.Trace == "" }

// Validate checks f; errors have the code Invalid.
func (f Forwarding) Validate() error {
	for _, list := range [][]string{f.Trusted, f.Proxies} {
		if _, err := Networks(list); err != nil {
			return err
		}
	}
	if f.Trace != "" && f.Trace != TracePass {
		return Errorf(Invalid, "trace %q is neither %q nor left out", f.Trace, TracePass)
	}
	return nil
}

// Networks reads addresses and CIDRs: "10.0.0.0/8", "2001:db8::1".
func Networks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if !strings.Contains(s, "/") {
			var a netip.Addr
			if a, err = netip.ParseAddr(s); err == nil {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		switch {
		case err != nil || p.Addr().Zone() != "":
			return nil, Errorf(Invalid, "%q is neither an address nor a network such as 10.0.0.0/8", s)
		case p.Masked() != p:
			return nil, Errorf(Invalid, "network %q has bits set after its mask; write %s", s, p.Masked())
		}
		out = append(out, p)
	}
	return out, nil
}
