package edge

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gapless"
)

// upload starts a request with this head and begin of a body.
func upload(t *testing.T, addr, head, body string) net.Conn {
	t.Helper()
	c := connect(t, addr)
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: shop.test\r\n"+head+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	return c
}

// What a client does wrong is no evidence against the release that had the
// begin of its request.
func TestFaultsOfClientsAreNoEvidence(t *testing.T) {
	for _, c := range []struct {
		name, head, first, then string
		want                    string
	}{
		{"malformed chunk", "Transfer-Encoding: chunked", "5\r\nhello\r\n", "xyz\r\n", "HTTP/1.1 400 "},
		{"too long", "Transfer-Encoding: chunked", "5\r\nhello\r\n", "ffff\r\n" + strings.Repeat("x", 0xffff) + "\r\n", "HTTP/1.1 413 "},
		{"stalled", "Content-Length: 100", "hello", "", "HTTP/1.1 408 "},
		{"gone", "Content-Length: 100", "hello", "gone", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			entered := make(chan bool, 4)
			reads := app(t, func(w http.ResponseWriter, r *http.Request) {
				entered <- true
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					w.WriteHeader(500)
				}
			})
			r, _, addr := setup(t, Config{MaxBody: 10_000, BodyTimeout: 700 * time.Millisecond}, reads)
			r.apply(canary(2, reads, reads, 1))
			conn := upload(t, addr, c.head, c.first)
			<-entered
			if c.then == "gone" {
				conn.Close()
			} else if _, err := io.WriteString(conn, c.then); err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				b := make([]byte, len(c.want))
				if _, err := io.ReadFull(conn, b); err != nil || string(b) != c.want {
					t.Errorf("%q %v, want %q", b, err, c.want)
				}
			}
			eventually(t, "it is counted as the client's", func() bool { return r.traffic("v2").Aborted == 1 })
			if x := r.traffic("v2"); x.Failed != 0 {
				t.Errorf("%d failures of v2", x.Failed)
			}
			if v2 := r.tally("v2", 1); v2 != (gapless.Tally{}) {
				t.Errorf("evidence against v2: %+v, %v", v2, r.kinds("v2"))
			}
		})
	}
}

// A client that takes its time with its upload is not an instance that does
// not answer in time.
func TestSlowUploadIsNoTimeout(t *testing.T) {
	t.Parallel()
	reads := app(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "thanks")
	})
	r, _, addr := setup(t, Config{AnswerTimeout: 600 * time.Millisecond}, reads)
	r.apply(canary(2, reads, reads, 1))
	c := upload(t, addr, "Connection: close\r\nContent-Length: 8", "")
	for range 8 {
		time.Sleep(250 * time.Millisecond)
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal(err)
		}
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(b), "thanks") {
		t.Errorf("%q %v", b, err)
	}
	if v2 := r.tally("v2", 1); v2.Bad != 0 || v2.Requests != 1 {
		t.Errorf("%+v", v2)
	}
}

// Evidence says which instance, and how.
func TestKindsOfEvidence(t *testing.T) {
	good := saying(t, "good")
	odd := app(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/500":
			w.WriteHeader(503)
		case "/reset":
			panic(http.ErrAbortHandler)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "only this")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/slow":
			<-r.Context().Done()
		}
	})
	r, _, addr := setup(t, Config{AnswerTimeout: 600 * time.Millisecond}, good)
	r.apply(canary(2, good, odd, 1))
	for _, path := range []string{"/", "/500", "/500", "/reset", "/cut", "/slow"} {
		c := connect(t, addr)
		io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		io.Copy(io.Discard, c)
	}
	table := canary(3, good, "127.0.0.1:1", 1)
	table.Routes[0].Targets[1].Instance = "i3"
	r.apply(table)
	fetch(t, addr)
	table = canary(4, good, good, 1)
	table.Routes[0].Targets = table.Routes[0].Targets[:1]
	r.apply(table)
	fetch(t, addr)
	got := r.kinds("v2")
	for k, want := range map[string]uint64{"i2 ": 2, "i2 5xx": 2, "i2 reset": 1, "i2 cut": 1, "i2 timeout": 1, "i3 refused": 1, " unready": 1} {
		if got[k] != want {
			t.Errorf("%q: %d, want %d (%v)", k, got[k], want, got)
		}
	}
	// The one that was cut counted as good at its head.
	v2 := r.tally("v2", 1)
	v2.Release = "v2"
	if v2.Requests != 8 || v2.Bad != 7 || v2.Late != 1 || v2.Validate() != nil {
		t.Errorf("%+v", v2)
	}
	versions := map[uint64]bool{}
	for _, c := range r.report().Counters {
		versions[c.Version] = true
	}
	if len(versions) != 3 || versions[0] {
		t.Errorf("route versions %v", versions)
	}
}

// Refused connections are told while they last, by requests and by probes.
func TestRefusedConnectionsAreTold(t *testing.T) {
	t.Parallel()
	good := saying(t, "good")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	r, _, addr := setup(t, Config{}, good)
	table := canary(2, good, address, 1)
	r.apply(table)
	eventually(t, "requests are refused", func() bool { fetch(t, addr); return r.instance("i2").Refuses() })
	if r.instance("i1").Refused != 0 {
		t.Errorf("so is the other one: %+v", r.instance("i1"))
	}
	back, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.NotFoundHandler()}
	go s.Serve(back)
	eventually(t, "no longer", func() bool { fetch(t, addr); return r.instance("i2").Refused == 0 })
	s.Close()
	// Without a request the probes see it.
	table.Version, table.Routes[0].Probe.Interval = 3, gapless.Duration(20*time.Millisecond)
	r.apply(table)
	eventually(t, "probes are refused", func() bool { return r.instance("i2").Refuses() })
}
