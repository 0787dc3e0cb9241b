package edge

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"

	"gapless"
	"gapless/internal/edge/h1"
)

// mirroring copies requests of one route to a release that serves nobody. It
// is immutable, a part of the route.
type mirroring struct {
	spec      gapless.MirrorRoute
	ignore    ignored
	candidate []*instance
	stable    []*instance
	release   string // the stable one
	prefix    string // that the candidate does not see

	stablePrefix string // that stable does not see
	*mirror
}

// mirror is what mirroring has beyond one table: copies on their way, and
// counts. Nothing in it waits for a client, and no client waits for it.
type mirror struct {
	edge         *Edge
	app, rollout string

	mu      sync.Mutex
	queue   []*shadow
	open    int   // copies being made, queued and sent
	bytes   int64 // that they hold
	senders int
	counts  gapless.MirrorCounts
	found   map[place]*gapless.MirrorDifference
	over    int64 // edge clock: no table names it since; 0: one does

	pairs     atomic.Int32  // copies for which stable is being asked once more
	comparing chan struct{} // one comparison at a time: it must not take the processors from the users
}

// place is where and how answers differ.
type place struct{ path, kind string }

const (
	mirrorBody   = spliceFrom // bytes of a body that is compared; no answer as small is ever spliced
	mirrorPlaces = 256        // places where answers differ, each counted by itself
	mirrorLinger = int64(30e9)
	pairShare    = 0.5 // of the copies: stable is asked once more
	mostPairs    = 4   // at once
)

// shadow is one copy of a request, and what stable answered to it.
type shadow struct {
	*mirroring
	request []byte // to the candidate
	again   []byte // to stable
	what    string // method and path, for people
	head    bool   // a HEAD request
	pair    bool   // stable is to be asked once more
	by      *instance
	made    int64 // edge clock
	size    int64 // bytes that are accounted for

	told  bool // take has seen the head of the answer
	whole bool // and the end
	gone  bool // nothing is to be copied after all
	chunk h1.Chunk
	left  int64
	answer
}

// newMirroring makes the mirroring of a table's entry; nil where there is none.
func (e *Edge) newMirroring(r *route, spec gapless.Route, find func(gapless.Target) *instance) *mirroring {
	m := spec.Mirror
	if m == nil || r.stable == nil {
		return nil
	}
	g := &mirroring{spec: *m, release: spec.Stable, stable: r.stable.instances, prefix: r.prefix(m.Release), stablePrefix: r.prefix(spec.Stable), mirror: e.mirror(spec.App, m)}
	for _, path := range m.Ignore {
		if segments, err := gapless.MirrorPath(path); err == nil { // the table was checked
			g.ignore = append(g.ignore, segments)
		}
	}
	for _, t := range spec.Targets {
		if t.Release == m.Release && !t.Draining {
			g.candidate = append(g.candidate, find(t))
		}
	}
	return g
}

// mirror is that of an app's rollout: counts go on from table to table. e.mu is held.
func (e *Edge) mirror(app string, spec *gapless.MirrorRoute) *mirror {
	m := e.mirrors[app]
	if m == nil || m.rollout != spec.Rollout || m.counts.Release != spec.Release {
		if m != nil {
			m.end(e.now())
		}
		m = &mirror{edge: e, app: app, rollout: spec.Rollout, counts: gapless.MirrorCounts{Release: spec.Release},
			found: map[place]*gapless.MirrorDifference{}, comparing: make(chan struct{}, 1)}
		if e.mirrors == nil {
			e.mirrors = map[string]*mirror{}
		}
		e.mirrors[app] = m
	}
	m.mu.Lock()
	m.over = 0
	m.mu.Unlock()
	return m
}

// endMirrors ends those that a table does not name any more. e.mu is held.
func (e *Edge) endMirrors(t gapless.Table) {
	for app, m := range e.mirrors {
		named := false
		for _, r := range t.Routes {
			named = named || r.App == app && r.Mirror != nil
		}
		if !named {
			m.end(e.now())
		}
	}
}

// end drops what waits to be sent. What was sent is heard to its end.
func (m *mirror) end(now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over == 0 {
		m.over = max(now, 1)
	}
	for _, s := range m.queue {
		m.open, m.bytes = m.open-1, m.bytes-s.size
		m.counts.Copied++
		m.counts.Dropped++
	}
	m.queue = nil
}

// mirrorReports lists what was counted; what nobody names for long is
// forgotten. e.mu is held.
func (e *Edge) mirrorReports() (out []gapless.MirrorTraffic) {
	for app, m := range e.mirrors {
		m.mu.Lock()
		over := m.over != 0 && m.open == 0 && e.now()-m.over > mirrorLinger
		m.mu.Unlock()
		if over {
			delete(e.mirrors, app)
			continue
		}
		out = append(out, gapless.MirrorTraffic{App: app, Rollout: m.rollout, MirrorCounts: m.report()})
	}
	return out
}

func (m *mirror) report() gapless.MirrorCounts {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.counts
	for _, d := range m.found {
		c.Differences = append(c.Differences, *d)
	}
	gapless.SortDifferences(c.Differences)
	if n := len(c.Differences); n > gapless.MostDifferences {
		for _, d := range c.Differences[gapless.MostDifferences:] {
			c.More += d.Seen
		}
		c.Differences = c.Differences[:gapless.MostDifferences]
	}
	return c
}

// sample begins the copy of a request, if it is to be copied: a share of the
// safe ones that the coin gave to stable. It takes from the request all that
// it needs.
func (g *mirroring) sample(x *exchange) *shadow {
	switch {
	case !x.req.Safe || x.req.Upgrade || x.chosen.release != g.release || len(g.candidate) == 0 || rand.Float64() >= g.spec.Share:
		return nil
	}
	s := &shadow{mirroring: g, head: x.req.Head, made: x.edge.now(), pair: g.spec.Compare != gapless.CompareNothing && rand.Float64() < pairShare}
	if !s.copyRequest(x) {
		return nil
	}
	m := g.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	size := int64(len(s.request))
	if s.stablePrefix != s.prefix {
		size += int64(len(s.again))
	}
	if !m.fits(size) || m.open >= m.edge.cfg.MirrorQueue {
		m.counts.Copied++
		m.counts.Dropped++
		return nil
	}
	s.size = size
	m.open, m.bytes = m.open+1, m.bytes+s.size
	return s
}

func (m *mirror) fits(n int64) bool { return m.bytes+n <= m.edge.cfg.MirrorBytes }

// copyRequest writes the requests that are sent upstream. false: what came is
// a copy already.
func (s *shadow) copyRequest(x *exchange) (ok bool) {
	if s.request, ok = s.marked(x, s.prefix); !ok {
		return false
	}
	if s.again = s.request; s.stablePrefix != s.prefix && s.pair {
		s.again, _ = s.marked(x, s.stablePrefix)
	}
	s.what = shown(string(x.req.Method())+" "+string(x.req.Path()), 100)
	return true
}

// marked is the head as it is sent upstream without a prefix, marked as a
// copy. false: it is one already.
func (s *shadow) marked(x *exchange, prefix string) ([]byte, bool) {
	fw := x.fw
	fw.Strip = prefix
	head := x.req.AppendRequest(make([]byte, 0, x.req.Size+512), &fw)
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	out := append(make([]byte, 0, len(head)+len(s.spec.Header)+len(s.spec.Value)+8), line...)
	out = append(out, "\r\n"...)
	for {
		field, more, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok || len(field) == 0 {
			break
		}
		rest = more
		name, value, _ := strings.Cut(string(field), ":")
		switch {
		case strings.EqualFold(name, s.spec.Header):
			if strings.TrimSpace(value) == s.spec.Value {
				return nil, false
			}
			continue
		case s.spec.NoCredentials && (strings.EqualFold(name, "Cookie") || strings.EqualFold(name, "Authorization")):
			continue
		}
		out = append(out, field...)
		out = append(out, "\r\n"...)
	}
	out = append(out, s.spec.Header...)
	out = append(out, ": "...)
	out = append(out, s.spec.Value...)
	return append(out, "\r\n\r\n"...), true
}

// take sees the bytes that follow the head of the answer, as the instance
// framed them, before the client gets them.
func (s *shadow) take(x *exchange, data []byte) {
	if s.gone {
		return
	}
	if !s.told {
		s.told = true
		s.answer.headed(&x.resp)
		switch {
		case x.resp.EventStream: // it has no end
			s.gone = true
			return
		case x.mode == untilClose: // nor one that can be told from a broken connection
			s.unread, s.whole = true, true
		case s.spec.Compare != gapless.CompareBody || !s.json():
			s.skip = true
		}
		s.left = x.left
		if x.mode == counted && s.left > mirrorBody { // it may go past this
			s.large, s.whole = true, true
		}
	}
	if s.whole {
		return
	}
	switch x.mode {
	case noBody:
		s.whole = true
	case counted:
		n := min(int64(len(data)), s.left)
		s.left -= n
		s.keep(data[:n])
		s.whole = s.left == 0
	case chunked:
		for len(data) > 0 && !s.whole {
			piece, n, done, bad := s.chunk.Next(data)
			if bad != nil {
				s.gone = true
				return
			}
			s.keep(piece)
			data, s.whole = data[n:], done || s.large
		}
	}
}

// keep stores a piece of the body of stable's answer, within bounds.
func (s *shadow) keep(piece []byte) {
	if len(piece) == 0 || s.skip || s.large {
		return
	}
	if len(s.body)+len(piece) > mirrorBody {
		s.large = true
		return
	}
	m := s.mirror
	m.mu.Lock()
	ok := m.fits(int64(len(piece)))
	if ok {
		m.bytes, s.size = m.bytes+int64(len(piece)), s.size+int64(len(piece))
	}
	m.mu.Unlock()
	if !ok {
		s.gone = true
		return
	}
	s.body = append(s.body, piece...)
}

// end puts the copy into the queue when the exchange that it was made of is
// over. It is left out where stable has not answered.
func (s *shadow) end(x *exchange) {
	m := s.mirror
	s.by = x.last
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !s.whole || x.cut || s.by == nil || s.by.release != s.release || x.status == 0:
		if s.gone && !x.resp.EventStream {
			m.counts.Copied++
			m.counts.Dropped++
		}
		m.open, m.bytes = m.open-1, m.bytes-s.size
		return
	case m.over != 0 || s.gone:
		m.counts.Copied++
		m.counts.Dropped++
		m.open, m.bytes = m.open-1, m.bytes-s.size
		return
	}
	m.counts.Copied++
	m.queue = append(m.queue, s)
	if m.senders < m.edge.cfg.MirrorSenders {
		m.senders++
		go m.send()
	}
}

// next is the copy to send now; nil: there is none, and one sender fewer.
func (m *mirror) next() *shadow {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue) > 0 {
		s := m.queue[0]
		m.queue[0] = nil
		m.queue = m.queue[1:]
		if m.edge.now()-s.made <= int64(s.spec.Timeout) {
			return s
		}
		m.counts.Dropped++ // stable's answer is too old to compare with
		m.open, m.bytes = m.open-1, m.bytes-s.size
	}
	m.queue = nil
	m.senders--
	return nil
}

// done gives back what a copy held.
func (m *mirror) done(s *shadow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open, m.bytes = m.open-1, m.bytes-s.size
}

// sample and its end, as the drivers call them.

func (x *exchange) mirrorTo(g *mirroring) {
	if g != nil {
		x.shadow = g.sample(x)
	}
}

func (x *exchange) endMirror() {
	if s := x.shadow; s != nil {
		x.shadow = nil
		s.end(x)
	}
}
