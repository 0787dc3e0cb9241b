package h1

import "math/rand/v2"

// validTrace reports whether v is a traceparent of W3C Trace Context.
func validTrace(v []byte) bool {
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return false
	}
	version, trace, parent, flags := v[:2], v[3:35], v[36:52], v[53:55]
	for _, part := range [][]byte{version, trace, parent, flags} {
		for _, c := range part {
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
				return false
			}
		}
	}
	switch {
	case string(version) == "ff", zeros(trace), zeros(parent):
		return false
	case string(version) == "00":
		return len(v) == 55
	}
	return len(v) == 55 || v[55] == '-' // a later version may have more
}

func zeros(v []byte) bool {
	for _, c := range v {
		if c != '0' {
			return false
		}
	}
	return true
}

// appendTrace appends a traceparent that begins here: the id is the request's
// own (32 hex digits), so that both lead to the same request. It is marked as
// sampled, as the default of the tracing libraries is.
func appendTrace(out, id []byte) []byte {
	out = append(out, "traceparent: 00-"...)
	out = append(out, id...)
	out = append(out, '-')
	const digits = "0123456789abcdef"
	for n, k := rand.Uint64()|1, 0; k < 16; k++ {
		out = append(out, digits[n>>60])
		n <<= 4
	}
	return append(out, "-01\r\n"...)
}

// appendForwarded appends this hop as RFC 7239 says it.
func appendForwarded(out, peer []byte, host []byte, proto string) []byte {
	out = append(out, "Forwarded: for="...)
	v6 := false
	for _, c := range peer {
		v6 = v6 || c == ':'
	}
	if v6 {
		out = append(out, `"[`...)
	}
	out = append(out, peer...)
	if v6 {
		out = append(out, `]"`...)
	}
	if len(host) > 0 {
		out = append(out, `;host="`...)
		out = append(out, host...)
		out = append(out, '"')
	}
	out = append(out, ";proto="...)
	out = append(out, proto...)
	return append(out, "\r\n"...)
}
