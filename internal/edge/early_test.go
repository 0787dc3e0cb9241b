package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
)

// An instance's 103 is with the client before its answer begins: by both
// drivers and over HTTP/2, from instances of both protocols.
func TestEarlyHintsAreEarly(t *testing.T) {
	t.Parallel()
	early := func(seen chan bool) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			for _, file := range []string{"/a.css", "/b.js"} {
				w.Header().Set("Link", "<"+file+">; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				select {
				case <-seen:
				case <-time.After(20 * time.Second):
					w.Header().Set("X-Late", file)
				}
			}
			w.Header().Del("Link")
			io.WriteString(w, "answer")
		}
	}
	instances := map[string]func(t *testing.T, h http.HandlerFunc) string{
		"HTTP/1.1": func(t *testing.T, h http.HandlerFunc) string { return app(t, h) },
		"h2c": func(t *testing.T, h http.HandlerFunc) string {
			s := httptest.NewUnstartedServer(h)
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			s.Start()
			t.Cleanup(s.Close)
			return "h2c:" + s.Listener.Addr().String()
		},
	}
	for from, instance := range instances {
		drivers(t, func(t *testing.T, cfg Config) {
			for to, client := range map[string]func(testing.TB) *http.Client{
				"HTTP/1.1": func(t testing.TB) *http.Client {
					return &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
				},
				"HTTP/2": h2client,
			} {
				seen := make(chan bool, 1)
				_, _, addr := setup(t, cfg, instance(t, early(seen)))
				var hints []string
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					hints = append(hints, fmt.Sprint(code, " ", h.Get("Link")))
					seen <- true
					return nil
				}})
				q, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/", nil)
				res, err := client(t).Do(q)
				if err != nil {
					t.Errorf("from %s to %s: %v", from, to, err)
					continue
				}
				body, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if want := []string{"103 </a.css>; rel=preload", "103 </b.js>; rel=preload"}; !slices.Equal(hints, want) ||
					string(body) != "answer" || res.StatusCode != 200 || res.Header.Get("X-Late") != "" || res.Header.Get("Link") != "" {
					t.Errorf("from %s to %s: %q, then %d %q %v", from, to, hints, res.StatusCode, body, res.Header)
				}
			}
		})
	}
}

// Clients that speak HTTP/1.0 know no such answers, and a second request on
// the connection is answered as if there had been none.
func TestEarlyHintsOnKeptConnections(t *testing.T) {
	t.Parallel()
	drivers(t, func(t *testing.T, cfg Config) {
		_, _, addr := setup(t, cfg, raw(t, func(c net.Conn, br *bufio.Reader) {
			for {
				if q, err := http.ReadRequest(br); err != nil || q == nil {
					return
				}
				io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}))
		got := send(t, addr, strings.Repeat(get("/"), 3)+get("/", "Connection: close"))
		if hints, answers := strings.Count(got, "HTTP/1.1 103 "), strings.Count(got, "HTTP/1.1 200 OK\r\n"); hints != 4 || answers != 4 || !strings.HasSuffix(got, "ok") {
			t.Errorf("%d hints and %d answers: %q", hints, answers, got)
		}
		if got := send(t, addr, "GET / HTTP/1.0\r\nHost: a\r\n\r\n"); strings.Contains(got, "103") || !strings.HasSuffix(got, "ok") {
			t.Errorf("HTTP/1.0: %q", got)
		}
	})
}
