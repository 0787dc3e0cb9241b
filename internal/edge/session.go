package edge

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"gapless"
)

// sessions is how a route keeps its clients at a release.
type sessions struct {
	sticky, skew bool
	ttl          int64    // seconds
	coin         uint32   // of the coin that is tossed now
	weight       float64  // candidate's share, over 0 and under 1; else 0: there is nothing to toss
	keys         []macKey // the first one signs
	cookie       string   // its name
	line         string   // what stands behind the value
	quiet        []*share // as the route's, without evidence
	lasting      []string // releases whose pages may load from them without a weight
}

// session is what an exchange knows of its client's session.
type session struct {
	token
	by     *sessions
	counts bool // this request is evidence, and the coin was the session's
	tell   bool // the session begins with this request: the client is to be told
}

// maxTwins bounds how many cookies of one name are verified. A browser sends
// several where they were set for different paths or domains.
const maxTwins = 4

// newSessions returns nil where nothing is kept: without keys nobody could
// tell what a client made up.
func newSessions(spec gapless.Route, r *route, keys gapless.SessionKeys) *sessions {
	if spec.Sessions == nil || len(keys) == 0 || slices.ContainsFunc(r.shares, func(s *share) bool { return len(s.release) > maxRelease }) {
		return nil
	}
	s := &sessions{
		sticky: spec.Sessions.Sticky, skew: spec.Sessions.Skew, ttl: int64(spec.Sessions.TTL.Std() / time.Second),
		cookie: "gapless-" + spec.App, lasting: []string{spec.Stable},
	}
	if w, ok := candidateWeight(spec); ok && w < 1-1e-9 {
		s.weight = w
		h := fnv.New32a()
		h.Write([]byte(spec.Sessions.Coin + "\x00" + spec.Stable))
		for _, w := range spec.Weights {
			h.Write([]byte("\x00" + w.Release))
		}
		s.coin = h.Sum32()
	}
	if spec.Sessions.Kept != "" {
		s.lasting = append(s.lasting, spec.Sessions.Kept)
	}
	path := r.path
	if path == "" {
		path = "/"
	}
	s.line = "; Path=" + path + "; Max-Age=" + strconv.FormatInt(s.ttl, 10) + "; HttpOnly; SameSite=Lax"
	for _, k := range keys {
		s.keys = append(s.keys, deriveKey(k, spec.App))
	}
	for _, sh := range r.shares {
		quiet := *sh
		quiet.arm = nil
		s.quiet = append(s.quiet, &quiet)
	}
	return s
}

// place finds the route of the request.
func (x *exchange) place(st *state) *route {
	r := st.match(x.listener, x.req.Host(), x.req.Path())
	x.moved, x.hsts = nil, ""
	if r != nil {
		x.moved, x.hsts = r.moved, r.hsts
	}
	r, invited := r.directed(&x.req)
	x.invited = invited
	if r != nil {
		r.forwarding.place(x)
	}
	return r
}

// assign gives the request to a release: the one that its client has, or one
// by a coin. Nothing is counted.
func (x *exchange) assign(r *route) *share {
	s := r.sessions
	if s == nil {
		return r.toss(rand.Float64())
	}
	now := time.Now().Unix()
	t, to := x.brought(r, now)
	if to == nil || !s.holds(to, &t, x.newPage) {
		return x.begins(r, now, to, &t)
	}
	x.session.token, x.session.by = t, s
	if t.weight == 0 || s.weight == 0 || t.coin != s.coin {
		return s.quiet[slices.Index(r.shares, to)]
	}
	x.session.counts = true
	return to
}

// brought reads the session that the client brings along.
func (x *exchange) brought(r *route, now int64) (t token, to *share) {
	s, left := r.sessions, maxTwins
	x.req.Cookies(s.cookie, func(v []byte) bool {
		t, to = readToken(v, s.keys, now, s.ttl, r.shares)
		left--
		return to == nil && left > 0
	})
	return t, to
}

// newPage reports whether the request is for the document of a tab: what it
// loads then belongs to the release that answers now.
func (x *exchange) newPage() bool { return x.req.Says("Sec-Fetch-Dest", "document") }

// holds reports whether a client stays where it is.
func (s *sessions) holds(to *share, t *token, newPage func() bool) bool {
	if len(to.instances) == 0 && to.drains {
		return false
	}
	if s.sticky && s.weight > 0 && t.coin == s.coin && t.weight > 0 && to.weight > 0 {
		return true
	}
	return s.skew && (to.weight > 0 || len(to.instances) > 0 && slices.Contains(s.lasting, to.release)) && !newPage()
}

// begins begins a session by a coin. The client is told, unless there is no
// choice and it knows already, or would be told for nothing.
func (x *exchange) begins(r *route, now int64, had *share, t *token) *share {
	s := r.sessions
	to := r.toss(rand.Float64())
	if s.weight == 0 && (!s.skew || had == to && now-t.issued < s.ttl/2) {
		return to
	}
	x.session = session{token: token{issued: now, release: to.release}, by: s, tell: true}
	if s.weight > 0 {
		x.session.coin, x.session.id, x.session.weight = s.coin, rand.Uint64(), s.weight
		x.session.counts = true
	}
	return to
}

// part says what an answer of this kind is to the request's session.
func (x *exchange) part(kind string) string {
	switch {
	case kind == "" && x.session.tell:
		return gapless.SessionNew
	case kind == "":
		return gapless.SessionMore
	case x.session.bad || !x.edge.firsts.add(x.session.id):
		return gapless.SessionAgain
	case x.session.tell && !x.booked:
		return gapless.SessionNewBad
	}
	return gapless.SessionLate
}

// lines are the fields that the edge adds to an instance's answer, whose head
// is in x.resp: what the client is to bring next time.
func (x *exchange) lines() []byte {
	x.added = x.appendHSTS(x.added[:0])
	if x.invited == nil && x.session.by == nil {
		return x.added
	}
	if m := x.invited; m != nil {
		x.added = append(x.added, "Set-Cookie: "...)
		x.added = append(x.added, m.invite...)
		x.added = append(x.added, "; Path="...)
		if m.to.path == "" {
			x.added = append(x.added, '/')
		}
		x.added = append(x.added, m.to.path...)
		x.endCookie("; HttpOnly; SameSite=Lax")
	}
	t, s := x.session.token, x.session.by
	t.bad = t.bad || x.session.counts && (x.failed != "" || x.resp.Status >= 500)
	if s == nil || !x.session.tell && t.bad == x.session.bad || x.resp.Shared() {
		return x.added
	}
	x.added = append(x.added, "Set-Cookie: "...)
	x.added = append(x.added, s.cookie...)
	x.added = append(x.added, '=')
	x.added = appendToken(x.added, &t, &s.keys[0])
	x.endCookie(s.line)
	return x.added
}

func (x *exchange) endCookie(attributes string) {
	x.added = append(x.added, attributes...)
	if x.fw.Proto == "https" || x.fw.Trusted && x.req.ForwardedHTTPS() {
		x.added = append(x.added, "; Secure"...)
	}
	x.added = append(x.added, "\r\n"...)
}

// firsts remembers the sessions that had a bad answer, so that two requests of
// one session at the same moment are not both its first. What is forgotten is
// in the cookie, as a rule.
type firsts struct {
	mu          sync.Mutex
	now, before map[uint64]struct{}
}

const mostFirsts = 1 << 15

// add reports whether the session was not known.
func (f *firsts) add(id uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.now[id]; known {
		return false
	}
	if _, known := f.before[id]; known {
		return false
	}
	if f.now == nil || len(f.now) >= mostFirsts {
		f.now, f.before = map[uint64]struct{}{}, f.now
	}
	f.now[id] = struct{}{}
	return true
}
