package h1

import "encoding/binary"

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

// hasControl reports whether v has a control character other than TAB.
// Eight bytes at a time: this is the hottest loop of the parser.
func hasControl(v []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(v) >= 8 {
		x := binary.LittleEndian.Uint64(v)
		low := (x - ones*0x20) & ^x & high
		del := x ^ ones*0x7f
		if (low|(del-ones)&^del&high) != 0 && slowControl(v[:8]) {
			return true
		}
		v = v[8:]
	}
	return slowControl(v)
}

func slowControl(v []byte) bool {
	for _, c := range v {
		if (c < 0x20 && c != '\t') || c == 0x7f {
			return true
		}
	}
	return false
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
