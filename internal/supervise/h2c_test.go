package supervise

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gapless"
)

// The probe speaks the protocol that the app is said to speak, and no other.
func TestProbeSpeaksHTTP2(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/up" || q.Header.Get("User-Agent") != "gapless-probe" {
			w.WriteHeader(404)
		}
	})
	for _, h2c := range []bool{true, false} {
		s := httptest.NewUnstartedServer(h)
		s.Config.Protocols = new(http.Protocols)
		if h2c {
			s.Config.Protocols.SetUnencryptedHTTP2(true)
		} else {
			s.Config.Protocols.SetHTTP1(true)
		}
		s.Start()
		defer s.Close()
		for _, asked := range []bool{true, false} {
			c, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			r := readiness{h2c: asked, health: gapless.Health{Path: "/up", Timeout: gapless.Duration(5e9)}}
			f, failed := r.probe(t.Context(), c)
			if failed == (asked == h2c) {
				t.Errorf("h2c %v, asked as h2c %v: %+v", h2c, asked, f)
			}
			if failed && asked && !strings.Contains(f.hint, "h2c") {
				t.Errorf("no hint: %+v", f)
			}
		}
	}
}
