package edge

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// The only instance dies: its kept connections end, and new ones are refused
// until it runs again. What may be repeated waits for it like what was never sent.
func TestHoldsWhenTheOnlyInstanceDiesWithKeptConnections(t *testing.T) {
	serve := func(addr, say string) (net.Listener, *http.Server) {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, say) })}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		return l, s
	}
	l, first := serve("127.0.0.1:0", "before")
	r, _, addr := setup(t, Config{}, l.Addr().String())
	r.apply(r.route(2, 5*time.Second, map[string]float64{"v1": 1}, map[string][]string{"v1": {l.Addr().String()}}))
	if code, body, _ := fetch(t, addr); code != 200 || body != "before" {
		t.Fatalf("%d %q", code, body)
	}
	first.Close() // the edge keeps its connection in the pool
	time.AfterFunc(400*time.Millisecond, func() { serve(l.Addr().String(), "after") })
	if code, body, _ := fetch(t, addr); code != 200 || body != "after" {
		t.Errorf("%d %q", code, body)
	}
	if x := r.traffic("v1"); x.Held != 1 || x.Failed != 0 {
		t.Errorf("held %d, failed %d", x.Held, x.Failed)
	}
}
