package edge

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
)

// authority signs certificates for tests.
type authority struct {
	t      testing.TB
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	pool   *x509.CertPool
	serial int64
}

func newAuthority(t testing.TB) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spec := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, spec, spec, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, cert: cert, key: key, pool: x509.NewCertPool(), serial: 100}
	a.pool.AddCert(cert)
	return a
}

// issue returns chain and key as PEM, and the serial number.
func (a *authority) issue(names ...string) (chain, key []byte, serial int64) {
	a.serial++
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	spec := &x509.Certificate{SerialNumber: big.NewInt(a.serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, spec, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), a.serial
}

// write puts a fresh pair into dir.
func (a *authority) write(dir, name string, names ...string) (cert, key string, serial int64) {
	chain, secret, serial := a.issue(names...)
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	put(a.t, cert, chain)
	put(a.t, key, secret)
	return cert, key, serial
}

// put replaces a file at once, as certbot and others do.
func put(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// secured is table1 with https on "tls:8443" beside plain "web".
func secured(version uint64, address, cert, key string) gapless.Table {
	table := table1(version, address)
	r := &table.Routes[0]
	r.Listen = []string{"web", "tls:8443"}
	r.TLS = &gapless.TLS{Listen: []string{"tls:8443"}, Cert: cert, Key: key}
	return table
}

// browser is a client that trusts a; every name leads to addr.
func (a *authority) browser(addr, name string) *tls.Config {
	return &tls.Config{RootCAs: a.pool, ServerName: name}
}

func visitor(cfg *tls.Config, addr string, h2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: h2}
	tr.DialTLSContext = nil
	tr.DialContext = (&addressed{addr}).dial
	return &http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func TestTLSServesBothProtocols(t *testing.T) {
	a := newAuthority(t)
	cert, key, _ := a.write(t.TempDir(), "shop", "shop.test")
	h := newHost(t, "web", "tls:8443")
	e := start(t, Config{Host: h})
	backend := app(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Port"), len(b))
	})
	table := secured(1, backend, cert, key)
	table.Routes[0].TLS.HSTS = &gapless.HSTS{MaxAge: gapless.Duration(time.Hour), Subdomains: true}
	e.apply(table)
	addr := h.addr("tls:8443")
	_, port, _ := net.SplitHostPort(addr)
	big := strings.Repeat("x", 3<<20)
	for _, h2 := range []bool{false, true} {
		c := visitor(a.browser(addr, "shop.test"), addr, h2)
		for range 2 {
			res, err := c.Post("https://shop.test/", "text/plain", strings.NewReader(big))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if want := fmt.Sprintf("https %s %d", port, len(big)); string(b) != want {
				t.Errorf("h2 %v: the app saw %q, not %q", h2, b, want)
			}
			if res.ProtoMajor != map[bool]int{false: 1, true: 2}[h2] {
				t.Errorf("h2 %v: served by %s", h2, res.Proto)
			}
			if got := res.Header.Get("Strict-Transport-Security"); got != "max-age=3600; includeSubDomains" {
				t.Errorf("h2 %v: HSTS is %q", h2, got)
			}
		}
		table.Version++
		table.Routes[0].Maintenance = &gapless.Maintenance{}
		e.apply(table)
		res, err := c.Get("https://shop.test/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Strict-Transport-Security"); res.StatusCode != 503 || got != "max-age=3600; includeSubDomains" {
			t.Errorf("h2 %v: the edge's own answer is %d, HSTS is %q", h2, res.StatusCode, got)
		}
		table.Version++
		table.Routes[0].Maintenance = nil
		e.apply(table)
		c.CloseIdleConnections()
	}
	if res := send(t, h.addr("web"), get("/", "Connection: close")); strings.Contains(res, "Strict-Transport-Security") {
		t.Errorf("HSTS over http, where browsers must ignore it:\n%s", res)
	}
	r := e.report().TLS
	if r == nil || r.Handshakes != 2 || r.Failed != 0 || r.Open != 0 {
		t.Errorf("handshakes: %+v", r)
	}
}

func TestTLSNames(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	h := newHost(t, "web", "tls:8443")
	e := start(t, Config{Host: h})
	table := gapless.Table{Version: 1}
	serials := map[string]int64{}
	for _, n := range []string{"a.test", "b.test", "*.wild.test"} {
		cert, key, serial := a.write(dir, strings.TrimPrefix(n, "*."), n)
		serials[n] = serial
		r := secured(1, app(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, n) }), cert, key).Routes[0]
		r.App, r.Hosts, r.TLS.Names = n, []string{n}, []string{n}
		table.Routes = append(table.Routes, r)
	}
	e.apply(table)
	addr := h.addr("tls:8443")
	for name, owner := range map[string]string{"a.test": "a.test", "B.test": "b.test", "x.wild.test": "*.wild.test"} {
		c := visitor(a.browser(addr, name), addr, false)
		res, err := c.Get("https://" + name + "/")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(b) != owner || res.TLS.PeerCertificates[0].SerialNumber.Int64() != serials[owner] {
			t.Errorf("%s: answered by %q with certificate %v", name, b, res.TLS.PeerCertificates[0].SerialNumber)
		}
		c.CloseIdleConnections()
	}
	_, err := tls.Dial("tcp", addr, a.browser(addr, "stranger.test"))
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name that no app has: %v", err)
	}
	if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Errorf("no name: %v", err)
	} else {
		c.Close()
	}
}

func TestTLSModernOnly(t *testing.T) {
	a := newAuthority(t)
	cert, key, _ := a.write(t.TempDir(), "shop", "shop.test")
	h := newHost(t, "web", "tls:8443")
	e := start(t, Config{Host: h})
	e.apply(secured(1, "127.0.0.1:1", cert, key))
	addr := h.addr("tls:8443")
	for _, c := range []struct {
		what  string
		cfg   func(*tls.Config)
		works bool
	}{
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }, false},
		{"TLS 1.2, CBC", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, false},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{"TLS 1.3", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, true},
		{"an unknown protocol", func(c *tls.Config) { c.NextProtos = []string{"smtp"} }, false},
	} {
		cfg := a.browser(addr, "shop.test")
		c.cfg(cfg)
		conn, err := tls.Dial("tcp", addr, cfg)
		if (err == nil) != c.works {
			t.Errorf("%s: %v", c.what, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	if res := send(t, addr, get("/")); !strings.Contains(res, "400 Bad Request") || !strings.Contains(res, "https_expected") {
		t.Errorf("http on an https address: %q", res)
	}
	eventually(t, "all failures are counted", func() bool { return e.report().TLS.Failed == 4 })
}

func TestTLSCertificateReload(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	cert, key, first := a.write(dir, "shop", "shop.test")
	h := newHost(t, "web", "tls:8443")
	e := start(t, Config{Host: h})
	e.apply(secured(1, "127.0.0.1:1", cert, key))
	addr := h.addr("tls:8443")
	serial := func() int64 {
		c, err := tls.Dial("tcp", addr, a.browser(addr, "shop.test"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != first {
		t.Fatalf("serial %d, not %d", got, first)
	}
	_, _, second := a.write(dir, "shop", "shop.test")
	eventually(t, "the new certificate is served", func() bool { return serial() == second })
}

// TestTLSPairInTheMiddle looks at files as they are while they are replaced
// one after the other, and when one is broken.
func TestTLSPairInTheMiddle(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	cert, key, first := a.write(dir, "shop", "shop.test")
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	p := &pair{files: pairFiles{cert, key}}
	expect := func(what string, serial int64, lines int) {
		t.Helper()
		p.refresh(log)
		if got := p.present.Load().Leaf.SerialNumber.Int64(); got != serial {
			t.Errorf("%s: serial %d is served, not %d", what, got, serial)
		}
		if got := strings.Count(said.String(), "cannot be used"); got != lines {
			t.Errorf("%s: %d complaints, not %d:\n%s", what, got, lines, &said)
		}
	}
	expect("at first", first, 0)
	chain, secret, second := a.issue("shop.test")
	put(t, cert, chain)
	expect("half a renewal", first, 0)
	put(t, key, secret)
	expect("a whole renewal", second, 0)
	put(t, key, []byte("rubbish"))
	expect("a broken key, which might be half a renewal", second, 0)
	expect("a broken key that stays", second, 1)
	expect("and stays", second, 1)
	if !strings.Contains(said.String(), key) || !strings.Contains(said.String(), "hint=") {
		t.Errorf("the complaint does not say what to do: %s", &said)
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	expect("a file that is gone", second, 1)
	expect("and stays away", second, 2)
	_, _, third := a.write(dir, "shop", "shop.test")
	expect("all is well", third, 2)
}

func TestTLSUntilThereIsACertificate(t *testing.T) {
	t.Parallel()
	a, dir := newAuthority(t), t.TempDir()
	challenges := filepath.Join(t.TempDir(), "acme.sock")
	l, err := net.Listen("unix", challenges)
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "key for %s%s", r.Host, r.URL.Path) }))
	t.Cleanup(func() { l.Close() })
	for _, loops := range []int{-1, 1} {
		t.Run(fmt.Sprint("loops ", loops), func(t *testing.T) {
			os.Remove(CertificateFile(dir, "shop.test"))
			h := newHost(t, "web", "tls:8443")
			e := start(t, Config{Host: h, Loops: loops, TLS: TLSFiles{Certificates: dir, Challenges: challenges}})
			table := secured(1, app(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "shop") }), "", "")
			r := &table.Routes[0]
			r.Hosts, r.Path = []string{"shop.test"}, "/shop"
			r.TLS.Auto, r.TLS.Names, r.TLS.Redirect = true, []string{"shop.test"}, true
			e.apply(table)
			addr, plain := h.addr("tls:8443"), h.addr("web")
			c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: "shop.test"})
			if err != nil {
				t.Fatal(err)
			}
			if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != StandInName {
				t.Errorf("before the first certificate: %q", got)
			}
			c.Close()
			if res := send(t, plain, get("/shop", "Connection: close")); !strings.Contains(res, "200 OK") {
				t.Errorf("nobody is sent to a certificate that nobody trusts: %q", res)
			}
			ask := func() {
				t.Helper()
				if res := send(t, plain, get("/.well-known/acme-challenge/abc", "Connection: close")); !strings.Contains(res, "key for shop.test/.well-known/acme-challenge/abc") {
					t.Errorf("the ACME server got %q", res)
				}
			}
			ask()
			chain, secret, serial := a.issue("shop.test")
			put(t, CertificateFile(dir, "shop.test"), append(chain, secret...))
			eventually(t, "the certificate is served", func() bool {
				c, err := tls.Dial("tcp", addr, a.browser(addr, "shop.test"))
				if err != nil {
					return false
				}
				defer c.Close()
				return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64() == serial
			})
			res := send(t, plain, get("/shop/a?b=c", "Connection: close"))
			if !strings.Contains(res, "308 Permanent Redirect") || !strings.Contains(res, "Location: https://shop.test:8443/shop/a?b=c\r\n") {
				t.Errorf("no redirect: %q", res)
			}
			ask()
			if res := send(t, plain, "GET /.well-known/acme-challenge/abc HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n"); !strings.Contains(res, "404") {
				t.Errorf("another host's challenge: %q", res)
			}
		})
	}
}

// TestTLSResumption is about two generations that share their keys by a file,
// and an address that changes what it speaks.
func TestTLSResumption(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	cert, key, _ := a.write(dir, "shop", "shop.test")
	keys := filepath.Join(dir, "tickets")
	if err := WriteTickets(keys, time.Now().Add(-TicketEvery)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(keys); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode of the keys: %v %v", info.Mode(), err)
	}
	h := newHost(t, "web", "tls:8443")
	backend := app(t, func(w http.ResponseWriter, r *http.Request) {})
	addr := h.addr("tls:8443")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := a.browser(addr, "shop.test")
		cfg.MaxVersion, cfg.ClientSessionCache = version, tls.NewLRUClientSessionCache(8)
		visit := func() bool {
			c, err := tls.Dial("tcp", addr, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, get("/", "Connection: close"))
			if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), "200 OK") {
				t.Fatalf("got %q, %v", b, err)
			}
			return c.ConnectionState().DidResume
		}
		one := start(t, Config{Host: h, Generation: 1, TLS: TLSFiles{Tickets: keys}})
		if one.report().Version == 0 {
			one.apply(secured(1, backend, cert, key))
		}
		visit()
		if !visit() {
			t.Errorf("%s: not resumed on the same edge", tls.VersionName(version))
		}
		if r := one.report().TLS; r.Resumed != 1 {
			t.Errorf("%s: counted %+v", tls.VersionName(version), r)
		}
		// A new key comes in between, as it does every few hours.
		if err := WriteTickets(keys, time.Now()); err != nil {
			t.Fatal(err)
		}
		two := start(t, Config{Host: h, Generation: 2, TLS: TLSFiles{Tickets: keys}})
		if err := one.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		one.wait(10 * time.Second)
		if !visit() {
			t.Errorf("%s: not resumed on the next generation", tls.VersionName(version))
		}
		two.cancel()
		two.wait(10 * time.Second)
	}
}

func TestTLSTicketsRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tickets")
	now := time.Now().Add(-10 * TicketEvery)
	for k := range 8 {
		if err := WriteTickets(path, now); err != nil {
			t.Fatal(err)
		}
		list, err := readTickets(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := min(k+1, int(TicketKeep/TicketEvery)); len(list) != want {
			t.Errorf("after %d turns there are %d keys, not %d", k+1, len(list), want)
		}
		if list[0].made.Unix() != now.Unix() {
			t.Errorf("the newest key is of %v, not %v", list[0].made, now)
		}
		before, _ := os.ReadFile(path)
		if err := WriteTickets(path, now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Error("changed before its time")
		}
		now = now.Add(TicketEvery)
	}
	put(t, path, []byte("rubbish\n"))
	if err := WriteTickets(path, now); err != nil {
		t.Fatal(err)
	}
	if list, err := readTickets(path); err != nil || len(list) != 1 {
		t.Errorf("rubbish is replaced: %v %v", list, err)
	}
}

func TestTLSHandshakeLimits(t *testing.T) {
	a := newAuthority(t)
	cert, key, _ := a.write(t.TempDir(), "shop", "shop.test")
	h := newHost(t, "web", "tls:8443")
	e := start(t, Config{Host: h, MaxHandshakes: 1, HandshakeTime: time.Second})
	e.apply(secured(1, app(t, func(w http.ResponseWriter, r *http.Request) {}), cert, key))
	addr := h.addr("tls:8443")
	for range 50 { // who says nothing takes no place
		connect(t, addr)
	}
	if c, err := tls.Dial("tcp", addr, a.browser(addr, "shop.test")); err != nil {
		t.Fatal(err)
	} else {
		c.Close()
	}
	slow := connect(t, addr)
	slow.Write([]byte{22, 3, 1})
	eventually(t, "the slow handshake is under way", func() bool { return e.report().TLS.Open == 1 })
	var shed atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := connect(t, addr)
			c.Write([]byte{22, 3, 1})
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				shed.Add(1)
			}
		})
	}
	wg.Wait()
	if shed.Load() != 4 {
		t.Errorf("%d of 4 were closed in time", shed.Load())
	}
	eventually(t, "everything is counted", func() bool {
		r := e.report().TLS
		return r.Open == 0 && r.Failed+r.Shed == 5 && r.Handshakes == 1
	})
	if c, err := tls.Dial("tcp", addr, a.browser(addr, "shop.test")); err != nil {
		t.Errorf("afterwards: %v", err)
	} else {
		c.Close()
	}
}

// TestTLSClientGone is about a client that says goodbye in the TLS way, which
// is a record that nobody reads while the answer is waited for.
func TestTLSClientGone(t *testing.T) {
	a := newAuthority(t)
	cert, key, _ := a.write(t.TempDir(), "shop", "shop.test")
	h := newHost(t, "web", "tls:8443")
	e := start(t, Config{Host: h})
	gone := make(chan struct{})
	e.apply(secured(1, app(t, func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(gone)
	}), cert, key))
	c, err := tls.Dial("tcp", h.addr("tls:8443"), a.browser("", "shop.test"))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, get("/"))
	eventually(t, "the request is in flight", func() bool { return e.instance("i1").InFlight == 1 })
	c.Close()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the instance was not told that the client left")
	}
	eventually(t, "it counts as the client's doing", func() bool { return e.traffic("v1").Aborted == 1 && e.traffic("v1").Failed == 0 })
}

// TestTLSCut is about an answer that breaks off: there must be no end in order.
func TestTLSCut(t *testing.T) {
	a := newAuthority(t)
	cert, key, _ := a.write(t.TempDir(), "shop", "shop.test")
	h := newHost(t, "web", "tls:8443")
	e := start(t, Config{Host: h})
	e.apply(secured(1, raw(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
	}), cert, key))
	c, err := tls.Dial("tcp", h.addr("tls:8443"), a.browser("", "shop.test"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, get("/"))
	if b, err := io.ReadAll(c); err == nil {
		t.Errorf("an answer that broke off ended in order: %q", b)
	}
}

// TestTLSRefusalIsHeard is about a refusal while the client is still sending.
func TestTLSRefusalIsHeard(t *testing.T) {
	a := newAuthority(t)
	cert, key, _ := a.write(t.TempDir(), "shop", "shop.test")
	h := newHost(t, "web", "tls:8443")
	e := start(t, Config{Host: h, MaxBody: 1000})
	e.apply(secured(1, app(t, func(w http.ResponseWriter, r *http.Request) {}), cert, key))
	for range 20 {
		c, err := tls.Dial("tcp", h.addr("tls:8443"), a.browser("", "shop.test"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000000\r\n\r\n")
		c.Write(make([]byte, 300_000))
		b, err := io.ReadAll(c)
		if err != nil || !strings.Contains(string(b), "413 ") || !strings.HasSuffix(string(b), "accepts\n") {
			t.Errorf("got %.100q, %v", b, err)
		}
		c.Close()
	}
}

// TestTLSAddressChanges is about an address that spoke http and is to speak https.
func TestTLSAddressChanges(t *testing.T) {
	a := newAuthority(t)
	cert, key, _ := a.write(t.TempDir(), "shop", "shop.test")
	h := newHost(t, "web")
	e := start(t, Config{Host: h})
	backend := app(t, func(w http.ResponseWriter, r *http.Request) {})
	e.apply(table1(1, backend))
	addr := h.addr("web")
	if res := send(t, addr, get("/", "Connection: close")); !strings.Contains(res, "200 OK") {
		t.Fatalf("http: %q", res)
	}
	table := table1(2, backend)
	table.Routes[0].TLS = &gapless.TLS{Listen: []string{"web"}, Cert: cert, Key: key}
	e.apply(table)
	res, err := visitor(a.browser(addr, "shop.test"), addr, true).Get("https://shop.test/")
	if err != nil || res.ProtoMajor != 2 {
		t.Fatalf("https: %v %v", res, err)
	}
	e.apply(table1(3, backend))
	if res := send(t, addr, get("/", "Connection: close")); !strings.Contains(res, "200 OK") {
		t.Errorf("http again: %q", res)
	}
}

// TestTLSDrainLosesNothing drains an edge again and again under requests on
// kept connections and on new ones.
func TestTLSDrainLosesNothing(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key, _ := a.write(t.TempDir(), "shop", "shop.test")
	h := newHost(t, "web", "tls:8443")
	backend := app(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Millisecond)
		io.WriteString(w, "ok")
	})
	generation := start(t, Config{Host: h, Generation: 1})
	generation.apply(secured(1, backend, cert, key))
	addr := h.addr("tls:8443")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var served, lost atomic.Int64
	for k := range 6 {
		wg.Go(func() {
			for {
				c, err := tls.Dial("tcp", addr, a.browser(addr, "shop.test"))
				if err != nil {
					t.Errorf("connect: %v", err)
					lost.Add(1)
					return
				}
				r := bufio.NewReader(c)
				for n := 0; ; n++ {
					select {
					case <-stop:
						c.Close()
						return
					default:
					}
					io.WriteString(c, get("/"))
					res, err := http.ReadResponse(r, nil)
					if err != nil {
						t.Errorf("request %d of a connection: %v", n, err)
						lost.Add(1)
						break
					}
					io.Copy(io.Discard, res.Body)
					served.Add(1)
					if res.Close || k%2 == 0 {
						break
					}
				}
				c.Close()
			}
		})
	}
	for g := 2; g <= 4; g++ {
		before := served.Load()
		eventually(t, "there is load", func() bool { return served.Load() > before+50 || lost.Load() > 0 })
		next := start(t, Config{Host: h, Generation: g})
		if err := generation.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		generation.wait(20 * time.Second)
		generation = next
	}
	close(stop)
	wg.Wait()
	if served.Load() < 100 || lost.Load() > 0 {
		t.Errorf("served %d, lost %d", served.Load(), lost.Load())
	}
}

func TestTLSKeyModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	put(t, path, nil)
	for mode, fine := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o644: false, 0o660: false, 0o602: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := KeyExposed(path); (err == nil) != fine {
			t.Errorf("mode %o: %v", mode, err)
		} else if err != nil && !strings.Contains(hintOf(err), "chmod 600 "+path) {
			t.Errorf("mode %o: hint %q", mode, hintOf(err))
		}
	}
}
