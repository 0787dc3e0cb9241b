package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"gapless"
	"gapless/internal/api"
)

// networkKey is the note that says where the API is served over the network.
const networkKey = "network"

const (
	networkRetry = 5 * time.Second // after an address that was taken
	networkConns = 256             // at once

	networkConnsOfOne = 64 // of one address

	certYears = 10 // of one that we sign ourselves; it is pinned, not renewed
)

// network serves the API to callers from elsewhere.
type network struct {
	home    Home
	handler http.Handler
	log     *slog.Logger

	mu   sync.Mutex
	want api.NetworkRequest
	now  api.Network
	srv  *http.Server // nil: not served
}

// Network implements api.Service.
func (d *Daemon) Network(context.Context) (api.Network, error) {
	d.network.mu.Lock()
	defer d.network.mu.Unlock()
	return d.network.now, nil
}

// SetNetwork implements api.Service. Where the new address cannot be served,
// the old one is served on.
func (d *Daemon) SetNetwork(ctx context.Context, req api.NetworkRequest) (api.Network, error) {
	if err := checkNetwork(req); err != nil {
		return api.Network{}, err
	}
	n := d.network
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.want
	n.want = req
	err := n.open()
	if err == nil {
		err = d.store.SetNote(ctx, networkKey, req)
	}
	if err != nil {
		n.want = before
		return api.Network{}, errors.Join(err, n.reopen())
	}
	return n.now, nil
}

// CloseNetwork implements api.Service.
func (d *Daemon) CloseNetwork(ctx context.Context) error {
	d.network.mu.Lock()
	defer d.network.mu.Unlock()
	if err := d.store.SetNote(ctx, networkKey, nil); err != nil {
		return err
	}
	d.network.want = api.NetworkRequest{}
	return d.network.reopen()
}

func checkNetwork(req api.NetworkRequest) error {
	_, port, err := net.SplitHostPort(req.Listen)
	n, perr := strconv.Atoi(port)
	switch {
	case err != nil || perr != nil || n < 1 || n > 65535:
		return gapless.Errorf(gapless.Invalid, "address %q is not host:port", req.Listen).WithHint("for example 127.0.0.1:9443, or :9443 for every interface")
	case (req.Cert == "") != (req.Key == ""):
		return gapless.Errorf(gapless.Invalid, "a certificate needs its key, and a key its certificate").WithHint("give both, or none for one that gapless signs itself")
	case req.Cert != "" && !(filepath.IsAbs(req.Cert) && filepath.IsAbs(req.Key)):
		return gapless.Errorf(gapless.Invalid, "the files of certificate and key must be absolute")
	}
	return nil
}

// serveNetwork serves what was asked for in an earlier life, and tries again
// what did not work, until ctx ends.
func (d *Daemon) serveNetwork(ctx context.Context) {
	n := d.network
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.close()
	}()
	var want api.NetworkRequest
	if err := d.store.Note(ctx, networkKey, &want); err == nil {
		n.mu.Lock()
		if n.want.Listen == "" {
			n.want = want
		}
		n.mu.Unlock()
	} else if gapless.CodeOf(err) != gapless.NotFound {
		d.log.Error("read where the API is served", "err", err)
	}
	told := ""
	for {
		n.mu.Lock()
		if n.want.Listen != "" && n.srv == nil {
			if err := n.open(); err != nil {
				n.now = api.Network{Listen: n.want.Listen, Problem: err.Error()}
				if told != err.Error() {
					told = err.Error()
					d.log.Error("serve the API over the network", "err", err)
				}
			}
		}
		n.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(networkRetry):
		}
	}
}

// reopen serves what is wanted, where something is.
func (n *network) reopen() error {
	n.close()
	if n.want.Listen == "" {
		return nil
	}
	return n.open()
}

func (n *network) close() {
	if n.srv != nil {
		_ = n.srv.Close()
	}
	n.srv, n.now = nil, api.Network{}
}

// open serves what is wanted instead of what is served now.
func (n *network) open() error {
	n.close()
	own := n.want.Cert == ""
	cert, key := n.want.Cert, n.want.Key
	if own {
		var err error
		if cert, key, err = ownCert(n.home, n.want.Listen); err != nil {
			return err
		}
	}
	pair := &keyPair{cert: cert, key: key}
	first, err := pair.get(nil)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", n.want.Listen)
	if err != nil {
		return gapless.Errorf(gapless.Unavailable, "serve the API on %s: %w", n.want.Listen, err).
			WithHint("take an address of this machine that nothing else listens on")
	}
	var one http.Protocols
	one.SetHTTP1(true) // so that a limit on connections is one on requests at once
	n.srv = &http.Server{
		Protocols: &one,
		Handler:   n.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: pair.get},
		ErrorLog:  slog.NewLogLogger(n.log.Handler(), slog.LevelDebug), // strangers' handshakes
	}
	n.now = api.Network{Listen: n.want.Listen, Cert: cert, Own: own, Fingerprint: api.Fingerprint(first.Certificate[0])}
	srv := n.srv
	go func() {
		if err := srv.ServeTLS(&fewConns{Listener: ln, free: make(chan struct{}, networkConns), of: map[string]int{}}, "", ""); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("the API over the network ended", "err", err)
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.srv == srv {
				n.srv = nil // tried again
			}
		}
	}()
	return nil
}

// keyPair is a certificate that is read again when its file has changed.
type keyPair struct {
	cert, key string

	mu   sync.Mutex
	at   time.Time
	pair *tls.Certificate
}

func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	info, err := os.Stat(k.cert)
	if err == nil && info.ModTime().Equal(k.at) {
		return k.pair, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(k.cert, k.key)
	}
	switch {
	case err == nil:
		k.pair, k.at = &pair, info.ModTime()
	case k.pair == nil:
		return nil, gapless.Errorf(gapless.Invalid, "read the certificate: %w", err).WithHint("both files are PEM, and the key belongs to the certificate")
	}
	return k.pair, nil // in the middle of a renewal: the one before
}

// ownCert is the certificate that the installation signs itself, made at the
// first use; its key is 0600.
func ownCert(home Home, listen string) (cert, key string, err error) {
	dir := home.path("tls")
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := tls.LoadX509KeyPair(cert, key); err == nil {
		return cert, key, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", "", gapless.Errorf(gapless.Invalid, "read the certificate in %s: %w", dir, err).WithHint("remove both files to get another one")
	}
	certPEM, keyPEM, err := selfSigned(listen, time.Now())
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(key, keyPEM, 0o600)
	}
	if err == nil {
		err = os.WriteFile(cert, certPEM, 0o644)
	}
	if err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	return cert, key, nil
}

// selfSigned makes a certificate for the names that this machine may be
// reached by.
func selfSigned(listen string, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "gapless"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(certYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if name, err := os.Hostname(); err == nil && name != "" && name != "localhost" {
		t.DNSNames = append(t.DNSNames, name)
	}
	host, _, _ := net.SplitHostPort(listen) // checked before
	if ip := net.ParseIP(host); ip != nil {
		t.IPAddresses = append(t.IPAddresses, ip)
	} else if host != "" {
		t.DNSNames = append(t.DNSNames, host)
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() {
				t.IPAddresses = append(t.IPAddresses, n.IP)
			}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}

// fewConns accepts only so many connections at once; the others wait in the
// kernel's queue, and those of an address that has too many are closed.
type fewConns struct {
	net.Listener
	free chan struct{}

	mu sync.Mutex
	of map[string]int // by address
}

func (l *fewConns) Accept() (net.Conn, error) {
	for {
		l.free <- struct{}{}
		conn, err := l.Listener.Accept()
		if err != nil {
			<-l.free
			return nil, err
		}
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		if l.count(host, 1) <= networkConnsOfOne {
			return &oneOfFew{Conn: conn, release: sync.OnceFunc(func() { l.release(host) })}, nil
		}
		_ = conn.Close() // it has not been heard, there is nothing to lose
		l.release(host)
	}
}

// count changes how many connections an address has, and returns that.
func (l *fewConns) count(host string, by int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.of[host] + by
	if l.of[host] = n; n == 0 {
		delete(l.of, host)
	}
	return n
}

func (l *fewConns) release(host string) {
	l.count(host, -1)
	<-l.free
}

type oneOfFew struct {
	net.Conn
	release func()
}

func (c *oneOfFew) Close() error {
	defer c.release()
	return c.Conn.Close()
}
