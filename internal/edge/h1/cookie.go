package h1

import "bytes"

// maxPairs bounds how many cookies of one request are looked at. Browsers
// keep at most a few hundred per site.
const maxPairs = 512

// Cookies calls yield with the value of each cookie of that name, in the order
// in which the client sent them (which for browsers is: the one with the
// longest path first), until it returns false. Names are compared byte by
// byte. What is no name=value is passed over: it is the application's to
// judge, and is forwarded as it came. Nothing is decoded or unquoted.
func (h *Head) Cookies(name string, yield func(value []byte) bool) {
	left := maxPairs
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		if f.kind != cookie {
			continue
		}
		for v := h.of(f.value); len(v) > 0; {
			if left--; left < 0 {
				return
			}
			pair := v
			if semi := bytes.IndexByte(v, ';'); semi >= 0 {
				pair, v = v[:semi], v[semi+1:]
			} else {
				v = nil
			}
			pair = trim(pair)
			if n := len(name); len(pair) > n && pair[n] == '=' && string(pair[:n]) == name {
				if !yield(pair[n+1:]) {
					return
				}
			}
		}
	}
}

// Cookie returns the first cookie of that name; false if there is none.
func (h *Head) Cookie(name string) (value []byte, ok bool) {
	h.Cookies(name, func(v []byte) bool {
		value, ok = v, true
		return false
	})
	return value, ok
}

// Says reports whether a field of that name has exactly that value. Names are
// compared without case, values byte by byte.
func (h *Head) Says(name, value string) bool {
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		if int(f.value.to-f.value.from) != len(value) || int(f.name.to-f.name.from) != len(name) {
			continue
		}
		if string(h.of(f.value)) == value && equalFoldBytes(h.of(f.name), []byte(name)) {
			return true
		}
	}
	return false
}

// Query returns the target's query, without the question mark.
func (h *Head) Query() []byte {
	if h.path.to >= h.target.to {
		return nil
	}
	return h.src[h.path.to+1 : h.target.to]
}

// ForwardedHTTPS reports whether the last X-Forwarded-Proto says https.
func (h *Head) ForwardedHTTPS() bool {
	https := false
	for i := range h.fields[:h.n] {
		if f := &h.fields[i]; f.kind == forwardedProto {
			https = equalFold(h.of(f.value), "https")
		}
	}
	return https
}

// Shared reports whether Cache-Control lets caches that many people share keep
// an answer: what is meant for one of them does not belong in it.
func (h *Head) Shared() bool {
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		if !equalFold(h.of(f.name), "cache-control") {
			continue
		}
		for v := h.of(f.value); len(v) > 0; {
			one := v
			if c := bytes.IndexByte(v, ','); c >= 0 {
				one, v = v[:c], v[c+1:]
			} else {
				v = nil
			}
			if one = trim(one); equalFold(one, "public") || hasPrefixFold(one, "s-maxage=") {
				return true
			}
		}
	}
	return false
}
