package real

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/load"
	"gapless/test/rig"
)

// acmeServer is a real ACME server that the test runs.
type acmeServer struct {
	directory string         // its URL
	root      string         // file with the root of its own certificate
	pool      *x509.CertPool // whom to believe the certificates that it gives
	dns       *challtestsrv.ChallSrv
}

// pebble runs one that asks on a port by http and on another one by TLS, for
// names that all lead to this machine, but for what dns is told.
func pebble(t *testing.T, httpPort, tlsPort string) acmeServer {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_AUTHZREUSE", "0") // it asks every time
	names := rig.FreeAddress(t)
	quiet := log.New(io.Discard, "", 0)
	dns, err := challtestsrv.New(challtestsrv.Config{DNSAddrs: []string{names}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	dns.SetDefaultDNSIPv4("127.0.0.1")
	dns.SetDefaultDNSIPv6("")
	go dns.Run()
	t.Cleanup(dns.Shutdown)
	plain, err1 := strconv.Atoi(httpPort)
	secure, err2 := strconv.Atoi(tlsPort)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	store := db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default", ValidityPeriod: 7776000}})
	front := wfe.New(quiet, store, va.New(quiet, plain, secure, true, names, store), authority, []string{"pebble.test"}, true, false, 1, 1)
	srv := httptest.NewTLSServer(front.Handler())
	t.Cleanup(srv.Close)
	root := filepath.Join(t.TempDir(), "acme-root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority.GetRootCert(0).Cert)
	return acmeServer{srv.URL + wfe.DirectoryPath, root, pool, dns}
}

// TestTLSByACME is the life of a certificate: ordered, waited for, renewed
// under load, kept over a deploy and an upgrade that resumes sessions.
func TestTLSByACME(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	https := rig.FreeAddress(t)
	_, port, err := net.SplitHostPort(r.Address)
	if err != nil {
		t.Fatal(err)
	}
	server := pebble(t, port, "1")
	pool := server.pool
	configure(r, "shop", 2, fmt.Sprintf("host: shop.test\ntls: { ca: %q, ca_root: %q, listen: %q, hsts: 1h }\n", server.directory, server.root, https))
	r.Rollout(0, "up")

	certificate := func() api.Certificate {
		t.Helper()
		list, err := r.Client().Certificates(context.Background())
		if err != nil || len(list) != 1 {
			t.Fatalf("certificates: %v, %v", list, err)
		}
		return list[0]
	}
	rig.Eventually(t, 60*time.Second, "a certificate comes", func() bool {
		c := certificate()
		if c.State == api.CertProblem {
			t.Fatalf("no certificate: %s", c.Problem)
		}
		return c.State == api.CertValid
	})
	cfg := &tls.Config{RootCAs: pool, ServerName: "shop.test"}
	visit := func() (serial string, resumed bool) {
		c, err := tls.Dial("tcp", https, cfg)
		if err != nil {
			return "", false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		req, _ := http.NewRequest("GET", "https://shop.test/", nil)
		req.Close = true
		if req.Write(c) != nil {
			return "", false
		}
		b, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("answer: %v", err)
		}
		if !strings.HasPrefix(string(b), "HTTP/1.1 200") || !strings.Contains(string(b), "Strict-Transport-Security: max-age=3600\r\n") {
			t.Errorf("answer: %.400q", b)
		}
		s := c.ConnectionState()
		return s.PeerCertificates[0].SerialNumber.Text(16), s.DidResume
	}
	first := certificate().Serial
	rig.Eventually(t, 10*time.Second, "it is served", func() bool { s, _ := visit(); return s == first })
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, _ := http.NewRequest("GET", "http://"+r.Address+"/a?b=c", nil)
	req.Host = "shop.test"
	_, tlsPort, _ := net.SplitHostPort(https)
	if res, err := client.Do(req); err != nil || res.StatusCode != 308 || res.Header.Get("Location") != "https://shop.test:"+tlsPort+"/a?b=c" {
		t.Errorf("redirect: %v, %v", res, err)
	}
	key := filepath.Join(r.Home, "certs", "live", "shop.test.pem")
	for _, path := range []string{key, filepath.Join(r.Home, "certs", "tickets")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if out := r.Must(0, "status").Stdout; !strings.Contains(out, "certificate shop.test: valid until") || !strings.Contains(out, "https://shop.test:"+tlsPort+"/") {
		t.Errorf("status:\n%s", out)
	}

	run := r.LoadAs(load.Config{URL: "https://" + https, Host: "shop.test", TLS: &tls.Config{RootCAs: pool, ServerName: "shop.test"},
		Mix: load.Mix{KeepAlive: 40, KeepAliveClients: 6, Fresh: 20, Slow: 3, SlowTime: time.Second, Upload: 3, UploadTime: time.Second, WebSockets: 4}}, "v1")
	renewed := r.Must(0, "certs", "renew", "shop.test", "--json")
	var cert api.Certificate
	if err := json.Unmarshal([]byte(renewed.Stdout), &cert); err != nil || cert.Serial == "" || cert.Serial == first {
		t.Errorf("certs renew --json: %v\n%s", err, renewed.Stdout)
	}
	cfg.ClientSessionCache = nil // a resumed session shows the certificate of its first handshake
	rig.Eventually(t, 10*time.Second, "the renewed one is served", func() bool { s, _ := visit(); return s == cert.Serial })

	r.Write("VERSION", "2")
	r.Allow("v1", "v2")
	if deploy := r.Rollout(0, "deploy"); deploy.Outcome != gapless.Promoted {
		t.Errorf("deploy: %+v", deploy)
	}
	report := run.Stop()
	if bad := lost(run); len(bad) > 0 {
		t.Errorf("%d requests lost:", len(bad))
		tell(t, bad)
	}
	if report.Releases["v1"] == 0 || report.Releases["v2"] == 0 {
		t.Errorf("answers by release: %v", report.Releases)
	}
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	visit()
	rig.Kill(t, r.Proc("edge").PID)
	rig.Eventually(t, 20*time.Second, "a session goes on with the next generation of the edge", func() bool { _, resumed := visit(); return resumed })
}

// TestTLSFiles swaps the files of a certificate under load, and shows what is
// refused before anything is made.
func TestTLSFiles(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	https, dir := rig.FreeAddress(t), t.TempDir()
	cert, key := filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
	pool, write := signer(t, cert, key)
	write(1, "shop.test")
	configure(r, "shop", 1, fmt.Sprintf("host: shop.test\ntls: { cert: %q, key: %q, listen: %q }\n", cert, key, https))

	refused := func(what, hint string) {
		t.Helper()
		for _, args := range [][]string{{"config", "check"}, {"up"}} {
			res := r.Run(args...)
			if res.Code != 2 || !strings.Contains(res.Stderr, what) || !strings.Contains(res.Stderr, hint) {
				t.Errorf("%s: exit %d, not refused for %q with %q:\n%s", args, res.Code, what, hint, res.Stderr)
			}
		}
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("has mode 0644", "chmod 600 "+key)
	write(2, "other.test")
	refused("is not for shop.test but for other.test", "hosts")
	good, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("use certificate "+cert, "PEM")

	write(3, "shop.test")
	if err := os.WriteFile(key, good, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("private key does not match public key", "the key is the leaf's")
	write(4, "shop.test", time.Now().Add(-time.Minute))
	refused("ended on", "renew it first")

	first := write(5, "shop.test")
	r.Must(0, "config", "check")
	r.Rollout(0, "up")
	serial := func() string {
		c, err := tls.Dial("tcp", https, &tls.Config{RootCAs: pool, ServerName: "shop.test"})
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
	}
	if got := serial(); got != first {
		t.Fatalf("serial %s is served, not %s", got, first)
	}
	run := r.LoadAs(load.Config{URL: "https://" + https, Host: "shop.test", TLS: &tls.Config{RootCAs: pool, ServerName: "shop.test"},
		Mix: load.Mix{KeepAlive: 40, KeepAliveClients: 6, Fresh: 40}}, "v1")
	for n := int64(6); n < 9; n++ {
		next := write(n, "shop.test")
		rig.Eventually(t, 10*time.Second, "the new certificate is served", func() bool { return serial() == next })
	}
	run.Stop()
	if bad := lost(run); len(bad) > 0 {
		t.Errorf("%d requests lost:", len(bad))
		tell(t, bad)
	}
}

// signer makes a root, and returns how to write certificates of it.
func signer(t *testing.T, cert, key string) (*x509.CertPool, func(serial int64, name string, ends ...time.Time) string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	put := func(path string, block *pem.Block) {
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	return pool, func(serial int64, name string, ends ...time.Time) string {
		t.Helper()
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		spec := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0), DNSNames: []string{name}}
		for _, end := range ends {
			spec.NotAfter = end
		}
		der, err := x509.CreateCertificate(rand.Reader, spec, root, &k.PublicKey, secret)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		put(cert, &pem.Block{Type: "CERTIFICATE", Bytes: der})
		put(key, &pem.Block{Type: "PRIVATE KEY", Bytes: raw})
		return big.NewInt(serial).Text(16)
	}
}
