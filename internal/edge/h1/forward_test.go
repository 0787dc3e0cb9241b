package h1

import (
	"net/netip"
	"strings"
	"testing"
)

func TestTraceIsPassedOnOrMade(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	id := "0123456789abcdef0123456789abcdef"
	for in, passed := range map[string]bool{
		"traceparent: " + good + "\r\ntracestate: a=b\r\n": true,
		"tracestate: a=b\r\nTraceParent: " + good + "\r\n": true,
		"traceparent: 01" + good[2:] + "-more\r\n":         true,
		"":                    false,
		"tracestate: a=b\r\n": false,
		"traceparent: " + good + "\r\ntraceparent: " + good + "\r\ntracestate: a=b\r\n": false,
		"traceparent: " + good + "-more\r\n":                                            false,
		"traceparent: ff" + good[2:] + "\r\n":                                           false,
		"traceparent: " + strings.ToUpper(good) + "\r\n":                                false,
		"traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n":      false,
		"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01\r\n":      false,
		"traceparent: x\r\ntracestate: a=b\r\n":                                         false,
	} {
		var h Head
		if done, err := h.ParseRequest([]byte("GET / HTTP/1.1\r\nHost: a\r\n" + in + "\r\n")); !done || err != nil {
			t.Fatal(err)
		}
		fw := Forward{Peer: []byte("192.0.2.7"), Proto: "http", RequestID: []byte(id), Trace: true}
		out := string(h.AppendRequest(nil, &fw))
		if passed {
			if !strings.Contains(out, strings.TrimPrefix(in, "")) && strings.Count(strings.ToLower(out), "traceparent: ") != 1 {
				t.Errorf("%q: not passed on: %q", in, out)
			}
			continue
		}
		_, after, ok := strings.Cut(out, "traceparent: ")
		if made, _, _ := strings.Cut(after, "\r\n"); !ok || strings.Contains(after, "traceparent") || !validTrace([]byte(made)) || made[3:35] != id || strings.Contains(out, "tracestate") {
			t.Errorf("%q: not made: %q", in, out)
		}
		fw.Trace = false
		if out := string(h.AppendRequest(nil, &fw)); strings.Count(strings.ToLower(out), "traceparent") != strings.Count(strings.ToLower(in), "traceparent") {
			t.Errorf("%q: changed though switched off: %q", in, out)
		}
	}
}

func TestForwardedIsAdded(t *testing.T) {
	for _, c := range []struct {
		fields, peer string
		trusted      bool
		want         string // all Forwarded fields
	}{
		{"", "192.0.2.7", false, `for=192.0.2.7;host="a:80";proto=https`},
		{"", "2001:db8::1", false, `for="[2001:db8::1]";host="a:80";proto=https`},
		{"Forwarded: for=6.6.6.6\r\n", "192.0.2.7", false, `for=192.0.2.7;host="a:80";proto=https`},
		{"Forwarded: for=6.6.6.6\r\n", "192.0.2.7", true, `for=6.6.6.6|for=192.0.2.7;host="a:80";proto=https`},
		{"X-Forwarded-For: 6.6.6.6\r\n", "192.0.2.7", true, ""}, // less than the other field says
	} {
		var h Head
		h.ParseRequest([]byte("GET / HTTP/1.1\r\nHost: a:80\r\n" + c.fields + "\r\n"))
		out := h.AppendRequest(nil, &Forward{Peer: []byte(c.peer), Trusted: c.trusted, Proto: "https", RequestID: []byte("x")})
		var got []string
		for line := range strings.SplitSeq(string(out), "\r\n") {
			if v, ok := strings.CutPrefix(line, "Forwarded: "); ok {
				got = append(got, v)
			}
		}
		if s := strings.Join(got, "|"); s != c.want {
			t.Errorf("%+v: %s", c, s)
		}
	}
}

func TestClientIsTheLastThatIsNotTrusted(t *testing.T) {
	trusted := func(a netip.Addr) bool { return a.IsLoopback() || netip.MustParsePrefix("10.0.0.0/8").Contains(a) }
	for in, want := range map[string]string{
		"":                             "10.0.0.1",
		"X-Forwarded-For: 1.2.3.4\r\n": "1.2.3.4",
		"X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.1.1.1\r\n":                       "1.2.3.4",
		"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n":              "1.2.3.4",
		"X-Forwarded-For: 6.6.6.6, nonsense, 10.1.1.1\r\n":                      "10.1.1.1",
		"X-Forwarded-For: 1.2.3.4:567\r\n":                                      "1.2.3.4",
		"X-Forwarded-For: [2001:db8::1]:9\r\n":                                  "2001:db8::1",
		"X-Forwarded-For: [2001:db8::1]\r\n":                                    "2001:db8::1",
		"X-Forwarded-For: ::ffff:1.2.3.4\r\n":                                   "1.2.3.4",
		"X-Forwarded-For: " + strings.Repeat("10.1.1.1,", 100) + "10.2.2.2\r\n": "10.1.1.1",
		"X-Forwarded-For: 10.9.9.9\r\n":                                         "10.9.9.9",
	} {
		var h Head
		h.ParseRequest([]byte("GET / HTTP/1.1\r\nHost: a\r\n" + in + "\r\n"))
		if got := h.Client(netip.MustParseAddr("10.0.0.1"), trusted); got.String() != want {
			t.Errorf("%q: %v, want %s", in, got, want)
		}
	}
}
