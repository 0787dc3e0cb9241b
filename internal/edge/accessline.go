package edge

import (
	"bytes"
	"strconv"
	"sync/atomic"
	"unicode/utf8"

	"gapless"
)

// How much of what a client sends is written; more is cut, with an ellipsis.
const (
	loggedTarget = 2048 // bytes of path and query
	loggedValue  = 512  // of everything else
)

// clientGone is the status of a request that the client did not wait for.
const clientGone = 499

// accessed is what the access log needs to know of one exchange.
type accessed struct {
	lane  uint32 // to its shard
	bytes int64  // of the body that the client was sent, with its framing
	code  string // of the edge's own answer
	left  bool   // the client went away

	noted bool   // note holds the request; it may be gone by now
	note  []byte // the request, as the line tells it
	split int    // of note: where the time comes; below 0: it is JSON
	mid   int    // where the answer comes
}

func (a *accessed) reset() { a.bytes, a.code, a.left, a.noted = 0, "", false, false }

// lanes spreads exchanges over shards. They are pooled by processor, so those
// of one lane mostly run on one.
var lanes atomic.Uint32

// logged writes the line of an exchange that is over.
func (x *exchange) logged() {
	l := x.accessLog()
	if l == nil {
		return
	}
	if x.access.lane == 0 {
		x.access.lane = lanes.Add(1)
	}
	now := x.now()
	s := l.open(x.access.lane, now)
	if s == nil {
		return
	}
	p := l.policy.Load()
	json := jsonLines(p)
	if x.access.noted {
		json = x.access.split < 0
	}
	if json {
		s.buf = x.appendJSON(s.buf, &s.clock, l.app, p, now)
	} else {
		s.buf = x.appendCommon(s.buf, &s.clock, p)
	}
	l.shut(s)
}

// refused writes the line of a request that was answered with o before it was
// one: malformed, too large or too slow. Nothing of what it says is believed.
func (x *exchange) refused(e *Edge, listener string, peer []byte, o own) {
	x.edge, x.listener, x.started, x.held = e, listener, e.now(), 0
	x.chosen, x.last, x.retries, x.retried = nil, nil, 0, false
	x.access.reset()
	x.status = o.status
	x.says(o)
	l := x.accessLog()
	if l == nil {
		return
	}
	x.access.noted = true
	x.access.note = x.access.note[:0]
	if jsonLines(l.policy.Load()) {
		x.access.note = append(x.access.note, `,"client":`...)
		x.access.note = appendQuoted(x.access.note, peer, loggedValue)
		x.access.split = -1
	} else {
		x.access.note = append(append(x.access.note, peer...), ` - - `...)
		x.access.split = len(x.access.note)
		x.access.note = append(x.access.note, `"-"`...)
		x.access.mid = len(x.access.note)
	}
	x.logged()
}

// says notes an answer on the edge's own account.
func (x *exchange) says(o own) {
	x.access.code = o.code
	if !x.req.Head {
		x.access.bytes = int64(o.size())
	}
}

func (x *exchange) accessLog() *accessLog {
	switch {
	case x.chosen != nil:
		return x.chosen.traffic.log.Load()
	case x.edge == nil: // it never began
		return nil
	}
	if h := x.edge.state.Load().listeners[x.listener]; h != nil {
		return h.log
	}
	return nil
}

func jsonLines(p *gapless.AccessLog) bool {
	return p.Format != gapless.AccessCommon && p.Format != gapless.AccessCombined
}

// remember notes what the line says of the request. It must be called before
// the bytes of the request's head are given back; only the first call counts.
func (x *exchange) remember() {
	a := &x.access
	if a.noted {
		return
	}
	l := x.accessLog()
	if l == nil {
		return
	}
	p := l.policy.Load()
	a.noted, a.note = true, a.note[:0]
	if jsonLines(p) {
		a.note, a.split = x.appendAskedJSON(a.note, p), -1
		return
	}
	a.note = append(a.note, x.fw.Peer...)
	a.note = append(a.note, ` - - `...)
	a.split = len(a.note)
	a.note = x.appendAsked(a.note, p)
	a.mid = len(a.note)
	a.note = x.appendAgent(a.note, p)
}

func (x *exchange) protocol() string {
	switch {
	case x.http2:
		return "HTTP/2.0"
	case x.req.HTTP10:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

func (x *exchange) requestID() []byte {
	if id := x.req.RequestID(); id != nil {
		return id
	}
	return x.id[:]
}

// loggedTarget returns path and query as they are logged.
func (x *exchange) loggedTarget(p *gapless.AccessLog) (path, query []byte) {
	if p.Query {
		query = x.req.Query()
	}
	return x.req.Path(), query
}

// loggedReferer returns the Referer, without its query unless that is wanted.
func (x *exchange) loggedReferer(p *gapless.AccessLog) []byte {
	v := x.req.Value("referer")
	if p.Query {
		return v
	}
	if i := bytes.IndexByte(v, '?'); i >= 0 {
		v = v[:i]
	}
	return v
}

// appendAskedJSON appends the request as the end of a JSON object.
func (x *exchange) appendAskedJSON(b []byte, p *gapless.AccessLog) []byte {
	b = append(b, `,"client":`...)
	b = appendQuoted(b, x.fw.Peer, loggedValue)
	b = append(b, `,"method":`...)
	b = appendQuoted(b, x.req.Method(), loggedValue)
	if host := x.req.Host(); len(host) > 0 {
		b = append(b, `,"host":`...)
		b = appendQuoted(b, host, loggedValue)
	}
	path, query := x.loggedTarget(p)
	b = append(b, `,"path":`...)
	b = appendQuoted(b, path, loggedTarget)
	if len(query) > 0 {
		b = append(b, `,"query":`...)
		b = appendQuoted(b, query, loggedTarget)
	}
	b = append(b, `,"protocol":"`...)
	b = append(b, x.protocol()...)
	b = append(b, `","scheme":"`...)
	b = append(b, x.fw.Proto...)
	b = append(b, `","request_id":`...)
	b = appendQuoted(b, x.requestID(), loggedValue)
	if v := x.req.Value("user-agent"); len(v) > 0 {
		b = append(b, `,"user_agent":`...)
		b = appendQuoted(b, v, loggedValue)
	}
	if v := x.loggedReferer(p); len(v) > 0 {
		b = append(b, `,"referer":`...)
		b = appendQuoted(b, v, loggedValue)
	}
	return b
}

// appendAsked appends the first line of the request as the common log format
// has it.
func (x *exchange) appendAsked(b []byte, p *gapless.AccessLog) []byte {
	b = append(b, '"')
	b = appendEscaped(b, x.req.Method(), loggedValue)
	b = append(b, ' ')
	path, query := x.loggedTarget(p)
	b = appendEscaped(b, path, loggedTarget)
	if len(query) > 0 {
		b = append(b, '?')
		b = appendEscaped(b, query, loggedTarget)
	}
	b = append(b, ' ')
	b = append(b, x.protocol()...)
	return append(b, '"')
}

// appendAgent appends what the combined format has beyond the common one.
func (x *exchange) appendAgent(b []byte, p *gapless.AccessLog) []byte {
	if p.Format != gapless.AccessCombined {
		return b
	}
	for _, v := range [...][]byte{x.loggedReferer(p), x.req.Value("user-agent")} {
		b = append(b, ` "`...)
		if len(v) == 0 {
			b = append(b, '-')
		}
		b = appendEscaped(b, v, loggedValue)
		b = append(b, '"')
	}
	return b
}

func (x *exchange) loggedStatus() int64 {
	if x.status == 0 {
		return clientGone
	}
	return int64(x.status)
}

// appendJSON appends the whole line: the answer first, then the request.
func (x *exchange) appendJSON(b []byte, w *wallClock, app string, p *gapless.AccessLog, now int64) []byte {
	b = append(b, `{"time":"`...)
	b = append(b, w.iso[:]...)
	b = append(b, byte('0'+w.milli/100), byte('0'+w.milli/10%10), byte('0'+w.milli%10))
	b = append(b, `Z","app":`...)
	b = appendName(b, app)
	if x.chosen != nil {
		b = append(b, `,"release":`...)
		b = appendName(b, x.chosen.release)
	}
	if x.last != nil {
		b = append(b, `,"instance":`...)
		b = appendName(b, x.last.id)
		if x.last.release != x.chosen.release { // the coin chose another one
			b = append(b, `,"answered_by":`...)
			b = appendName(b, x.last.release)
		}
	}
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, x.loggedStatus(), 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, x.access.bytes, 10)
	b = append(b, `,"duration":`...)
	b = appendSeconds(b, now-x.started)
	b = append(b, `,"retries":`...)
	b = strconv.AppendInt(b, int64(x.repeats()), 10)
	b = append(b, `,"held":`...)
	b = appendSeconds(b, int64(x.held))
	b = x.appendEvidence(b)
	if x.access.code != "" {
		b = append(b, `,"error":"`...)
		b = append(b, x.access.code...)
		b = append(b, '"')
	}
	switch {
	case x.access.left:
		b = append(b, `,"end":"client gone"`...)
	case x.cut:
		b = append(b, `,"end":"broke off"`...)
	}
	if x.access.noted {
		b = append(b, x.access.note...)
	} else {
		b = x.appendAskedJSON(b, p)
	}
	return append(b, "}\n"...)
}

// appendEvidence appends what the judge counts of a request whose release a
// coin chose: the candidate's share when it was tossed, and whether the answer
// was bad. A session that has a coin of its own is named.
func (x *exchange) appendEvidence(b []byte) []byte {
	if x.chosen == nil || x.chosen.arm == nil || !x.booked {
		return b
	}
	weight := x.chosen.arm.weight
	if x.session.counts {
		weight = x.session.weight
	}
	b = append(b, `,"weight":`...)
	b = strconv.AppendFloat(b, weight, 'g', -1, 64)
	if x.bookedBad {
		b = append(b, `,"bad":true`...)
	}
	if x.session.counts {
		b = append(b, `,"session":"`...)
		b = strconv.AppendUint(b, x.session.id, 16)
		b = append(b, '"')
	}
	return b
}

// appendCommon appends a line of the common or combined format.
func (x *exchange) appendCommon(b []byte, w *wallClock, p *gapless.AccessLog) []byte {
	a := &x.access
	if a.noted {
		b = append(b, a.note[:a.split]...)
		b = append(b, '[')
	} else {
		b = append(b, x.fw.Peer...)
		b = append(b, ` - - [`...)
	}
	b = append(b, w.clf[:]...)
	b = append(b, `] `...)
	if a.noted {
		b = append(b, a.note[a.split:a.mid]...)
	} else {
		b = x.appendAsked(b, p)
	}
	b = append(b, ' ')
	b = strconv.AppendInt(b, x.loggedStatus(), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, a.bytes, 10)
	if a.noted {
		b = append(b, a.note[a.mid:]...)
	} else {
		b = x.appendAgent(b, p)
	}
	return append(b, '\n')
}

// repeats is how often the request was given to an instance again.
func (x *exchange) repeats() int {
	if x.retried && x.retries == 0 {
		return 1
	}
	return x.retries
}

// appendSeconds appends nanoseconds as seconds with microseconds.
func appendSeconds(b []byte, ns int64) []byte {
	us := max(ns, 0) / 1000
	b = strconv.AppendInt(b, us/1e6, 10)
	if us %= 1e6; us == 0 {
		return b
	}
	b = append(b, '.')
	for scale := int64(1e5); scale > 0; scale /= 10 {
		b = append(b, byte('0'+us/scale%10))
	}
	return b
}

const (
	hexDigits   = "0123456789abcdef"
	upperDigits = "0123456789ABCDEF"
)

// appendName is appendQuoted for what a table says.
func appendName(b []byte, name string) []byte {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return appendQuoted(b, []byte(name), loggedValue)
		}
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"')
}

// appendQuoted appends v as a JSON string of at most limit bytes of v. What is
// not UTF-8 becomes U+FFFD.
func appendQuoted(b, v []byte, limit int) []byte {
	cut := len(v) > limit
	if cut {
		v = v[:limit]
	}
	b = append(b, '"')
	from := 0
	for i := 0; i < len(v); {
		c := v[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, v[from:i]...)
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		default:
			r, n := utf8.DecodeRune(v[i:])
			if r == utf8.RuneError || r == '\u2028' || r == '\u2029' || r < 0xa0 {
				b = append(b, `\ufffd`...)
			} else {
				b = append(b, v[i:i+n]...)
			}
			i += n
		}
		from = i
	}
	b = append(b, v[from:]...)
	if cut {
		b = append(b, "…"...)
	}
	return append(b, '"')
}

// appendEscaped appends at most limit bytes of v. Quotes, backslashes and
// everything but printable ASCII become \xHH, as nginx writes them.
func appendEscaped(b, v []byte, limit int) []byte {
	cut := len(v) > limit
	if cut {
		v = v[:limit]
	}
	from := 0
	for i, c := range v {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			b = append(b, v[from:i]...)
			b = append(b, '\\', 'x', upperDigits[c>>4], upperDigits[c&15])
			from = i + 1
		}
	}
	b = append(b, v[from:]...)
	if cut {
		b = append(b, "..."...)
	}
	return b
}
