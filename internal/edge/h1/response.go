package h1

import "bytes"

// ParseResponse reads the response head at the start of b. It returns false
// and no refusal while the head is not complete. The status of a refusal
// means nothing here: a malformed answer is a 502 for the client.
func (h *Head) ParseResponse(b []byte) (bool, *Refusal) {
	if len(b) > MaxHead {
		b = b[:MaxHead]
	}
	h.reset(b)
	p, err := h.statusLine()
	if err != nil {
		return false, err
	}
	if p == 0 {
		return h.incomplete()
	}
	done, err := h.parseFields(p, false)
	if err != nil {
		return false, err
	}
	if !done {
		return h.incomplete()
	}
	if h.Status == 101 && !h.Upgrade {
		return false, errField
	}
	if h.Interim() && (h.Chunked || h.ContentLength > 0) {
		return false, errFraming
	}
	return true, nil
}

// statusLine reads the first line and returns where it ends; 0: it is not complete.
func (h *Head) statusLine() (int, *Refusal) {
	b := h.src
	i := control(b, 0)
	if !ended(b, i) { // it has not ended yet, or is odd
		i = bytes.IndexByte(b, '\n') - 1
		if i == -2 {
			return 0, nil
		}
	}
	if i < 12 || b[i] != '\r' {
		return 0, errEnding
	}
	line := b[:i]
	h.line = span{0, uint16(i)}
	if string(line[:7]) != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' || len(line) > 12 && line[12] != ' ' || hasControl(line) {
		return 0, errLine
	}
	s := number(line[9:12])
	if s < 100 || s > 999 {
		return 0, errLine
	}
	h.Status = int(s)
	h.HTTP10 = line[7] == '0'
	return i + 2, nil
}

// Interim reports whether another response follows this one (1xx but 101).
func (h *Head) Interim() bool { return h.Status < 200 && h.Status != 101 }

// Bodiless reports whether a response has no body whatever its fields say;
// head: it answers a HEAD request.
func (h *Head) Bodiless(head bool) bool {
	return head || h.Status < 200 || h.Status == 204 || h.Status == 304
}

// Answer is how a response is framed towards the client.
type Answer struct {
	Close     bool // say Connection: close
	KeepAlive bool // say Connection: keep-alive (to HTTP/1.0 clients)
	Unchunk   bool // leave Transfer-Encoding out: the body is sent without chunks
	Chunk     bool // add Transfer-Encoding: chunked: the body is sent in chunks of our own

	Lines []byte // further fields as whole lines, each with its CRLF
}

// Further calls yield for each of Lines until it returns false.
func (a Answer) Further(yield func(name, value []byte) bool) {
	for left := a.Lines; len(left) > 0; {
		line, rest, _ := bytes.Cut(left, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(": "))
		if left = rest; !yield(name, value) {
			return
		}
	}
}

// AppendResponse appends the head to send to an HTTP/1.x client.
func (h *Head) AppendResponse(out []byte, a Answer) []byte {
	b := h.src
	out = append(out, "HTTP/1.1"...)
	out = append(out, h.of(h.line)[8:]...)
	if h.line.to == 12 {
		out = append(out, ' ') // the reason may be empty, the space before it not
	}
	out = append(out, "\r\n"...)
	run, end := 0, 0
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		keep := true
		switch f.kind {
		case hop, connection, keepAlive:
			keep = false
		case upgrade:
			keep = h.Status == 101 || h.Status == 426
		case coding:
			keep = !a.Unchunk && h.Status >= 200 && h.Status != 204
		case length:
			keep = h.Status >= 200 && h.Status != 204
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
	out = append(out, a.Lines...)
	if a.Chunk {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case h.Status == 101:
		out = append(out, "Connection: upgrade\r\n"...)
	case h.Interim():
	case a.Close && h.Status == 426:
		out = append(out, "Connection: upgrade, close\r\n"...)
	case h.Status == 426:
		out = append(out, "Connection: upgrade\r\n"...)
	case a.Close:
		out = append(out, "Connection: close\r\n"...)
	case a.KeepAlive:
		out = append(out, "Connection: keep-alive\r\n"...)
	}
	return append(out, "\r\n"...)
}
