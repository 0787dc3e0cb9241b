package edge

import (
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
)

// overTLS starts a backend over TLS and returns its address and the file
// with its certificate.
func overTLS(t *testing.T, http2 bool, h http.HandlerFunc) (address, ca string) {
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = http2
	s.StartTLS()
	t.Cleanup(s.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.Listener.Addr().String(), ca
}

// TestUpstreamProtocols sends the same requests to instances of all
// protocols, from clients of both: what arrives and comes back is the same.
func TestUpstreamProtocols(t *testing.T) {
	t.Parallel()
	h := func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/early":
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(http.StatusEarlyHints)
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			for range 3 {
				io.WriteString(w, "data: x\n\n")
				w.(http.Flusher).Flush()
				time.Sleep(time.Millisecond)
			}
			return
		case "/tail":
			b, _ := io.ReadAll(q.Body)
			w.Header().Set("Trailer", "X-Sum")
			w.Write(b)
			w.Header().Set("X-Sum", q.Trailer.Get("X-Check")+q.Header.Get("Te"))
			return
		case "/cut":
			w.Write(make([]byte, 10_000))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/none":
			w.WriteHeader(204)
			return
		}
		b, _ := io.ReadAll(q.Body)
		w.Header().Set("X-Path", q.RequestURI)
		w.Header().Set("X-Proto", q.Proto)
		w.Header()["X-Two"] = []string{"a", "b"}
		w.Write(b)
	}
	plain := func(t *testing.T) (string, *gapless.UpstreamTLS) { return app(t, h), nil }
	h2c := func(t *testing.T) (string, *gapless.UpstreamTLS) {
		s := httptest.NewUnstartedServer(http.HandlerFunc(h))
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		t.Cleanup(s.Close)
		return "h2c:" + s.Listener.Addr().String(), nil
	}
	over := func(p string) func(t *testing.T) (string, *gapless.UpstreamTLS) {
		return func(t *testing.T) (string, *gapless.UpstreamTLS) {
			addr, ca := overTLS(t, p == "h2", h)
			return p + ":" + addr, &gapless.UpstreamTLS{CAFile: ca, ServerName: "example.com"}
		}
	}
	for name, backend := range map[string]func(*testing.T) (string, *gapless.UpstreamTLS){
		"http": plain, "h2c": h2c, "https": over("https"), "h2": over("h2"),
	} {
		for _, client := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(name+" from "+client, func(t *testing.T) {
				target, check := backend(t)
				r, _, addr := setup(t, Config{}, target)
				table := r.last
				table.Version++
				table.Routes[0].UpstreamTLS = check
				r.apply(table)
				cl := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
				if client == "HTTP/2.0" {
					cl = h2client(t)
				}
				do := func(method, path string, body io.Reader, prepare ...func(*http.Request)) (*http.Response, string, error) {
					q, err := http.NewRequest(method, "http://"+addr+path, body)
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range prepare {
						f(q)
					}
					res, err := cl.Do(q)
					if err != nil {
						return nil, "", err
					}
					defer res.Body.Close()
					b, err := io.ReadAll(res.Body)
					return res, string(b), err
				}
				proto := map[string]string{"http": "HTTP/1.1", "https": "HTTP/1.1"}[name]
				if proto == "" {
					proto = "HTTP/2.0"
				}
				big := strings.Repeat("0123456789", 100_000)
				for _, body := range []string{"", "small", big} {
					var in io.Reader
					if body != "" {
						in = strings.NewReader(body)
					}
					res, b, err := do("POST", "/a%2Fb?c=%20&d", in)
					if err != nil || b != body || res.Header.Get("X-Path") != "/a%2Fb?c=%20&d" || res.Header.Get("X-Proto") != proto || len(res.Header["X-Two"]) != 2 {
						t.Fatalf("%d bytes, %v, %v", len(b), err, res)
					}
				}
				if _, b, err := do("PUT", "/", io.MultiReader(strings.NewReader(big))); err != nil || b != big {
					t.Errorf("unknown length: %d bytes, %v", len(b), err)
				}
				if res, b, err := do("HEAD", "/", nil); err != nil || b != "" || res.StatusCode != 200 {
					t.Errorf("HEAD: %q %v", b, err)
				}
				if res, _, err := do("GET", "/none", nil); err != nil || res.StatusCode != 204 {
					t.Errorf("204: %v %v", res, err)
				}
				if res, b, err := do("GET", "/early", nil); err != nil || res.StatusCode != 200 || b != "" {
					t.Errorf("103: %v %v", res, err)
				}
				if _, b, err := do("GET", "/events", nil); err != nil || strings.Count(b, "data: x") != 3 {
					t.Errorf("events: %q %v", b, err)
				}
				res, b, err := do("POST", "/tail", io.MultiReader(strings.NewReader("body")), func(q *http.Request) {
					q.Header.Set("Te", "trailers")
					q.Trailer = http.Header{"X-Check": {"checked"}}
				})
				if err != nil || b != "body" || res.Trailer.Get("X-Sum") != "checkedtrailers" {
					t.Errorf("trailers: %q %v %v", b, res, err)
				}
				if x := r.traffic("v1"); x.Failed != 0 {
					t.Errorf("%+v", x)
				}
				if _, _, err := do("GET", "/cut", nil); err == nil {
					t.Error("a cut answer looked whole")
				}
				eventually(t, "booked", func() bool { return r.traffic("v1").Failed == 1 })
				if x := r.instance("i1"); x.InFlight != 0 {
					t.Errorf("%+v", x)
				}
			})
		}
	}
}

// Certificates are checked unless the table says otherwise.
func TestUpstreamCertificates(t *testing.T) {
	for _, p := range []string{"https", "h2"} {
		addr, ca := overTLS(t, p == "h2", func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, "ok") })
		for name, c := range map[string]struct {
			check *gapless.UpstreamTLS
			want  string
		}{
			"unknown authority": {nil, "502"},
			"wrong name":        {&gapless.UpstreamTLS{CAFile: ca, ServerName: "shop.test"}, "502"},
			"no file":           {&gapless.UpstreamTLS{CAFile: ca + ".no"}, "502"},
			"right":             {&gapless.UpstreamTLS{CAFile: ca}, "200"},
			"insecure":          {&gapless.UpstreamTLS{Insecure: true}, "200"},
		} {
			t.Run(p+" "+name, func(t *testing.T) {
				r, _, edge := setup(t, Config{}, p+":"+addr)
				table := r.last
				table.Version++
				table.Routes[0].UpstreamTLS, table.Routes[0].Hold = c.check, 0
				r.apply(table)
				if got := send(t, edge, get("/", "Connection: close\r\n")); !strings.HasPrefix(got, "HTTP/1.1 "+c.want) {
					t.Errorf("%q", got)
				}
			})
		}
	}
}

// Probes speak the protocol of the instance, and a drain ends its connections.
func TestUpstreamHTTP2ProbedAndDrained(t *testing.T) {
	var sick atomic.Bool
	var probes atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/up" {
			probes.Add(1)
			if sick.Load() {
				w.WriteHeader(500)
			}
		}
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	var open atomic.Int64
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	r, _, addr := setup(t, Config{}, "h2c:"+s.Listener.Addr().String())
	table := r.last
	table.Version++
	table.Routes[0].Probe = gapless.Health{Path: "/up", Interval: gapless.Duration(20 * time.Millisecond)}
	r.apply(table)
	eventually(t, "probed", func() bool { return probes.Load() > 3 && r.instance("i1").Healthy })
	sick.Store(true)
	eventually(t, "taken out", func() bool { return !r.instance("i1").Healthy })
	sick.Store(false)
	eventually(t, "put back", func() bool { return r.instance("i1").Healthy })
	if got := send(t, addr, get("/", "Connection: close\r\n")); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("%q", got)
	}
	if open.Load() == 0 {
		t.Error("no connection is kept")
	}
	table.Version++
	table.Routes = []gapless.Route{table.Routes[0]}
	table.Routes[0].Targets = []gapless.Target{{Instance: "i1", Release: "v1", Address: table.Routes[0].Targets[0].Address, Draining: true}}
	r.apply(table)
	eventually(t, "no connection is left", func() bool { return open.Load() == 0 })
}
