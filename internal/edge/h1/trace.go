package h1

import (
	"encoding/binary"
	"math/rand/v2"
)

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
	out = append(out, "0123456789abcdef-01\r\n"...)
	PutHex(out[len(out)-21:], rand.Uint64()|1)
	return out
}

// PutHex writes 16 hex digits that say n, in an order of its own: for random
// numbers. b has room for them.
func PutHex(b []byte, n uint64) {
	binary.LittleEndian.PutUint64(b, digits(uint32(n)))
	binary.LittleEndian.PutUint64(b[8:], digits(uint32(n>>32)))
}

// digits makes eight hex digits of n, one in each byte.
func digits(n uint32) uint64 {
	x := uint64(n)
	x = (x | x<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	x = (x | x<<4) & 0x0f0f0f0f0f0f0f0f
	letters := (x + ones*6) >> 4 & ones // where it is more than 9
	return x + ones*'0' + letters*('a'-'9'-1)
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
