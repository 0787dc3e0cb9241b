package snapshot

import (
	"strconv"
	"strings"
)

// version is major, minor, patch.
type version [3]int

// parseVersion reads "20.11.0" or "v20.11.0"; pre-releases and build metadata
// of node itself (nightlies) are not versions that a range can ask for.
func parseVersion(s string) (version, bool) {
	var v version
	parts := strings.Split(strings.TrimPrefix(strings.TrimSpace(s), "v"), ".")
	if len(parts) != 3 {
		return v, false
	}
	for i, p := range parts {
		n, ok := parseNumber(p)
		if !ok {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

func parseNumber(s string) (int, bool) {
	if s == "" || len(s) > 9 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

func (v version) less(o version) bool {
	for i := range v {
		if v[i] != o[i] {
			return v[i] < o[i]
		}
	}
	return false
}

func (v version) String() string {
	return strconv.Itoa(v[0]) + "." + strconv.Itoa(v[1]) + "." + strconv.Itoa(v[2])
}

// interval is lo ≤ v < hi.
type interval struct{ lo, hi version }

var (
	zero     = version{}
	infinite = version{1 << 30, 0, 0}
)

// satisfies reports whether v is in an npm version range: comparators (^ ~ >=
// > <= < =), partial and x versions, hyphen ranges, ||. The second result is
// false for a range that cannot be read.
func satisfies(v version, expr string) (ok, readable bool) {
	for _, alternative := range strings.Split(expr, "||") {
		all, ok2 := parseRange(alternative)
		if !ok2 {
			return false, false
		}
		inside := true
		for _, in := range all {
			inside = inside && !v.less(in.lo) && v.less(in.hi)
		}
		ok = ok || inside
	}
	return ok, true
}

// parseRange reads comparators that must all hold.
func parseRange(s string) ([]interval, bool) {
	words := strings.Fields(s)
	if len(words) == 3 && words[1] == "-" {
		lo, _, ok1 := parsePartial(words[0])
		hi, n, ok2 := parsePartial(words[2])
		return []interval{{lo, next(hi, n)}}, ok1 && ok2
	}
	all := []interval{{zero, infinite}}
	for i := 0; i < len(words); i++ {
		w := words[i]
		op := w[:len(w)-len(strings.TrimLeft(w, "<>=^~"))]
		rest := w[len(op):]
		if rest == "" && i+1 < len(words) { // ">= 18"
			i++
			rest = words[i]
		}
		v, n, ok := parsePartial(rest)
		if !ok {
			return nil, false
		}
		in := interval{v, infinite}
		switch op {
		case "", "=":
			in.hi = next(v, n)
		case ">=":
		case ">":
			in.lo = next(v, n)
			if n == len(v) {
				in.lo = version{v[0], v[1], v[2] + 1}
			}
		case "<":
			in = interval{zero, v}
		case "<=":
			in = interval{zero, next(v, n)}
		case "~", "~>":
			in.hi = next(v, min(n, 2))
		case "^":
			in.hi = next(v, caretParts(v, n))
		default:
			return nil, false
		}
		all = append(all, in)
	}
	return all, true
}

// caretParts counts the parts of v that ^ keeps: up to the first that is not zero.
func caretParts(v version, n int) int {
	for i := range n {
		if v[i] != 0 {
			return i + 1
		}
	}
	return n
}

// next is the first version behind all that share the first n parts of v.
func next(v version, n int) version {
	if n == 0 {
		return infinite
	}
	out := version{}
	copy(out[:n], v[:n])
	out[n-1]++
	return out
}

// parsePartial reads "20", "20.x", "v20.1.2", "*"; n counts the given parts.
func parsePartial(s string) (v version, n int, ok bool) {
	s = strings.TrimPrefix(s, "v")
	s, _, _ = strings.Cut(s, "+")
	s, _, _ = strings.Cut(s, "-") // a pre-release bound is taken as its release
	if s == "" {
		return v, 0, false
	}
	parts := strings.Split(s, ".")
	if len(parts) > len(v) {
		return v, 0, false
	}
	for i, p := range parts {
		if p == "x" || p == "X" || p == "*" {
			return v, n, true
		}
		if v[i], ok = parseNumber(p); !ok {
			return v, 0, false
		}
		n++
	}
	return v, n, true
}
