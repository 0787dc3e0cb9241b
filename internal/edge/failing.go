package edge

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"sync"

	"gapless"
)

const (
	mostFailing   = 16  // kinds of failing requests that are known of one release
	failingPath   = 128 // bytes of a path that are kept
	failingMethod = 16
)

// failing keeps which requests of one release fail most often. It is the
// space-saving algorithm (Metwally, Agrawal, El Abbadi 2005): where there is no
// room, what is new takes the place of what was rarest, and its count. So a
// count may be too high, by no more than the lowest one; what is frequent is
// never missed; and clients that make up paths cannot make it grow.
type failing struct {
	mu   sync.Mutex
	list []gapless.Failing
}

func (f *failing) add(method, path []byte, kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rarest := 0
	for i := range f.list {
		x := &f.list[i]
		if x.Kind == kind && x.Method == string(method) && x.Path == string(path) {
			x.Count++
			return
		}
		if x.Count < f.list[rarest].Count {
			rarest = i
		}
	}
	x := gapless.Failing{Method: string(method), Path: string(path), Kind: kind, Count: 1}
	if len(f.list) < mostFailing {
		f.list = append(f.list, x)
		return
	}
	x.Count += f.list[rarest].Count
	f.list[rarest] = x
}

// report lists them, the most frequent first; nil: nothing failed.
func (f *failing) report() []gapless.Failing {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.list)
	slices.SortStableFunc(out, func(a, b gapless.Failing) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

// trail is what a request asked for, folded, once the bytes of its head are
// given back.
type trail struct {
	method, path uint8 // their sizes
	b            [failingMethod + failingPath]byte
}

// tread notes what the request asks for, while that can be read.
func (x *exchange) tread() {
	method := x.req.Method()
	out := append(x.trail.b[:0], method[:min(len(method), failingMethod)]...)
	x.trail.method = uint8(len(out))
	out = foldPath(out, x.req.Path(), len(out)+failingPath)
	x.trail.path = uint8(len(out)) - x.trail.method
}

// fails books what failed. It is not on the way of a request that goes well.
func (x *exchange) fails(kind string) {
	if x.in != nil || x.http2 { // else it was noted
		x.tread()
	}
	if kind == kind5xx {
		kind = strconv.Itoa(x.status)
	}
	m, p := int(x.trail.method), int(x.trail.path)
	x.chosen.traffic.failing.add(x.trail.b[:m], x.trail.b[m:m+p], kind)
}

// foldPath appends a path in which ":id" stands for what differs from one
// request to the next: numbers, UUIDs, hashes, tokens. out gets no longer than most.
func foldPath(out, path []byte, most int) []byte {
	for first := true; len(out) < most; first = false {
		segment, rest, more := bytes.Cut(path, []byte{'/'})
		if !first {
			out = append(out, '/')
		}
		stem, ext := segment, []byte(nil)
		if dot := bytes.LastIndexByte(segment, '.'); dot > 0 && len(segment)-dot <= 6 {
			stem, ext = segment[:dot], segment[dot:]
		}
		if differs(stem) {
			out = append(append(out, ":id"...), ext...)
		} else {
			out = append(out, segment[:min(len(segment), failingPath)]...)
		}
		if !more {
			break
		}
		path = rest
	}
	out = out[:min(len(out), most)]
	for i, c := range out { // it is shown to people
		if c < ' ' || c > '~' {
			out[i] = '?'
		}
	}
	return out
}

// shortToken is the least length at which a mix of letters and digits is taken
// for a token, which may be a secret; longToken the same of anything with a digit.
const shortToken, longToken = 8, 20

// differs reports whether a segment looks like the name of one thing of many.
func differs(s []byte) bool {
	digits, hex, lower, upper := 0, 0, 0, 0
	for _, c := range s {
		switch {
		case '0' <= c && c <= '9':
			digits++
		case 'a' <= c && c <= 'z':
			lower++
		case 'A' <= c && c <= 'Z':
			upper++
		}
		if 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' {
			hex++
		}
	}
	n := len(s)
	switch {
	case digits == 0:
		return false
	case digits == n:
		return true
	case lower+upper == hex && digits+hex >= 7 && digits+hex+bytes.Count(s, []byte{'-'}) == n: // hashes, UUIDs
		return true
	case n < shortToken:
		return false
	case digits+lower+upper == n:
		return upper > 0 || !numbered(s)
	case lower > 0 && upper > 0 && digits+lower+upper+bytes.Count(s, []byte{'-'})+bytes.Count(s, []byte{'_'}) == n: // base64 of URLs
		return true
	}
	return n >= longToken
}

// numbered reports whether s is a word with a small number behind it.
func numbered(s []byte) bool {
	word := bytes.TrimRight(s, "0123456789")
	return len(s)-len(word) <= 2 && !bytes.ContainsAny(word, "0123456789")
}
