package edge

import (
	"bytes"
	"strings"
	"time"

	"gapless"
)

// route is r as one address of its app serves it: over https with HSTS, over
// http with a redirect, if these are asked for.
func (t *terminator) route(r *route, spec gapless.Route, addr string) *route {
	s := spec.TLS
	if t == nil || s == nil {
		return r
	}
	out := *r
	switch {
	case s.Secures(addr):
		if s.HSTS != nil {
			out.hsts = s.HSTS.Header()
		}
	case s.Redirect:
		out.moved = &moved{listener: s.Listen[0], port: portOf(s.Listen[0])}
	}
	if out.preview != nil {
		p := *out.preview
		p.moved, p.hsts = out.moved, out.hsts
		out.preview = &p
	}
	return &out
}

// portOf is ":443" as it follows a host in a URL, "" for the default.
func portOf(addr string) string {
	port := addr[strings.LastIndexByte(addr, ':')+1:]
	if port == "443" {
		return ""
	}
	return ":" + port
}

// moved says where plain requests for a route are sent to.
type moved struct {
	listener string // that has the certificates
	port     string // as portOf
}

// movedTo is the answer to a plain request for an app that is served over
// https; status 0 as long as there is no certificate that a client would trust.
func (x *exchange) movedTo(st *state) own {
	var b [longestHost]byte
	h := st.listeners[x.moved.listener]
	if host := x.req.Host(); h == nil || len(host) == 0 || len(host) > longestHost {
		return own{}
	}
	host := string(hostName(b[:0], x.req.Host()))
	if p := h.certs.find(host); p == nil || p.present.Load() == nil {
		return own{}
	}
	target := string(x.req.Target())
	if target == "" || target == "*" {
		target = "/"
	}
	return own{status: 308, code: "https", text: "this is served over https", to: "https://" + host + x.moved.port + target}
}

const hstsName = "Strict-Transport-Security"

// appendHSTS appends the line of the route, unless the instance says it itself.
func (x *exchange) appendHSTS(out []byte) []byte {
	if x.hsts == "" {
		return out
	}
	for name := range x.resp.Fields {
		if len(name) == len(hstsName) && strings.EqualFold(string(name), hstsName) {
			return out
		}
	}
	out = append(out, hstsName+": "...)
	out = append(out, x.hsts...)
	return append(out, "\r\n"...)
}

// challengePath is where an ACME server asks whether a name is ours (RFC 8555, 8.3).
const challengePath = "/.well-known/acme-challenge/"

// challengeHold is how long such a request waits for a daemon that is just
// being started.
const challengeHold = 5 * time.Second

// challenges are the names of which an ACME server may ask on a plain address.
// They come before all routes: before redirects, and where a path has no app.
type challenges struct {
	route *route
	names map[string]bool
}

func (c *challenges) with(r *route, names []string) *challenges {
	if r == nil {
		return c
	}
	if c == nil {
		c = &challenges{route: r, names: map[string]bool{}}
	}
	for _, n := range names {
		c.names[string(hostName(nil, []byte(n)))] = true
	}
	return c
}

func (c *challenges) asks(host, path []byte) bool {
	if !bytes.HasPrefix(path, []byte(challengePath)) || len(host) > longestHost {
		return false
	}
	var b [longestHost]byte
	return c.names[string(hostName(b[:0], host))]
}

// challengeRoute leads to whoever answers ACME servers. It is no app's: what
// goes that way is nobody's traffic and no evidence.
func challengeRoute(e *Edge, socket string) *route {
	i := newInstance(target{id: "acme", release: "acme", address: "unix:" + socket})
	e.prepareForLoops(i)
	s := &share{release: i.release, weight: 1, upTo: 1, traffic: &traffic{}, instances: []*instance{i}}
	return &route{hold: challengeHold, limits: e.noLimits, shares: []*share{s}, stable: s}
}
