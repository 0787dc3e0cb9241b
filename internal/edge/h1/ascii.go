package h1

import (
	"encoding/binary"
	"math/bits"
)

// token maps the characters of a token to lower case, all others to 0.
var token = func() (t [256]byte) {
	for c := '!'; c <= '~'; c++ {
		t[c] = byte(c)
	}
	for _, c := range "\"(),/:;<=>?@[\\]{}" {
		t[c] = 0
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = byte(c) + 'a' - 'A'
	}
	return t
}()

// Eight bytes at a time: what is looked for in every byte of a head is the
// hottest loop of the parser.
const ones, high = 0x0101010101010101, 0x8080808080808080

// below marks the bytes of x that are less than n, which is at most 0x80, by
// their high bit. Marks above the lowest one may be wrong.
func below(x, n uint64) uint64 { return (x - ones*n) & ^x & high }

// same marks the bytes of x that are c, as below does.
func same(x, c uint64) uint64 { return below(x^ones*c, 1) }

// control returns the offset from k on of the first control character other
// than TAB; len(b) if there is none.
func control(b []byte, k int) int {
	for k+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[k:])
		m := below(x, 0x20) | same(x, 0x7f)
		if m == 0 {
			k += 8
			continue
		}
		if k += bits.TrailingZeros64(m) / 8; b[k] != '\t' {
			return k
		}
		k++
	}
	for k < len(b) && (b[k] >= 0x20 && b[k] != 0x7f || b[k] == '\t') {
		k++
	}
	return k
}

func hasControl(v []byte) bool { return control(v, 0) < len(v) }

// targetEnd returns the offset from k on of the first byte that cannot be in
// a request target; len(b) if there is none.
func targetEnd(b []byte, k int) int {
	for ; k+8 <= len(b); k += 8 {
		x := binary.LittleEndian.Uint64(b[k:])
		if m := below(x, '!') | same(x, 0x7f) | same(x, '#'); m != 0 {
			return k + bits.TrailingZeros64(m)/8
		}
	}
	for k < len(b) && b[k] > ' ' && b[k] != 0x7f && b[k] != '#' {
		k++
	}
	return k
}

// tokenEnd returns the offset from k on of the first byte that cannot be in a token.
func tokenEnd(b []byte, k int) int {
	for k < len(b) && token[b[k]] != 0 {
		k++
	}
	return k
}

// ended reports whether there is a CRLF at k.
func ended(b []byte, k int) bool { return k+1 < len(b) && b[k] == '\r' && b[k+1] == '\n' }

// named reports whether b is s, which has small letters, digits and hyphens
// only, whatever the case of its letters. b has no control character but TAB:
// with those it would not be exact.
func named(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if c|0x20 != s[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// equalFold compares b with s, which is lower case.
func equalFold(b []byte, s string) bool {
	return len(b) == len(s) && hasPrefixFold(b, s)
}

func hasPrefixFold(b []byte, s string) bool {
	if len(b) < len(s) {
		return false
	}
	for i := range len(s) {
		if lower(b[i]) != s[i] {
			return false
		}
	}
	return true
}

func equalFoldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// number reads decimal digits and nothing else; -1 if b is anything else.
func number(b []byte) int64 {
	if len(b) == 0 || len(b) > 18 {
		return -1
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// validHost reports whether v is host[:port] as a Host field must be.
func validHost(v []byte) bool {
	if len(v) == 0 || len(v) > 255 {
		return false
	}
	rest := v
	if v[0] == '[' {
		i := 1
		for i < len(v) && v[i] != ']' {
			c := lower(v[i])
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || c == ':' || c == '.') {
				return false
			}
			i++
		}
		if i < 3 || i >= len(v) {
			return false
		}
		rest = v[i+1:]
	} else {
		i := 0
		for i < len(v) && v[i] != ':' {
			c := lower(v[i])
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || c == '-' || c == '.' || c == '_' || c == '~' || c == '%') {
				return false
			}
			i++
		}
		if i == 0 {
			return false
		}
		rest = v[i:]
	}
	if len(rest) == 0 {
		return true
	}
	if rest[0] != ':' || len(rest) > 6 {
		return false
	}
	for _, c := range rest[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
