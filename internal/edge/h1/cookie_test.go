package h1

import (
	"slices"
	"strings"
	"testing"
)

func head(t testing.TB, target string, fields ...string) *Head {
	t.Helper()
	h := new(Head)
	done, err := h.ParseRequest([]byte("GET " + target + " HTTP/1.1\r\nHost: a\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"))
	if !done || err != nil {
		t.Fatalf("done %v, %v", done, err)
	}
	return h
}

func TestCookies(t *testing.T) {
	for _, c := range []struct {
		fields []string
		want   []string
	}{
		{nil, nil},
		{[]string{"Cookie: s=1"}, []string{"1"}},
		{[]string{"cookie:s=1; x=2;s=3"}, []string{"1", "3"}},
		{[]string{"Cookie: x=s=1", "Cookie:  s=a=b "}, []string{"a=b"}},
		{[]string{"Cookie: ss=1; S=2; s ; s= ; xs=3"}, []string{""}},
		{[]string{`Cookie: s="q"; s`}, []string{`"q"`}},
		{[]string{"Cookie: ;;; ; s=1;"}, []string{"1"}},
		{[]string{"X-Cookie: s=1"}, nil},
		{[]string{"Connection: Cookie", "Cookie: s=1"}, nil}, // it does not go further either
		{[]string{"Cookie: " + strings.Repeat("a=b;", maxPairs-1) + "s=1; s=2"}, []string{"1"}},
		{[]string{"Cookie: " + strings.Repeat("a=b;", maxPairs) + "s=1"}, nil},
	} {
		h := head(t, "/", c.fields...)
		var got []string
		h.Cookies("s", func(v []byte) bool { got = append(got, string(v)); return true })
		if !slices.Equal(got, c.want) {
			t.Errorf("%.80q: %q, want %q", c.fields, got, c.want)
		}
		first, ok := h.Cookie("s")
		if ok != (len(c.want) > 0) || ok && string(first) != c.want[0] {
			t.Errorf("%.80q: the first is %q, %v", c.fields, first, ok)
		}
	}
}

func TestReadingCookiesAllocatesNothing(t *testing.T) {
	h := head(t, "/?a=b", "Cookie: a=b; c=d; s=1", "X: y")
	if n := testing.AllocsPerRun(100, func() {
		if v, ok := h.Cookie("s"); !ok || len(v) != 1 || h.Says("X", "z") || len(h.Query()) != 3 {
			t.Fatal("wrong")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPrefixesAreTakenOff(t *testing.T) {
	fw := Forward{Peer: []byte("1"), Strip: "/shop"}
	for _, c := range []struct {
		target, want, prefix string
		trusted              bool
		fields               []string
	}{
		{target: "/shop", want: "/", prefix: "/shop"},
		{target: "/shop/", want: "/", prefix: "/shop"},
		{target: "/shop?x=/shop/", want: "/?x=/shop/", prefix: "/shop"},
		{target: "/shop/a/b?c", want: "/a/b?c", prefix: "/shop"},
		{target: "/shop/shop/a", want: "/shop/a", prefix: "/shop"},
		{target: "/shop//evil.test/x", want: "/evil.test/x", prefix: "/shop"},
		{target: "http://a/shop/x", want: "/x", prefix: "/shop"},
		{target: "/shop/a", want: "/a", prefix: "/shop", fields: []string{"X-Forwarded-Prefix: /evil"}},
		{target: "/shop/a", want: "/a", prefix: "/outer/shop", trusted: true, fields: []string{"X-Forwarded-Prefix: /outer/"}},
		{target: "/shop/a", want: "/a", prefix: "/shop", trusted: true, fields: []string{"X-Forwarded-Prefix: /a", "X-Forwarded-Prefix: /b"}},
		{target: "/shop/a", want: "/a", prefix: "/shop", trusted: true, fields: []string{"X-Forwarded-Prefix: /a, /b"}},
	} {
		h := head(t, c.target, c.fields...)
		fw.Trusted = c.trusted
		out := string(h.AppendRequest(nil, &fw))
		if line, _, _ := strings.Cut(out, "\r\n"); line != "GET "+c.want+" HTTP/1.1" {
			t.Errorf("%s: %q", c.target, line)
		}
		if n := strings.Count(out, "X-Forwarded-Prefix:"); n != 1 || !strings.Contains(out, "X-Forwarded-Prefix: "+c.prefix+"\r\n") {
			t.Errorf("%s %q: want prefix %s in\n%s", c.target, c.fields, c.prefix, out)
		}
	}
	// Without a prefix of our own a stranger's claim goes, a friend's stays.
	h := head(t, "/x", "X-Forwarded-Prefix: /p")
	for _, trusted := range []bool{false, true} {
		if out := string(h.AppendRequest(nil, &Forward{Trusted: trusted})); strings.Contains(out, "/p") != trusted {
			t.Errorf("trusted %v:\n%s", trusted, out)
		}
	}
}

func TestFurtherLines(t *testing.T) {
	h := new(Head)
	if done, err := h.ParseResponse([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); !done || err != nil {
		t.Fatal(done, err)
	}
	a := Answer{Close: true, Lines: []byte("Set-Cookie: a=b: c\r\nSet-Cookie: d=e\r\n")}
	if got, want := string(h.AppendResponse(nil, a)), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=b: c\r\nSet-Cookie: d=e\r\nConnection: close\r\n\r\n"; got != want {
		t.Errorf("%q", got)
	}
	var got []string
	for name, value := range a.Further {
		got = append(got, string(name)+"|"+string(value))
	}
	if !slices.Equal(got, []string{"Set-Cookie|a=b: c", "Set-Cookie|d=e"}) {
		t.Errorf("%q", got)
	}
}
