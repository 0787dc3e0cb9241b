package daemon

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/store"
)

// guarded is a daemon with a store and nothing else.
func guarded(t *testing.T) *Daemon {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "gapless.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &Daemon{ctx: t.Context(), store: s, log: slog.New(slog.DiscardHandler)}
}

func TestTokens(t *testing.T) {
	d := guarded(t)
	ctx := t.Context()
	ci, err := d.CreateToken(ctx, api.TokenRequest{Name: "ci", Scope: gapless.ScopeDeploy})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(strings.TrimPrefix(ci.Secret, secretPrefix)); n != 43 { // 256 bits
		t.Errorf("the secret has %d characters", n)
	}
	boss, err := d.CreateToken(ctx, api.TokenRequest{Name: "boss", Scope: gapless.ScopeAdmin, Expires: gapless.Duration(time.Hour)})
	if err != nil || boss.Secret == ci.Secret {
		t.Fatal(boss, err)
	}
	for _, c := range []struct {
		secret string
		name   string
	}{{ci.Secret, "ci"}, {boss.Secret, "boss"}, {"", ""}, {ci.Secret + "x", ""}, {ci.Secret[:20], ""}, {strings.ToUpper(ci.Secret), ""}, {hashOf(ci.Secret), ""}} {
		tok, err := d.Token(ctx, c.secret)
		if tok.Name != c.name || (err == nil) != (c.name != "") || err != nil && gapless.CodeOf(err) != gapless.NotKnown {
			t.Errorf("%q is %q, %v; want %q", c.secret, tok.Name, err, c.name)
		}
	}
	if err := d.RevokeToken(ctx, "ci"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Token(ctx, ci.Secret); gapless.CodeOf(err) != gapless.NotKnown {
		t.Errorf("a revoked token: %v", err)
	}
	// One whose time has come.
	old := gapless.Token{Name: "old", Scope: gapless.ScopeAdmin, Expires: time.Now().Add(-time.Second)}
	if err := d.store.AddToken(ctx, store.HashedToken{Token: old, Hash: hashOf("old")}); err != nil {
		t.Fatal(err)
	}
	d.tokens.forget()
	if _, err := d.Token(ctx, "old"); gapless.CodeOf(err) != gapless.NotKnown || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired token: %v", err)
	}
	for _, req := range []api.TokenRequest{{Name: "", Scope: "read"}, {Name: "a b", Scope: "read"}, {Name: "x", Scope: "root"}, {Name: "x"}, {Name: strings.Repeat("x", 64), Scope: "read"}} {
		if _, err := d.CreateToken(ctx, req); gapless.CodeOf(err) != gapless.Invalid {
			t.Errorf("%+v: %v", req, err)
		}
	}
}

// Over the network nobody gets an environment, and over the socket only who
// could read it anyway.
func TestExecIsForTheOwner(t *testing.T) {
	d := guarded(t)
	_, err := d.Exec(context.Background(), "shop", api.ExecRequest{})
	if gapless.CodeOf(err) != gapless.NotAllowed {
		t.Errorf("not over the socket: %v", err)
	}
}

// One address cannot take all places, and places are given back.
func TestConnectionsOfOneAddressAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &fewConns{Listener: inner, free: make(chan struct{}, networkConns), of: map[string]int{}}
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	var held []net.Conn
	for range networkConnsOfOne {
		dial()
		held = append(held, <-accepted)
	}
	if n, err := dial().Read(make([]byte, 1)); err == nil || n > 0 {
		t.Errorf("one more was not closed: %d, %v", n, err)
	}
	for _, conn := range held {
		_ = conn.Close()
		_ = conn.Close() // http.Server does it twice at times
	}
	dial()
	if conn := <-accepted; conn == nil {
		t.Error("a place that was given back is not free")
	}
}

func TestCertificateIsMadeOnce(t *testing.T) {
	home := Home(t.TempDir())
	cert, key, err := ownCert(home, "127.0.0.1:9443")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(key)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v, %v", info.Mode(), err)
	}
	first, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ownCert(home, "127.0.0.1:9443"); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(cert); err != nil || string(again) != string(first) {
		t.Errorf("another certificate was made (%v): its fingerprint would not fit any more", err)
	}
	pair := &keyPair{cert: cert, key: key}
	before, err := pair.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	// A renewal is taken up; one that is half written is not.
	if err := os.WriteFile(cert, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(cert, time.Time{}, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if now, err := pair.get(nil); err != nil || now != before {
		t.Errorf("half a certificate: %v", err)
	}
	certPEM, keyPEM, err := selfSigned(":9443", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := pair.get(nil); err != nil || now == before {
		t.Errorf("the renewed certificate is not served: %v", err)
	}
	for _, req := range []api.NetworkRequest{{Listen: ""}, {Listen: "host"}, {Listen: "host:0"}, {Listen: "host:http"}, {Listen: ":1", Cert: "/c"}, {Listen: ":1", Cert: "c", Key: "k"}} {
		if err := checkNetwork(req); gapless.CodeOf(err) != gapless.Invalid {
			t.Errorf("%+v: %v", req, err)
		}
	}
}
