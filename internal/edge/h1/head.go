package h1

import "bytes"

const (
	// MaxHead is the largest head in bytes that can be parsed.
	MaxHead = 48 << 10
	// MaxFields is the largest number of header fields of one head.
	MaxFields = 128

	maxTokens = 32 // in all Connection fields of one head
)

// Refusal says why a message is not accepted, and the status to answer with.
type Refusal struct {
	Status int
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

var (
	errLine      = &Refusal{400, "malformed first line"}
	errEnding    = &Refusal{400, "a line does not end in CRLF"}
	errField     = &Refusal{400, "malformed header field"}
	errControl   = &Refusal{400, "control character in a header field"}
	errLength    = &Refusal{400, "malformed or repeated Content-Length"}
	errFraming   = &Refusal{400, "Content-Length together with Transfer-Encoding"}
	errCoding    = &Refusal{501, "transfer coding other than chunked"}
	errCodings   = &Refusal{400, "repeated or misplaced Transfer-Encoding"}
	errHost      = &Refusal{400, "missing, repeated or malformed Host"}
	errNominated = &Refusal{400, "Connection names a field that it must not name"}
	errFields    = &Refusal{431, "too many header fields"}
	errTarget    = &Refusal{400, "malformed request target"}
	errVersion   = &Refusal{505, "HTTP version is not supported"}
	errConnect   = &Refusal{501, "CONNECT is not supported"}
	errExpect    = &Refusal{417, "unknown expectation"}
	errHead      = &Refusal{431, "head is too large"}
)

// kind is what the edge does with a field.
type kind uint8

const (
	plain           kind = iota // forwarded as it is
	te                          // as hop; read for trailers
	traceParent                 // replaced if it is not valid
	traceState                  // goes with traceparent
	forwarded                   // dropped unless the peer is trusted; this hop is added
	hop                         // between two neighbours only: not forwarded
	connection                  // as hop; its tokens are read
	keepAlive                   // as hop; its timeout is read
	host                        // one per request
	length                      // Content-Length
	coding                      // Transfer-Encoding
	upgrade                     // forwarded only with Connection: upgrade
	expect                      // 100-continue
	forwardedFor                // appended to or replaced
	forwardedHost               // believed from trusted peers, else replaced
	forwardedPort               //
	forwardedProto              //
	peerClaim                   // Forwarded, X-Real-IP: dropped unless the peer is trusted
	forwardedPrefix             // believed from trusted peers, and added to where a prefix is taken off
	requestID                   //
	contentType                 //
	cookie                      // forwarded as it is; read by Cookie
)

// span is a piece of the bytes that a head was parsed from.
type span struct{ from, to uint16 }

type field struct {
	start, end  uint16 // whole line, CRLF included
	name, value span   // value without the white space around it
	kind        kind
}

// Head is one parsed message head. It refers to the bytes it was parsed from
// and is valid as long as they are not changed. Its zero value is ready; it
// is meant to be used again for the next message.
type Head struct {
	Size          int   // bytes of the head, the empty line included
	ContentLength int64 // -1: not given
	Chunked       bool  // Transfer-Encoding: chunked
	HTTP10        bool  // the sender speaks HTTP/1.0
	Close         bool  // the sender will not keep the connection
	KeepAlive     bool  // the sender asked for keep-alive explicitly
	Upgrade       bool  // Upgrade, with Connection: upgrade
	WebSocket     bool  // the protocol of Upgrade is websocket

	// of requests
	Head     bool // method HEAD: the answer has no body
	Safe     bool // GET, HEAD or OPTIONS without a body: may be repeated
	Expect   bool // Expect: 100-continue
	Trailers bool // TE: trailers: the client will read them

	// of responses
	Status      int
	EventStream bool // Content-Type: text/event-stream
	IdleSeconds int  // Keep-Alive: timeout=…; -1: not given

	traced               bool // it has one valid traceparent
	src                  []byte
	line                 span // first line without CRLF
	method, target, path span
	hostValue            span
	n                    int
	fields               [MaxFields]field
}

func (h *Head) reset(b []byte) {
	h.Size, h.ContentLength, h.Status, h.IdleSeconds, h.n = 0, -1, 0, -1, 0
	h.Chunked, h.HTTP10, h.Close, h.KeepAlive, h.Upgrade, h.WebSocket = false, false, false, false, false, false
	h.traced = false
	h.Head, h.Safe, h.Expect, h.EventStream, h.Trailers = false, false, false, false, false
	h.method, h.target, h.path, h.hostValue, h.line = span{}, span{}, span{}, span{}, span{}
	h.src = b
}

func (h *Head) of(s span) []byte { return h.src[s.from:s.to] }

// HasBody reports whether a request has a body to be read.
func (h *Head) HasBody() bool { return h.Chunked || h.ContentLength > 0 }

// parseFields reads the header fields from offset p on. It returns false
// while the empty line at the end has not arrived.
func (h *Head) parseFields(p int, request bool) (bool, *Refusal) {
	b := h.src
	hosts, codings, connections, traces := 0, 0, 0, 0
	for !ended(b, p) {
		colon := tokenEnd(b, p)
		if colon == p || colon == len(b) || b[colon] != ':' {
			return h.oddField(p)
		}
		to := control(b, colon+1)
		if !ended(b, to) {
			return h.oddField(p)
		}
		if h.n == MaxFields {
			return false, errFields
		}
		end := to + 2
		from := colon + 1
		for from < to && (b[from] == ' ' || b[from] == '\t') {
			from++
		}
		for to > from && (b[to-1] == ' ' || b[to-1] == '\t') {
			to--
		}
		f := &h.fields[h.n]
		h.n++
		*f = field{
			start: uint16(p), end: uint16(end),
			name:  span{uint16(p), uint16(colon)},
			value: span{uint16(from), uint16(to)},
			kind:  classify(b[p:colon]),
		}
		p = end
		if f.kind == plain {
			continue
		}
		v := b[from:to]
		switch f.kind {
		case host:
			if !request {
				f.kind = plain
				break
			}
			if hosts++; hosts > 1 || !validHost(v) {
				return false, errHost
			}
			h.hostValue = f.value
		case length:
			n := number(v)
			if n < 0 || h.ContentLength >= 0 {
				return false, errLength
			}
			h.ContentLength = n
		case coding:
			if codings++; codings > 1 || len(v) == 0 {
				return false, errCodings
			}
			if !equalFold(v, "chunked") {
				return false, errCoding
			}
			h.Chunked = true
		case connection:
			connections++
		case upgrade:
			if h.Upgrade { // one protocol, once
				return false, errField
			}
			h.Upgrade = true
			h.WebSocket = equalFold(v, "websocket")
		case expect:
			if request {
				if !equalFold(v, "100-continue") {
					return false, errExpect
				}
				h.Expect = true
			}
		case traceParent:
			traces++
			h.traced = traces == 1 && validTrace(v)
		case te:
			h.Trailers = h.Trailers || request && acceptsTrailers(v)
			f.kind = hop
		case keepAlive:
			h.IdleSeconds = idleSeconds(v)
		case contentType:
			h.EventStream = h.EventStream || hasPrefixFold(v, "text/event-stream")
		}
	}
	h.Size = p + 2
	if h.Chunked && h.ContentLength >= 0 {
		return false, errFraming
	}
	if h.Chunked && h.HTTP10 {
		return false, errCodings
	}
	wants := h.Upgrade
	h.Upgrade = false
	if connections > 0 {
		if err := h.readConnection(wants); err != nil {
			return false, err
		}
	}
	if h.HTTP10 && !h.KeepAlive {
		h.Close = true
	}
	return true, nil
}

// oddField says what is wrong with the line at p, which is not a field: it may
// only be incomplete.
func (h *Head) oddField(p int) (bool, *Refusal) {
	b := h.src[p:]
	i := bytes.IndexByte(b, '\n')
	switch {
	case i < 0:
		return false, nil
	case i == 0 || b[i-1] != '\r':
		return false, errEnding
	case h.n == MaxFields:
		return false, errFields
	}
	line := b[:i-1]
	if colon := tokenEnd(line, 0); colon == 0 || colon == len(line) || line[colon] != ':' {
		return false, errField
	}
	return false, errControl
}

// readConnection reads the tokens of all Connection fields and takes the
// fields that they name out of what is forwarded.
func (h *Head) readConnection(wants bool) *Refusal {
	tokens := 0
	for i := range h.fields[:h.n] {
		if h.fields[i].kind != connection {
			continue
		}
		for v := h.of(h.fields[i].value); len(v) > 0; {
			var t []byte
			if c := bytes.IndexByte(v, ','); c >= 0 {
				t, v = trim(v[:c]), v[c+1:]
			} else {
				t, v = trim(v), nil
			}
			if tokens++; tokens > maxTokens {
				return errNominated
			}
			switch {
			case len(t) == 0:
			case named(t, "close"):
				h.Close = true
			case named(t, "keep-alive"):
				h.KeepAlive = true
			case named(t, "upgrade"):
				h.Upgrade = wants && !h.HTTP10
			default:
				if err := h.nominate(t); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (h *Head) nominate(name []byte) *Refusal {
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		if int(f.name.to-f.name.from) != len(name) || !equalFoldBytes(h.of(f.name), name) {
			continue
		}
		switch f.kind {
		case host, length, coding, expect:
			return errNominated
		case connection, upgrade:
		default:
			f.kind = hop
		}
	}
	return nil
}

// Fields calls yield for each field that is end to end (hop-by-hop and
// framing fields are left out) until it returns false.
func (h *Head) Fields(yield func(name, value []byte) bool) {
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		switch f.kind {
		case hop, connection, keepAlive, coding, upgrade, length:
			continue
		}
		if !yield(h.of(f.name), h.of(f.value)) {
			return
		}
	}
}

// Value returns the first field of that name, written in lower case; nil if
// there is none.
func (h *Head) Value(name string) []byte {
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		if int(f.name.to-f.name.from) == len(name) && equalFold(h.of(f.name), name) {
			return h.of(f.value)
		}
	}
	return nil
}

// names are the fields that mean something here, in lower case.
var names = [...]struct {
	name string
	kind kind
}{
	{"te", te}, {"host", host}, {"expect", expect}, {"cookie", cookie}, {"upgrade", upgrade}, {"forwarded", forwarded},
	{"connection", connection}, {"keep-alive", keepAlive}, {"tracestate", traceState}, {"traceparent", traceParent},
	{"content-type", contentType}, {"x-request-id", requestID}, {"content-length", length}, {"transfer-encoding", coding},
	{"x-forwarded-for", forwardedFor}, {"x-forwarded-host", forwardedHost}, {"x-forwarded-port", forwardedPort},
	{"x-forwarded-proto", forwardedProto}, {"x-forwarded-prefix", forwardedPrefix}, {"x-real-ip", peerClaim},
	{"x-gapless-mirror", peerClaim}, // only the edge says that a request is a copy
	{"http2-settings", hop}, {"proxy-connection", hop}, {"proxy-authenticate", hop}, {"proxy-authorization", hop},
}

// slots has each of names where slot says, as its number plus one.
var slots = func() (at [64]uint8) {
	for i, n := range names {
		at[slot([]byte(n.name))] = uint8(i + 1)
	}
	return at
}()

// slot is where to look for a name: no two of names have the same, so that one
// comparison tells.
func slot(name []byte) int {
	n := len(name)
	return (2*n + int(name[0]|0x20) + 7*int(name[n*3/4]|0x20)) % 64
}

// classify finds out what the name of a field means.
func classify(name []byte) kind {
	at := slots[slot(name)]
	if at == 0 {
		return plain
	}
	if n := &names[at-1]; named(name, n.name) {
		return n.kind
	}
	return plain
}

// idleSeconds reads the timeout of a Keep-Alive field, -1 if it has none.
func idleSeconds(v []byte) int {
	for len(v) > 0 {
		var t []byte
		if c := bytes.IndexByte(v, ','); c >= 0 {
			t, v = trim(v[:c]), v[c+1:]
		} else {
			t, v = trim(v), nil
		}
		if hasPrefixFold(t, "timeout=") {
			if n := number(t[len("timeout="):]); n >= 0 && n < 1<<30 {
				return int(n)
			}
		}
	}
	return -1
}
