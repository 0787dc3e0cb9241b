package daemon

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"gapless"
)

// TestSynthetic: a request reaches the app's own address, with its host, its
// path and the mark; a redirect is not followed.
func TestSynthetic(t *testing.T) {
	asked := make(chan *http.Request, 2)
	for _, c := range []struct {
		name  string
		start func(http.Handler) *httptest.Server
		https bool
	}{{"http", httptest.NewServer, false}, {"https", httptest.NewTLSServer, true}} {
		t.Run(c.name, func(t *testing.T) {
			srv := c.start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- r
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
			}))
			defer srv.Close()
			spec := &gapless.App{Listen: []string{srv.Listener.Addr().String()}, Hosts: []string{"*.shop.example"},
				Judge: gapless.JudgeSpec{Synthetic: gapless.Synthetic{Path: "/search?q=x"}}}
			if c.https {
				spec.TLS = &gapless.TLS{Listen: spec.Listen}
			}
			askOnce(context.Background(), syntheticClient(spec), spec)
			if len(asked) != 1 {
				t.Fatalf("%d requests", len(asked))
			}
			if r := <-asked; r.Host != "synthetic.shop.example" || r.RequestURI != "/search?q=x" || r.Header.Get(gapless.SyntheticHeader) != "1" || r.Method != http.MethodGet {
				t.Errorf("%s %s%s %v", r.Method, r.Host, r.RequestURI, r.Header)
			}
		})
	}
}
