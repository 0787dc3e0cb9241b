package gapless

import "testing"

func TestParseUpstream(t *testing.T) {
	for in, want := range map[string]Upstream{
		"127.0.0.1:80":    {ProtocolHTTP, "tcp", "127.0.0.1:80"},
		"[::1]:80":        {ProtocolHTTP, "tcp", "[::1]:80"},
		"unix:/a/b":       {ProtocolHTTP, "unix", "/a/b"},
		"h2c:a.test:1":    {ProtocolH2C, "tcp", "a.test:1"},
		"h2c:unix:/a":     {ProtocolH2C, "unix", "/a"},
		"https:a.test:1":  {ProtocolHTTPS, "tcp", "a.test:1"},
		"h2:[::1]:8443":   {ProtocolH2, "tcp", "[::1]:8443"},
		"h2:8080":         {ProtocolHTTP, "tcp", "h2:8080"}, // a host of that name
		"h2c:h2c:8080":    {ProtocolH2C, "tcp", "h2c:8080"},
		"https:unix:@abc": {ProtocolHTTPS, "unix", "@abc"},
	} {
		got, err := ParseUpstream(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("%q: %+v, %v; written %q", in, got, err, got)
		}
	}
	for _, in := range []string{"", "a", ":80", "a:0", "a:65536", "a:b", "a:+1", "unix:", "unix:a", "h2c:", "h2c:a", "http:a:1", "H2C:a:1", "https://a:1", "h2:h2c:a:1", "a b:1"} {
		if u, err := ParseUpstream(in); err == nil {
			t.Errorf("%q was read as %+v", in, u)
		}
	}
}
