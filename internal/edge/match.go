package edge

import (
	"bytes"
	"strings"

	"gapless"
	"gapless/internal/edge/h1"
)

// hosts finds a route by host and path: a host by its name, then by the
// longest wildcard that has it, then what serves every host; the next one
// where the path has no route. The cost depends on what the client sent, and
// not on how many hosts and paths there are.
type hosts struct {
	named map[string]*paths
	wild  map[string]*paths // by what stands behind "*."
	any   *paths

	certs *certs      // nil: speaks http
	acme  *challenges // nil: asks no ACME server

	longest int // bytes of the longest key of wild: no longer end is looked up

	log    *accessLog // for requests that are nobody's; nil: more than one app is served here, or none logs
	logged bool       // log was decided on
}

// paths finds the route with the longest prefix, segment by segment.
type paths struct {
	route *route // of the prefix that ends here
	next  map[string]*paths
}

// longestHost is the most bytes of a Host that can be one of the table's: a
// name has 253 at most, a port 6 with its colon.
const longestHost = 260

func newHosts() *hosts {
	return &hosts{named: map[string]*paths{}, wild: map[string]*paths{}}
}

func (h *hosts) add(r *route, names []string) {
	if len(names) == 0 {
		h.any = h.any.add(r)
	}
	for _, n := range names {
		if rest, wild := strings.CutPrefix(n, "*."); wild {
			rest = string(hostName(nil, []byte(rest)))
			h.wild[rest] = h.wild[rest].add(r)
			h.longest = max(h.longest, len(rest))
			continue
		}
		n = string(hostName(nil, []byte(n)))
		h.named[n] = h.named[n].add(r)
	}
}

// find also tells how often it looked something up.
func (h *hosts) find(host, path []byte) (r *route, looks int) {
	if len(host) <= longestHost && len(h.named)+len(h.wild) > 0 {
		var b [longestHost]byte
		name := hostName(b[:0], host)
		if r, looks = h.named[string(name)].find(path, 1); r != nil {
			return r, looks
		}
		if len(h.wild) > 0 {
			if r, looks = h.wildcard(name, path, looks); r != nil {
				return r, looks
			}
		}
	}
	return h.any.find(path, looks)
}

func (h *hosts) wildcard(name, path []byte, looks int) (*route, int) {
	for {
		dot := bytes.IndexByte(name, '.')
		if dot < 0 {
			return nil, looks
		}
		first := dot == 0
		if name = name[dot+1:]; first || len(name) > h.longest {
			continue // nothing is before the dot, or it is longer than any
		}
		var r *route
		if r, looks = h.wild[string(name)].find(path, looks+1); r != nil {
			return r, looks
		}
	}
}

// add puts a route at its path, which the first one keeps.
func (p *paths) add(r *route) *paths {
	if p == nil {
		p = &paths{}
	}
	at := p
	for rest := r.path; rest != ""; {
		var segment string
		segment, rest = cut(rest)
		if at.next == nil {
			at.next = map[string]*paths{}
		}
		if at.next[segment] == nil {
			at.next[segment] = &paths{}
		}
		at = at.next[segment]
	}
	if at.route == nil {
		at.route = r
	}
	return p
}

func (p *paths) find(path []byte, looks int) (*route, int) {
	if p == nil {
		return nil, looks
	}
	found := p.route
	for len(p.next) > 0 && len(path) > 0 && path[0] == '/' {
		end := bytes.IndexByte(path[1:], '/') + 1
		if end == 0 {
			end = len(path)
		}
		looks++
		if p = p.next[string(path[1:end])]; p == nil {
			break
		}
		if p.route != nil {
			found = p.route
		}
		path = path[end:]
	}
	return found, looks
}

// cut divides "/a/b" into "a" and "/b".
func cut(path string) (segment, rest string) {
	path = strings.TrimPrefix(path, "/")
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

// prefix is what instances of a release do not see of the path, "" for nothing.
func (r *route) prefix(release string) string {
	for _, s := range r.strip {
		if s == release {
			return r.path
		}
	}
	return ""
}

// rule sends requests that carry something to a release without a coin.
type rule struct {
	gapless.MatchRule
	to *route // has that release alone

	invite string // name=content in a query that is as good as the cookie, and sets it; "": none
}

func (m *rule) holds(head *h1.Head) bool {
	if m.Header != "" && !head.Says(m.Header, m.Value) {
		return false
	}
	if m.Cookie == "" {
		return true
	}
	v, ok := head.Cookie(m.Cookie)
	return ok && string(v) == m.Content
}

// invites reports whether the query has the parameter that stands for the cookie.
func (m *rule) invites(query []byte) bool {
	for len(query) > 0 && m.invite != "" {
		var one []byte
		if i := bytes.IndexByte(query, '&'); i >= 0 {
			one, query = query[:i], query[i+1:]
		} else {
			one, query = query, nil
		}
		if string(one) == m.invite {
			return true
		}
	}
	return false
}

// directed returns the route for requests that carry what a preview or a match
// asks for. Nothing is looked at where there are neither.
func (r *route) directed(head *h1.Head) (to *route, invited *rule) {
	if r == nil || len(r.rules) == 0 {
		return r, nil
	}
	for i := range r.rules {
		m := &r.rules[i]
		switch {
		case m.holds(head):
			return m.to, nil
		case m.invites(head.Query()):
			return m.to, m
		}
	}
	return r, nil
}
