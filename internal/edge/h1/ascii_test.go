package h1

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// What looks at eight bytes at a time finds what a look at each byte finds,
// wherever it is and whatever is before and behind it.
func TestScansAsByteByByte(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	bytes := []byte("\x00\t\n\r\x1f !#?a\x7e\x7f\x80\xa0\xff")
	for range 200000 {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = 'a'
			if r.IntN(6) == 0 {
				b[i] = bytes[r.IntN(len(bytes))]
			}
		}
		from := r.IntN(len(b) + 1)
		first := func(bad func(c byte) bool) int {
			for k := from; k < len(b); k++ {
				if bad(b[k]) {
					return k
				}
			}
			return len(b)
		}
		if got, want := control(b, from), first(func(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }); got != want {
			t.Fatalf("control(%q, %d) = %d, want %d", b, from, got, want)
		}
		if got, want := targetEnd(b, from), first(func(c byte) bool { return c <= ' ' || c == '#' || c == 0x7f }); got != want {
			t.Fatalf("targetEnd(%q, %d) = %d, want %d", b, from, got, want)
		}
	}
}

func TestNamesAreFoundInAnyCase(t *testing.T) {
	for _, n := range names {
		for _, name := range []string{n.name, strings.ToUpper(n.name), strings.ToUpper(n.name[:1]) + n.name[1:]} {
			if got := classify([]byte(name)); got != n.kind {
				t.Errorf("%s is %d, not %d: has another name its slot?", name, got, n.kind)
			}
		}
		for i := range n.name { // one character off
			for c := byte('!'); c <= '~'; c++ {
				if token[c] == 0 || token[c] == n.name[i] {
					continue
				}
				other := n.name[:i] + string(rune(c)) + n.name[i+1:]
				if got := classify([]byte(other)); got != plain && !isName(other) {
					t.Errorf("%s is %d", other, got)
				}
			}
		}
	}
}

func isName(s string) bool {
	for _, n := range names {
		if strings.EqualFold(n.name, s) {
			return true
		}
	}
	return false
}

func TestHexDigitsSayAllOfANumber(t *testing.T) {
	seen := map[string]bool{}
	for i := range 64 {
		b := make([]byte, 16)
		PutHex(b, 1<<i)
		if strings.Trim(string(b), "0123456789abcdef") != "" || strings.Count(string(b), "0") != 15 || seen[string(b)] {
			t.Errorf("1<<%d is %s", i, b)
		}
		seen[string(b)] = true
	}
	var all [16]byte
	PutHex(all[:], 0xfedcba9876543210)
	for _, c := range "0123456789abcdef" {
		if strings.Count(string(all[:]), string(c)) != 1 {
			t.Errorf("%c is %d times in %s", c, strings.Count(string(all[:]), string(c)), all)
		}
	}
}
