package daemon

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gapless"
)

func TestServersWhoseNamesDoNotResolve(t *testing.T) {
	find := func(_ context.Context, name string) ([]string, error) {
		switch name {
		case "there":
			return []string{"192.0.2.1"}, nil
		case "later":
			return nil, &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
		}
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	for _, c := range []struct {
		servers         []string
		refused, warned string
	}{
		{[]string{"there:80", "127.0.0.1:1", "[::1]:1", "unix:/no:1", "https:there:443"}, "", ""},
		{[]string{"nosuch:80"}, "nosuch:80", ""},
		{[]string{"h2c:nosuch:80", "h2:neither:80"}, "h2c:nosuch:80, h2:neither:80", ""},
		{[]string{"nosuch:80", "127.0.0.1:1"}, "", "nosuch"},
		{[]string{"nosuch:80", "unix:/run/app.sock"}, "", "nosuch"},
		{[]string{"later:80"}, "", "server misbehaving"},
		{[]string{"later:80", "nosuch:80"}, "", "no such host"},
	} {
		var route gapless.Route
		for _, s := range c.servers {
			route.Targets = append(route.Targets, gapless.Target{Address: s})
		}
		var said strings.Builder
		err := resolve(t.Context(), gapless.Table{Routes: []gapless.Route{route}}, find, slog.New(slog.NewTextHandler(&said, nil)))
		switch {
		case c.refused == "" && err != nil, c.refused != "" && (gapless.CodeOf(err) != gapless.Invalid || !strings.HasSuffix(err.Error(), ": "+c.refused) || !strings.Contains(gapless.HintOf(err), "getent")):
			t.Errorf("%v: %v", c.servers, err)
		case c.warned == "" && said.Len() > 0, !strings.Contains(said.String(), c.warned):
			t.Errorf("%v: it said %q", c.servers, said.String())
		}
	}
}

// A name that leads nowhere beside a server that is there: all are served by
// the one, and the metrics say which one is not well.
func TestMetricsSayWhoseNameDoesNotResolve(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	metrics := l.Addr().String()
	l.Close()
	table := proxyTable(map[string]float64{"v1": 1}, to("v1", behind(t, "tcp", "127.0.0.1:0", "hello", nil)), to("v1", "nosuch.invalid:80"))
	table.Routes[0].Probe = gapless.Health{Interval: gapless.Duration(20 * time.Millisecond), Timeout: gapless.Duration(5 * time.Second)}
	startProxy(t, Proxy{Metrics: metrics, Table: table})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res, err := http.Get("http://" + metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `gapless_instance_healthy{app="proxy",instance="nosuch.invalid:80"} 0`) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the metrics do not say it:\n%s", text)
		}
	}
}
