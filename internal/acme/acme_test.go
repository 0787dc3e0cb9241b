package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"gapless"
)

// bench is a directory with managers in it, and a real ACME server that asks
// them as an edge would let it: by http, passed on to their socket.
type bench struct {
	t                       *testing.T
	dir, storage, live      string
	socket, directory, root string
	pool                    *x509.CertPool
}

func newBench(t *testing.T, life time.Duration) *bench {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_AUTHZREUSE", "0")
	dir, err := os.MkdirTemp("", "acme") // short: a socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bench{t: t, dir: dir, storage: filepath.Join(dir, "certs", "acme"), live: filepath.Join(dir, "certs", "live"), socket: filepath.Join(dir, "acme.sock")}

	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "acme", r.In.Host
		},
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", b.socket)
		}},
		ErrorLog: log.New(io.Discard, "", 0),
	})
	t.Cleanup(front.Close)
	port := front.Listener.Addr().(*net.TCPAddr).Port
	quiet := log.New(io.Discard, "", 0)
	names := nameServer(t, quiet)
	store := db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default", ValidityPeriod: uint64(life.Seconds())}})
	pebble := wfe.New(quiet, store, va.New(quiet, port, 1, true, names, store), authority, []string{"pebble.test"}, true, false, 1, 1)
	srv := httptest.NewUnstartedServer(pebble.Handler())
	srv.Config.ErrorLog = quiet // clients that do not believe it
	srv.StartTLS()
	t.Cleanup(srv.Close)
	b.root = b.rootOf(srv)
	b.directory = srv.URL + wfe.DirectoryPath
	b.pool = x509.NewCertPool()
	b.pool.AddCert(authority.GetRootCert(0).Cert)
	return b
}

// nameServer starts a name server that knows every name, and returns its
// address. It listens by UDP and TCP at one port, which others may take first.
func nameServer(t *testing.T, quiet *log.Logger) string {
	t.Helper()
	for range 10 {
		free, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := free.LocalAddr().String()
		free.Close()
		dns, err := challtestsrv.New(challtestsrv.Config{DNSAddrs: []string{address}, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		dns.SetDefaultDNSIPv4("127.0.0.1")
		dns.SetDefaultDNSIPv6("")
		go dns.Run()
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		}}
		for begin := time.Now(); time.Since(begin) < 2*time.Second; time.Sleep(10 * time.Millisecond) {
			tcp, err := net.Dial("tcp", address)
			if err != nil {
				continue
			}
			tcp.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err = resolver.LookupHost(ctx, "a.test.")
			cancel()
			if err == nil {
				t.Cleanup(dns.Shutdown)
				return address
			}
		}
		dns.Shutdown()
	}
	t.Fatal("no port for a name server")
	return ""
}

// rootOf writes down whom to believe that a server is itself.
func (b *bench) rootOf(srv *httptest.Server) string {
	u, err := url.Parse(srv.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.dir, "root-"+u.Port()+".pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bench) file(name string) string { return filepath.Join(b.live, name+".pem") }

func (b *bench) open() *Manager {
	b.t.Helper()
	m, err := Open(Config{Storage: b.storage, File: b.file, Socket: b.socket, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(m.Close)
	return m
}

func (b *bench) order(name string) Order { return Order{Name: name, CA: b.directory, CARoot: b.root} }

// leaf is the certificate that an edge would serve; nil: there is none.
func (b *bench) leaf(name string) *x509.Certificate {
	b.t.Helper()
	data, err := os.ReadFile(b.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		b.t.Fatalf("the file of %s is no pair: %v", name, err)
	}
	return pair.Leaf
}

func eventually(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

// accounts are the keys of accounts in the storage.
func (b *bench) accounts() (out []string) {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.storage, "acme", "*", "users", "*", "*.key"))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			b.t.Fatal(err)
		}
		out = append(out, string(data))
	}
	return out
}

// What an order leaves on the disk: one file that an edge reads, keys that
// nobody else can read. The next manager orders nothing again, and uses the
// account that there is.
func TestOrderAndWhatIsKept(t *testing.T) {
	b := newBench(t, 90*24*time.Hour)
	m := b.open()
	m.Want([]Order{b.order("a.test"), b.order("a.test")})
	eventually(t, 60*time.Second, "a certificate comes", func() bool { return b.leaf("a.test") != nil })
	first := b.leaf("a.test")
	if _, err := first.Verify(x509.VerifyOptions{DNSName: "a.test", Roots: b.pool, Intermediates: b.intermediates("a.test")}); err != nil {
		t.Error(err)
	}
	eventually(t, 10*time.Second, "it is known", func() bool { s := m.States()["a.test"]; return !s.Busy && !s.Next.IsZero() })
	if s := m.States()["a.test"]; s.Problem != "" || s.Next.Before(time.Now().Add(time.Hour)) {
		t.Errorf("state %+v", s)
	}
	if info, err := os.Stat(b.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	files := 0
	err := filepath.WalkDir(filepath.Join(b.dir, "certs"), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if info.Mode().Perm() != want && path != filepath.Join(b.dir, "certs") {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return nil
	})
	if err != nil || files < 5 { // chain, key and what belongs to them; the account and its key; what the edge reads
		t.Errorf("%d files, %v", files, err)
	}
	account := b.accounts()
	if len(account) != 1 {
		t.Fatalf("%d accounts", len(account))
	}
	m.Close()

	m = b.open()
	if err := os.Remove(b.file("a.test")); err != nil { // the edge's copy is made again
		t.Fatal(err)
	}
	m.Want([]Order{b.order("a.test"), b.order("b.test")})
	eventually(t, 60*time.Second, "both are there", func() bool { return b.leaf("a.test") != nil && b.leaf("b.test") != nil })
	if again := b.leaf("a.test"); again.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("what was good was ordered again")
	}
	if now := b.accounts(); len(now) != 1 || now[0] != account[0] {
		t.Errorf("%d accounts, or another one", len(now))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := m.Renew(ctx, "a.test"); err != nil {
		t.Error(err)
	}
	if again := b.leaf("a.test"); again.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("renewed, and it is the same one")
	}
	if err := m.Renew(ctx, "c.test"); gapless.CodeOf(err) != gapless.NotFound {
		t.Errorf("what nobody wants: %v", err)
	}
	m.Want(nil)
	if len(m.States()) != 0 || b.leaf("a.test") == nil {
		t.Error("what is not wanted any more is looked after, or its certificate was taken away")
	}
}

func (b *bench) intermediates(name string) *x509.CertPool {
	data, err := os.ReadFile(b.file(name))
	if err != nil {
		b.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	return pool
}

// A certificate that lives for seconds is renewed before it ends.
func TestShortLivedIsRenewed(t *testing.T) {
	b := newBench(t, 8*time.Second)
	m := b.open()
	m.Want([]Order{b.order("a.test")})
	seen := map[string]bool{}
	eventually(t, 60*time.Second, "a renewal", func() bool {
		if leaf := b.leaf("a.test"); leaf != nil {
			seen[leaf.SerialNumber.String()] = true
		}
		return len(seen) == 2
	})
	if s := m.States()["a.test"]; s.Problem != "" {
		t.Errorf("problem: %s", s.Problem)
	}
}

func TestUntilDue(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, c := range []struct {
		life, age, want time.Duration
	}{
		{90 * day, 0, lookEvery},
		{90 * day, 80 * day, lookEvery}, // overdue, and the last look renewed nothing
		{7 * day, 0, lookEvery},
		{7 * day, 111 * time.Hour, time.Hour + time.Second},                     // due after two thirds, 112 h
		{7 * day, 112*time.Hour - time.Minute, 50*time.Minute + 24*time.Second}, // not looked at all the time: life/200
		{30 * time.Second, 0, 21 * time.Second},
		{30 * time.Second, 25 * time.Second, time.Second},
		{30 * time.Second, time.Hour, time.Second}, // it has ended
	} {
		leaf := &x509.Certificate{NotBefore: begin, NotAfter: begin.Add(c.life)}
		if got := untilDue(leaf, begin.Add(c.age)); got != c.want {
			t.Errorf("of %s after %s: %s, want %s", c.life, c.age, got, c.want)
		}
	}
}

// Servers that are none, that nobody believes or that say no: the order waits,
// says why, and is tried again. Nothing is written that an edge would read.
func TestBadServers(t *testing.T) {
	b := newBench(t, time.Hour)
	none := httptest.NewTLSServer(http.NotFoundHandler())
	defer none.Close()
	rubbish := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>hello</html>") }))
	defer rubbish.Close()
	gone := httptest.NewTLSServer(http.NotFoundHandler())
	goneRoot := b.rootOf(gone)
	gone.Close()
	text := filepath.Join(b.dir, "text")
	if err := os.WriteFile(text, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		order         Order
		problem, hint string
	}{
		"none.test":    {Order{CA: none.URL + "/dir", CARoot: b.rootOf(none)}, "404", "tried again"},
		"rubbish.test": {Order{CA: rubbish.URL, CARoot: b.rootOf(rubbish)}, "text/html", "tried again"},
		"gone.test":    {Order{CA: gone.URL + "/dir", CARoot: goneRoot}, "connection refused", "tried again"},
		"strange.test": {Order{CA: b.directory}, "x509", "ca_root"},
		"text.test":    {Order{CA: b.directory, CARoot: text}, "no PEM certificate", "tried again"},
		"file.test":    {Order{CA: b.directory, CARoot: text + "-not-there"}, "no such file", "tried again"},
	}
	m := b.open()
	var orders []Order
	for name, c := range want {
		c.order.Name = name
		orders = append(orders, c.order)
	}
	m.Want(orders)
	for name, c := range want {
		eventually(t, 60*time.Second, "a word on "+name, func() bool { return m.States()[name].Problem != "" })
		s := m.States()[name]
		if !strings.Contains(s.Problem, name) || !strings.Contains(s.Problem, c.problem) || !strings.Contains(s.Hint, c.hint) {
			t.Errorf("%s: %s\n  hint: %s", name, s.Problem, s.Hint)
		}
		if wait := time.Until(s.Next); wait < 0 || wait > patience[0] {
			t.Errorf("%s is tried again in %s", name, wait)
		}
		if b.leaf(name) != nil {
			t.Errorf("%s has a certificate", name)
		}
	}
}

// Whoever asks for what no server was told gets nothing.
func TestAnswersOnlyWhatWasAsked(t *testing.T) {
	b := newBench(t, time.Hour)
	m := b.open()
	m.Want([]Order{b.order("a.test")})
	eventually(t, 60*time.Second, "a certificate comes", func() bool { return b.leaf("a.test") != nil })
	for _, path := range []string{"/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/guess", "/.well-known/acme-challenge/../../etc/passwd"} {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "http://a.test/", nil)
		r.URL.Path = path
		m.answer(rec, r)
		if rec.Code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
}
