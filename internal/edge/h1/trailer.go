package h1

import "bytes"

// acceptsTrailers reports whether a TE field lists trailers.
func acceptsTrailers(v []byte) bool {
	for len(v) > 0 {
		var t []byte
		if c := bytes.IndexByte(v, ','); c >= 0 {
			t, v = trim(v[:c]), v[c+1:]
		} else {
			t, v = trim(v), nil
		}
		if equalFold(t, "trailers") {
			return true
		}
	}
	return false
}

// EachTrailer calls yield for each field of the trailers that Chunk let
// through, up to their empty line, until it returns false. Fields about
// framing and the connection are left out: they mean nothing there.
func EachTrailer(b []byte, yield func(name, value []byte) bool) {
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\r\n"))
		b = rest
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		switch classify(name) {
		case hop, te, connection, keepAlive, coding, length, upgrade, host, expect:
			continue
		}
		if equalFold(name, "trailer") {
			continue
		}
		if !yield(name, trim(value)) {
			return
		}
	}
}
