package api

import (
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"gapless"
)

// TestOlderDaemon: a field that only a newer client knows is refused with what
// to do about it, however its daemon's own message goes on.
func TestOlderDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: (&Server{Service: &asked{}, Log: slog.New(slog.DiscardHandler)}).Local()}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	type newer struct {
		ScaleRequest
		Hush bool `json:"hush"`
	}
	_, err = call[gapless.Rollout](t.Context(), NewClient(socket), "POST", "/apps/shop/scale", newer{ScaleRequest{Process: "web", Instances: 1}, true})
	if gapless.CodeOf(err) != gapless.Invalid || gapless.HintOf(err) != "the daemon is older than this command: gapless upgrade brings it up to date" {
		t.Errorf("%v, hint %q", err, gapless.HintOf(err))
	}
	_, err = call[gapless.Rollout](t.Context(), NewClient(socket), "POST", "/apps/shop/rollback", RollbackRequest{Release: "v404"})
	if gapless.CodeOf(err) != gapless.NotFound || gapless.HintOf(err) != "" {
		t.Errorf("%v, hint %q", err, gapless.HintOf(err))
	}
}
