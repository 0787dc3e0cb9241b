package edge

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"gapless"
)

// forwards is a backend that says what it is told about the client.
func forwards(t *testing.T) string {
	return app(t, func(w http.ResponseWriter, q *http.Request) {
		h := q.Header
		fmt.Fprintf(w, "for=%s port=%s fwd=%s trace=%s", h.Get("X-Forwarded-For"), h.Get("X-Forwarded-Port"), strings.Join(h["Forwarded"], "|"), h.Get("Traceparent"))
	})
}

// everyDriver runs f with the epoll loops and without.
func everyDriver(t *testing.T, f func(t *testing.T, loops int)) {
	for name, loops := range map[string]int{"loops": 1, "goroutines": -1} {
		t.Run(name, func(t *testing.T) { f(t, loops) })
	}
}

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	everyDriver(t, func(t *testing.T, loops int) {
		r, _, addr := setup(t, Config{Loops: loops, HeaderTimeout: 300 * time.Millisecond}, forwards(t))
		table := r.last
		table.Version++
		table.Routes[0].Forwarding.Proxies = []string{"127.0.0.1"}
		r.apply(table)
		const line = "PROXY TCP4 192.0.2.9 198.51.100.1 4096 8080\r\n"
		req := get("/", "X-Forwarded-For: 6.6.6.6\r\n", "Connection: close\r\n")
		if got := send(t, addr, line+req); !strings.Contains(got, "for=192.0.2.9 port=8080 ") {
			t.Errorf("%q", got)
		}
		c := connect(t, addr) // byte by byte, and kept
		for _, b := range []byte(line) {
			c.Write([]byte{b})
		}
		for range 3 {
			io.WriteString(c, get("/"))
			got := make([]byte, 4096)
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := c.Read(got); err != nil || !strings.Contains(string(got[:n]), "for=192.0.2.9 ") {
				t.Fatalf("%q %v", got[:n], err)
			}
		}
		for _, in := range []string{req, "PROXY TCP4 nonsense\r\n" + req, "PROXY TCP4 1.2.3.4"} { // the last one is never whole
			c := connect(t, addr)
			io.WriteString(c, in)
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if b, err := io.ReadAll(c); len(b) > 0 || err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("%q was answered: %q %v", in, b, err)
			}
		}
		table.Version++
		table.Routes = []gapless.Route{table.Routes[0]}
		table.Routes[0].Forwarding.Proxies = []string{"10.0.0.0/8"} // not this peer
		r.apply(table)
		if got := send(t, addr, line+req); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("a stranger's header was believed: %q", got)
		}
		if got := send(t, addr, req); !strings.Contains(got, "for=6.6.6.6, 127.0.0.1 ") {
			t.Errorf("%q", got)
		}
		eventually(t, "connections end", func() bool { return r.report().Connections <= 1 })
	})
}

// A client that a PROXY header names counts for the limits, not the proxy.
func TestProxyProtocolAndLimits(t *testing.T) {
	everyDriver(t, func(t *testing.T, loops int) {
		r, _, addr := setup(t, Config{Loops: loops}, forwards(t))
		table := r.last
		table.Version++
		table.Routes[0].Forwarding.Proxies = []string{"127.0.0.1"}
		table.Routes[0].Limits.ConnectionsPerIP = 2
		r.apply(table)
		ask := func(client string) string {
			c := connect(t, addr)
			io.WriteString(c, "PROXY TCP4 "+client+" 198.51.100.1 4096 80\r\n"+get("/"))
			b := make([]byte, 4096)
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, _ := c.Read(b)
			return string(b[:n])
		}
		for k, want := range []string{"200", "200", "429"} {
			if got := ask("192.0.2.9"); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
				t.Errorf("connection %d: %q", k, got)
			}
		}
		if got := ask("192.0.2.10"); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("another client: %q", got)
		}
	})
}

func TestTraceparentIsTheRequestID(t *testing.T) {
	everyDriver(t, func(t *testing.T, loops int) {
		r, _, addr := setup(t, Config{Loops: loops}, forwards(t))
		req := get("/", "Connection: close\r\n")
		if got := send(t, addr, req); !regexp.MustCompile(`trace=00-[0-9a-f]{32}-[0-9a-f]{16}-01$`).MatchString(got) || !strings.Contains(got, `fwd=for=127.0.0.1;host="shop.test";proto=http`) {
			t.Errorf("%q", got)
		}
		table := r.last
		table.Version++
		table.Routes[0].Forwarding.Trace = gapless.TracePass
		r.apply(table)
		if got := send(t, addr, req); !strings.HasSuffix(got, "trace=") {
			t.Errorf("%q", got)
		}
	})
}

func TestForwardingIsChecked(t *testing.T) {
	r, _, _ := setup(t, Config{}, "127.0.0.1:1")
	for _, f := range []gapless.Forwarding{
		{Trusted: []string{"10.0.0.1/8"}}, {Trusted: []string{"somewhere"}}, {Proxies: []string{"10.0.0.0/33"}}, {Trace: "never"},
	} {
		table := r.last
		table.Version = 9
		table.Routes = []gapless.Route{table.Routes[0]}
		table.Routes[0].Forwarding = f
		if err := r.Apply(t.Context(), table); gapless.CodeOf(err) != gapless.Invalid {
			t.Errorf("%+v: %v", f, err)
		}
	}
}
