package edge

import (
	"strings"
	"time"

	"gapless"
)

// state is one table as it is served: immutable, swapped as a whole.
type state struct {
	table     gapless.Table
	listeners map[string]*hosts // by address as the table writes it
	targets   map[target]bool
	gates     map[string]*gate // by address
	arms      []*arm
	changed   chan struct{} // closed when a newer state is served
}

// route is one route of a state with its instances.
type route struct {
	app    string
	path   string // prefix without a slash at its end; "": all
	hold   time.Duration
	shares []*share
	stable *share     // nil if the table names none
	mirror *mirroring // nil: no request is copied
	limits *limits
	moved  *moved // plain requests go to https; nil: they do not
	hsts   string // Strict-Transport-Security of answers; "": none

	forwarding forwarding

	strip    []string  // releases that do not see the path's prefix
	preview  *route    // for requests that ask for the candidate; nil: there is none
	rules    []rule    // that send requests somewhere without a coin
	sessions *sessions // nil: each request is on its own
}

// share is one release of a route.
type share struct {
	release   string
	weight    float64
	upTo      float64 // the coin's values below this, and above the share before, are this one's
	traffic   *traffic
	arm       *arm // nil: no evidence
	instances []*instance
	drains    bool // it has instances that take nothing new
	balance   *balance
}

func (s *state) names(t target) bool { return s.targets[t] }

// match returns the route for a request, nil if there is none. host and path
// are as the client sent them.
func (s *state) match(listener string, host, path []byte) *route {
	h := s.listeners[listener]
	if h == nil {
		return nil
	}
	if h.acme != nil && h.acme.asks(host, path) {
		return h.acme.route
	}
	r, _ := h.find(host, path)
	return r
}

// hostName appends host in lower case, without port and final dot.
func hostName(out, host []byte) []byte {
	for i, c := range host {
		if c == ':' && (host[0] != '[' || host[i-1] == ']') {
			break
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	if n := len(out); n > 1 && out[n-1] == '.' {
		out = out[:n-1]
	}
	return out
}

// newRoute makes the route of a table's entry; instances and counters are
// found or made by the callers' functions.
func newRoute(spec gapless.Route, limits *limits, find func(gapless.Target) *instance, count func(release string) *traffic) *route {
	fwd := newForwarding(spec.Forwarding)
	r := &route{app: spec.App, forwarding: fwd, limits: limits, path: strings.TrimRight(spec.Path, "/"), hold: spec.Hold.Std()}
	sum := 0.0
	add := func(release string, weight float64) *share {
		sum += weight
		s := &share{release: release, weight: weight, upTo: sum, traffic: count(release)}
		r.shares = append(r.shares, s)
		if release == spec.Stable {
			r.stable = s
		}
		return s
	}
	for _, w := range spec.Weights {
		add(w.Release, w.Share)
	}
	if r.stable == nil && spec.Stable != "" {
		add(spec.Stable, 0)
	}
	for _, t := range spec.Targets {
		i := find(t)
		switch s := r.share(t.Release); {
		case s == nil:
		case t.Draining:
			s.drains = true
		default:
			s.instances = append(s.instances, i)
		}
	}
	if r.path != "" {
		r.strip = spec.Strip
	}
	alone := func(release string) *route { // all of it to one release, without a coin
		s := &share{release: release, weight: 1, upTo: 1, traffic: count(release)}
		for _, t := range spec.Targets {
			if t.Release == release && !t.Draining {
				s.instances = append(s.instances, find(t))
			}
		}
		return &route{app: r.app, forwarding: fwd, path: r.path, strip: r.strip, hold: r.hold, limits: limits, shares: []*share{s}}
	}
	if p := spec.Preview; p != nil {
		r.preview = alone(p.Release)
		if p.Header != "" {
			r.rules = append(r.rules, rule{MatchRule: gapless.MatchRule{Header: p.Header, Value: p.Value}, to: r.preview})
		}
		if p.Cookie != "" {
			r.rules = append(r.rules, rule{MatchRule: gapless.MatchRule{Cookie: p.Cookie, Content: p.Content}, to: r.preview, invite: p.Cookie + "=" + p.Content})
		}
	}
	for _, m := range spec.Match {
		to := alone(m.Release)
		to.stable = r.stable // a release that is not there must not be missed
		r.rules = append(r.rules, rule{MatchRule: m, to: to})
	}
	return r
}

func (r *route) share(release string) *share {
	for _, s := range r.shares {
		if s.release == release {
			return s
		}
	}
	return nil
}

// toss gives a request to a release: an independent coin, whatever the load.
// coin is uniform in [0, 1).
func (r *route) toss(coin float64) *share {
	last := r.shares[0]
	for _, s := range r.shares {
		if s.weight == 0 {
			continue
		}
		if coin < s.upTo {
			return s
		}
		last = s
	}
	return last // shares may sum to a little less than 1
}
