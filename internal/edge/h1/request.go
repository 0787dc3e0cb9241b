package h1

import "bytes"

// maxMethod is the most bytes of a method.
const maxMethod = 32

// ParseRequest reads the request head at the start of b. It returns false
// and no refusal while the head is not complete.
func (h *Head) ParseRequest(b []byte) (bool, *Refusal) {
	if len(b) > MaxHead {
		b = b[:MaxHead]
	}
	h.reset(b)
	start := 0
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' { // one empty line before a request is allowed
		start = 2
	}
	p := h.ordinaryLine(start)
	if p == 0 {
		var err *Refusal
		if p, err = h.requestLine(start); err != nil {
			return false, err
		}
		if p == 0 {
			return h.incomplete()
		}
	}
	method := h.of(h.method)
	if string(method) == "CONNECT" {
		return false, errConnect
	}
	done, err := h.parseFields(p, true)
	if err != nil {
		return false, err
	}
	if !done {
		return h.incomplete()
	}
	if h.hostValue.to == 0 && !h.HTTP10 {
		return false, errHost
	}
	if err := h.readTarget(); err != nil {
		return false, err
	}
	h.Head = string(method) == "HEAD"
	h.Safe = !h.HasBody() && (h.Head || string(method) == "GET" || string(method) == "OPTIONS")
	if h.HTTP10 || !h.HasBody() {
		h.Expect = false // nothing to wait for
	}
	if h.Upgrade && (h.HasBody() || h.namesHTTP2()) {
		h.Upgrade = false // an upgrade to HTTP/2 behind our back would be a tunnel past every check
	}
	h.WebSocket = h.WebSocket && h.Upgrade
	return true, nil
}

// ordinaryLine reads a whole request line of HTTP/1.1 at start without faults
// and returns where it ends; 0: it is anything else.
func (h *Head) ordinaryLine(start int) int {
	const version = " HTTP/1.1\r\n"
	b := h.src
	sp := tokenEnd(b, start)
	if sp == start || sp > start+maxMethod || sp >= len(b) || b[sp] != ' ' {
		return 0
	}
	end := targetEnd(b, sp+1)
	if end == sp+1 || len(b)-end < len(version) || string(b[end:end+len(version)]) != version {
		return 0
	}
	h.line = span{uint16(start), uint16(end + len(version) - 2)}
	h.method, h.target = span{uint16(start), uint16(sp)}, span{uint16(sp + 1), uint16(end)}
	return end + len(version)
}

// requestLine reads any request line at start and returns where it ends; 0: it
// is not complete.
func (h *Head) requestLine(start int) (int, *Refusal) {
	b := h.src
	i := bytes.IndexByte(b[start:], '\n')
	if i < 0 {
		return 0, nil
	}
	end := start + i // of the line, at LF
	if i < 1 || b[end-1] != '\r' {
		return 0, errEnding
	}
	line := b[start : end-1]
	h.line = span{uint16(start), uint16(end - 1)}
	sp := bytes.IndexByte(line, ' ')
	last := bytes.LastIndexByte(line, ' ')
	if sp <= 0 || last <= sp+1 || sp > maxMethod {
		return 0, errLine
	}
	for _, c := range line[:sp] {
		if token[c] == 0 {
			return 0, errLine
		}
	}
	switch v := line[last+1:]; {
	case string(v) == "HTTP/1.1":
	case string(v) == "HTTP/1.0":
		h.HTTP10 = true
	case len(v) == 8 && string(v[:5]) == "HTTP/" && v[5] >= '0' && v[5] <= '9' && v[6] == '.' && v[7] >= '0' && v[7] <= '9':
		return 0, errVersion
	default:
		return 0, errLine
	}
	h.method = span{uint16(start), uint16(start + sp)}
	h.target = span{uint16(start + sp + 1), uint16(start + last)}
	for _, c := range line[sp+1 : last] {
		if c <= ' ' || c == 0x7f || c == '#' {
			return 0, errTarget
		}
	}
	return end + 1, nil
}

func (h *Head) incomplete() (bool, *Refusal) {
	if len(h.src) >= MaxHead {
		return false, errHead
	}
	return false, nil
}

// readTarget leaves in h.target what is sent upstream (origin form or "*").
func (h *Head) readTarget() *Refusal {
	t := h.of(h.target)
	switch {
	case t[0] == '/':
	case len(t) == 1 && t[0] == '*':
		if string(h.of(h.method)) != "OPTIONS" {
			return errTarget
		}
	case hasPrefixFold(t, "http://"), hasPrefixFold(t, "https://"):
		from := bytes.IndexByte(t, '/') + 2
		slash := from
		for slash < len(t) && t[slash] != '/' && t[slash] != '?' {
			slash++
		}
		if h.hostValue.to == 0 || !equalFoldBytes(t[from:slash], h.of(h.hostValue)) {
			return errTarget // who is asked must not be said twice in two ways
		}
		h.target.from += uint16(slash) // without a path: see AppendRequest
	default:
		return errTarget
	}
	p := h.of(h.target)
	h.path = h.target
	if q := bytes.IndexByte(p, '?'); q >= 0 {
		h.path.to = h.path.from + uint16(q)
	}
	return nil
}

func (h *Head) namesHTTP2() bool {
	for i := range h.fields[:h.n] {
		if f := &h.fields[i]; f.kind == upgrade {
			for v := h.of(f.value); len(v) > 0; v = v[1:] {
				if hasPrefixFold(v, "h2") {
					return true
				}
			}
		}
	}
	return false
}

// Method returns the request's method.
func (h *Head) Method() []byte { return h.of(h.method) }

// Path returns the target's path as it was sent, without the query.
func (h *Head) Path() []byte { return h.of(h.path) }

// Target returns what is asked for in origin form, or "*"; empty for "/".
func (h *Head) Target() []byte { return h.of(h.target) }

// Host returns the Host field, empty only for HTTP/1.0 requests without one.
func (h *Head) Host() []byte { return h.of(h.hostValue) }

// RequestID returns the id that the sender gave the request, nil if it gave
// none that is passed on.
func (h *Head) RequestID() []byte {
	for i := range h.fields[:h.n] {
		if f := &h.fields[i]; f.kind == requestID && validID(h.of(f.value)) {
			return h.of(f.value)
		}
	}
	return nil
}

// Forward is what the edge says to an instance about the client.
type Forward struct {
	Peer      []byte // the client's address, without port
	Trusted   bool   // believe what the client says about where it forwards from
	Proto     string // "http" or "https"
	Port      string // port that the client connected to
	Host      string // Host of HTTP/1.0 requests that have none
	RequestID []byte // for requests that have none
	Trace     bool   // make a traceparent of RequestID, 32 hex digits, for requests without a valid one
	Strip     string // prefix of the path to take off, at a segment boundary, without a slash at its end; told in X-Forwarded-Prefix
}

// AppendRequest appends the head to send upstream: HTTP/1.1, origin form,
// hop-by-hop fields taken out, X-Forwarded-* and X-Request-Id put in.
func (h *Head) AppendRequest(out []byte, fw *Forward) []byte {
	if fw.Strip == "" && h.target.from == h.method.to+1 { // as most are
		out = append(out, h.src[h.method.from:h.target.to]...)
	} else {
		out = append(out, h.of(h.method)...)
		out = append(out, ' ')
		if h.target.from == h.target.to && string(h.of(h.method)) == "OPTIONS" {
			out = append(out, '*') // of the whole server: RFC 9112 3.2.4
		} else {
			out = appendTarget(out, h.of(h.target), fw.Strip)
		}
	}
	out = append(out, " HTTP/1.1\r\n"...)

	var claims [forwardedProto + 1]bool // which X-Forwarded-* are kept
	hasFor, hasID, hasForwarded := false, false, false
	b := h.src
	run, end := 0, 0 // lines that are copied in one piece
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		keep := true
		switch f.kind {
		case hop, connection, keepAlive:
			keep = false
		case upgrade:
			keep = h.Upgrade
		case expect:
			keep = h.Expect
		case forwardedFor:
			keep, hasFor = false, true
		case forwardedHost, forwardedPort, forwardedProto:
			keep = fw.Trusted
			claims[f.kind] = claims[f.kind] || keep
		case peerClaim:
			keep = fw.Trusted
		case forwarded:
			keep = fw.Trusted
			hasForwarded = hasForwarded || keep
		case traceParent, traceState:
			keep = h.traced || !fw.Trace
		case forwardedPrefix:
			keep = fw.Trusted && fw.Strip == ""
		case requestID:
			keep = !hasID && validID(h.of(f.value))
			hasID = hasID || keep
		}
		if !keep {
			out = append(out, b[run:end]...)
			run, end = int(f.end), int(f.end)
			continue
		}
		if run == end {
			run = int(f.start)
		}
		end = int(f.end)
	}
	out = append(out, b[run:end]...)

	if h.hostValue.to == 0 {
		out = appendField(out, "Host: ", fw.Host)
	}
	out = append(out, "X-Forwarded-For: "...)
	if hasFor && fw.Trusted {
		for i := range h.fields[:h.n] {
			if f := &h.fields[i]; f.kind == forwardedFor && f.value.to > f.value.from {
				out = append(out, h.of(f.value)...)
				out = append(out, ", "...)
			}
		}
	}
	out = append(out, fw.Peer...)
	if !claims[forwardedProto] {
		out = append(out, "\r\nX-Forwarded-Proto: "...)
		out = append(out, fw.Proto...)
	}
	if !claims[forwardedHost] {
		out = append(out, "\r\nX-Forwarded-Host: "...)
		if h.hostValue.to == 0 {
			out = append(out, fw.Host...)
		} else {
			out = append(out, h.of(h.hostValue)...)
		}
	}
	if !claims[forwardedPort] {
		out = append(out, "\r\nX-Forwarded-Port: "...)
		out = append(out, fw.Port...)
	}
	out = append(out, "\r\n"...)
	// A proxy that said it only the other way has said more than this hop knows.
	if hasForwarded || !fw.Trusted || !hasFor {
		if h.hostValue.to == 0 {
			out = appendForwarded(out, fw.Peer, nil, fw.Proto)
		} else {
			out = appendForwarded(out, fw.Peer, h.of(h.hostValue), fw.Proto)
		}
	}
	if fw.Strip != "" {
		out = append(out, "X-Forwarded-Prefix: "...)
		if fw.Trusted {
			out = append(out, h.claimedPrefix()...)
		}
		out = append(out, fw.Strip...)
		out = append(out, "\r\n"...)
	}
	if fw.Trace && !h.traced {
		out = appendTrace(out, fw.RequestID)
	}
	if !hasID {
		out = append(out, "X-Request-Id: "...)
		out = append(out, fw.RequestID...)
		out = append(out, "\r\n"...)
	}
	switch {
	case h.Upgrade:
		out = append(out, "Connection: upgrade\r\n"...)
	case h.Trailers:
		out = append(out, "TE: trailers\r\nConnection: te\r\n"...)
	}
	return append(out, "\r\n"...)
}

// appendTarget appends the request target without the prefix that is taken
// off. What is left begins with one slash and no more: a second one would make
// it the begin of a host name for who reads it as a URL.
func appendTarget(out, target []byte, strip string) []byte {
	if n := len(strip); n > 0 && len(target) >= n && string(target[:n]) == strip {
		target = target[n:]
		for len(target) > 0 && target[0] == '/' {
			target = target[1:]
		}
		out = append(out, '/')
		return append(out, target...)
	}
	if len(target) == 0 || target[0] == '?' {
		out = append(out, '/')
	}
	return append(out, target...)
}

// claimedPrefix is the prefix that proxies before this one took off, as far as
// one X-Forwarded-Prefix says it as a plain path; else nothing.
func (h *Head) claimedPrefix() []byte {
	var claim []byte
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		if f.kind != forwardedPrefix {
			continue
		}
		if claim != nil {
			return nil
		}
		claim = h.of(f.value)
	}
	if len(claim) == 0 || claim[0] != '/' || bytes.IndexByte(claim, ',') >= 0 {
		return nil
	}
	return bytes.TrimRight(claim, "/")
}

func appendField(out []byte, name, value string) []byte {
	out = append(out, name...)
	out = append(out, value...)
	return append(out, "\r\n"...)
}

// validID reports whether a client's request id may be passed on: it ends up in logs.
func validID(v []byte) bool {
	if len(v) == 0 || len(v) > 128 {
		return false
	}
	for _, c := range v {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
