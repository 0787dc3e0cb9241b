// Package acme keeps certificates that come from ACME servers: it orders,
// renews and writes them where edges read them, and answers the servers'
// question whether a host is ours on a unix socket that edges pass it on to.
package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"gapless"
	"gapless/internal/durable"
)

// Order is a certificate that is wanted.
type Order struct {
	Name   string // DNS name
	Email  string // of the account; "": none
	CA     string // URL of the server's directory; "": Let's Encrypt
	CARoot string // PEM file with the roots of the server's own certificate; "": the system's
}

// State is how an order stands.
type State struct {
	Busy    bool   // it is being obtained or renewed right now
	Problem string // why the last try failed; "": it did not
	Hint    string
	Since   time.Time // of the problem
	Next    time.Time // when it is looked at again
}

// Config is where a Manager has its things. All are required.
type Config struct {
	Storage string                   // directory of accounts, keys and certificates; made with mode 0700
	File    func(name string) string // where the edge reads chain and key of a name from
	Socket  string                   // that questions of servers come in by; made with mode 0600
	Log     *slog.Logger
}

// Manager keeps certificates until it is closed.
type Manager struct {
	cfg     Config
	storage *certmagic.FileStorage
	cache   *certmagic.Cache
	l       *net.UnixListener
	srv     *http.Server
	fd      int

	mu     sync.Mutex
	cares  map[Order]*care
	server map[Order]*certmagic.Config // by order without name
	work   sync.WaitGroup
	close  sync.Once
}

// care is what looks after one order.
type care struct {
	Order
	end   context.CancelFunc
	now   chan chan error // renew at once
	state State
}

// How long it waits after a try that failed. Let's Encrypt allows five failed
// answers per host and hour.
var patience = []time.Duration{10 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour}

const (
	lookEvery = 6 * time.Hour // at a certificate that is good for long
	tryTime   = 5 * time.Minute
)

// quiet is an issuer that never asks a person on a terminal.
type quiet struct{ *certmagic.ACMEIssuer }

// PreCheck implements certmagic.PreChecker.
func (q quiet) PreCheck(ctx context.Context, names []string, _ bool) error {
	return q.ACMEIssuer.PreCheck(ctx, names, false)
}

// Open begins to answer servers. Nothing is ordered before Want.
func Open(cfg Config) (*Manager, error) {
	if err := os.MkdirAll(cfg.Storage, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for certificates: %w", err)
	}
	if err := os.Remove(cfg.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("clear %s: %w", cfg.Socket, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for ACME servers: %w", err)
	}
	m := &Manager{cfg: cfg, storage: &certmagic.FileStorage{Path: cfg.Storage}, l: l, cares: map[Order]*care{}, server: map[Order]*certmagic.Config{}}
	raw, err := l.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { m.fd = int(fd) })
	}
	if err == nil {
		err = os.Chmod(cfg.Socket, 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("protect %s: %w", cfg.Socket, err), l.Close())
	}
	nop := zap.NewNop() // errors are returned, and logged here
	m.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: nop, GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) {
		return nil, errors.New("nothing is kept in memory")
	}})
	m.srv = &http.Server{Handler: http.HandlerFunc(m.answer), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Second,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug)}
	go func() { _ = m.srv.Serve(l) }()
	return m, nil
}

// Close ends everything that is under way. Only the first one does.
func (m *Manager) Close() {
	m.close.Do(func() {
		m.Want(nil)
		m.work.Wait()
		m.cache.Stop()
		_ = m.srv.Close()
	})
}

// answer tells a server what proves that the host is ours.
func (m *Manager) answer(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	issuers := make([]certmagic.Issuer, 0, len(m.server))
	for _, cfg := range m.server {
		issuers = append(issuers, cfg.Issuers...)
	}
	m.mu.Unlock()
	for _, i := range issuers {
		if q, ok := i.(quiet); ok && q.HandleHTTPChallenge(w, r) {
			return
		}
	}
	http.Error(w, "no ACME server was told to ask this", http.StatusNotFound)
}

// Want says which certificates are to be kept from now on. Others are left as
// they are.
func (m *Manager) Want(orders []Order) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted := map[Order]bool{}
	names := map[string]bool{}
	for _, o := range orders {
		if names[o.Name] {
			continue // two apps of one host: the first one's account
		}
		names[o.Name] = true
		wanted[o] = true
		if m.cares[o] != nil {
			continue
		}
		ctx, end := context.WithCancel(context.Background())
		c := &care{Order: o, end: end, now: make(chan chan error)}
		m.cares[o] = c
		m.work.Go(func() { m.keep(ctx, c) })
	}
	for o, c := range m.cares {
		if !wanted[o] {
			c.end()
			delete(m.cares, o)
		}
	}
}

// States tells how the orders stand, by name.
func (m *Manager) States() map[string]State {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]State{}
	for _, c := range m.cares {
		out[c.Name] = c.state
	}
	return out
}

// Renew gets another certificate for a name now. It is NotFound if none is
// kept for it, Unavailable if the server did not give one.
func (m *Manager) Renew(ctx context.Context, name string) error {
	m.mu.Lock()
	var c *care
	for _, o := range m.cares {
		if o.Name == name {
			c = o
		}
	}
	m.mu.Unlock()
	if c == nil {
		return gapless.Errorf(gapless.NotFound, "no certificate for %q comes by ACME", name).WithHint("see which do: gapless certs")
	}
	done := make(chan error, 1)
	select {
	case c.now <- done:
	case <-ctx.Done():
		return gapless.Errorf(gapless.Unavailable, "renew the certificate for %s: another try is under way", name).WithHint("see how it goes: gapless certs")
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keep looks after one order until ctx ends.
func (m *Manager) keep(ctx context.Context, c *care) {
	failures := 0
	var asked chan error
	for ctx.Err() == nil {
		m.note(c, func(s *State) { s.Busy = true })
		leaf, err := m.bring(ctx, c.Order, asked != nil)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		var wait time.Duration
		var hint string
		if err != nil {
			wait = patience[min(failures, len(patience)-1)]
			failures++
			hint = m.hint(c.Order, err)
			err = gapless.Errorf(gapless.Unavailable, "get a certificate for %s: %s", c.Name, plainly(err)).WithHint("%s", hint)
			if ctx.Err() == nil {
				m.cfg.Log.Error("no certificate", "host", c.Name, "error", err, "again in", wait)
			}
		} else {
			failures = 0
			wait = untilDue(leaf, time.Now())
		}
		m.note(c, func(s *State) {
			*s = State{Next: time.Now().Add(wait)}
			if err != nil {
				s.Problem, s.Hint, s.Since = err.Error(), hint, time.Now()
			}
		})
		if asked != nil {
			asked <- err
			asked = nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case asked = <-c.now:
		}
		timer.Stop()
	}
	if asked != nil {
		asked <- gapless.Errorf(gapless.Unavailable, "get a certificate for %s: it is not wanted any more", c.Name)
	}
}

func (m *Manager) note(c *care, change func(*State)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&c.state)
}

// untilDue is how long a certificate need not be looked at: two thirds of its life.
func untilDue(leaf *x509.Certificate, now time.Time) time.Duration {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return min(max(leaf.NotBefore.Add(life*2/3).Sub(now)+time.Second, life/200, time.Second), lookEvery)
}

func plainly(err error) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, err.Error())
	return s[:min(len(s), 1000)]
}

func (m *Manager) hint(o Order, err error) string {
	s := err.Error()
	switch {
	case strings.Contains(s, "rateLimited"):
		return "the server has given or refused too many lately; it is tried again by itself"
	case strings.Contains(s, "x509:") && o.CA != "":
		return "the server's own certificate is not trusted: set ca_root to the PEM file of what signs it"
	case strings.Contains(s, "urn:ietf:params:acme:error"):
		return "the server must reach http://" + o.Name + "/ on port 80 of this machine: look at DNS (A and AAAA) and firewall; then: gapless certs renew " + o.Name
	}
	return "it is tried again by itself; at once with: gapless certs renew " + o.Name
}

// bring sees to it that there is a certificate which is not due, or with
// force another one, and that the edge has it.
func (m *Manager) bring(ctx context.Context, o Order, force bool) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	cfg, err := m.configOf(o)
	if err != nil {
		return nil, err
	}
	key := cfg.Issuers[0].IssuerKey()
	_, err = m.storage.Stat(ctx, certmagic.StorageKeys.SiteCert(key, o.Name))
	if fresh := errors.Is(err, fs.ErrNotExist); fresh || err != nil {
		err = cfg.ObtainCertSync(ctx, o.Name)
	} else {
		err = cfg.RenewCertSync(ctx, o.Name, force)
	}
	leaf, werr := m.publish(ctx, key, o.Name)
	if err != nil {
		return nil, err
	}
	return leaf, werr
}

// publish writes chain and key where the edge reads them, if they are others.
func (m *Manager) publish(ctx context.Context, issuer, name string) (*x509.Certificate, error) {
	chain, err := m.storage.Load(ctx, certmagic.StorageKeys.SiteCert(issuer, name))
	if err != nil {
		return nil, err
	}
	key, err := m.storage.Load(ctx, certmagic.StorageKeys.SitePrivateKey(issuer, name))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil, gapless.Errorf(gapless.Internal, "the stored certificate of %s is none", name)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the stored certificate of %s: %w", name, err)
	}
	file, data := m.cfg.File(name), append(append(bytes.TrimSpace(chain), '\n'), key...)
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, data) {
		return leaf, nil
	}
	err = os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = durable.Write(file, data)
	}
	if err != nil {
		return nil, fmt.Errorf("write the certificate of %s: %w", name, err)
	}
	m.cfg.Log.Info("certificate", "host", name, "until", leaf.NotAfter, "serial", leaf.SerialNumber.Text(16))
	return leaf, nil
}

// configOf is how to deal with the server of an order.
func (m *Manager) configOf(o Order) (*certmagic.Config, error) {
	o.Name = ""
	m.mu.Lock()
	defer m.mu.Unlock()
	if cfg := m.server[o]; cfg != nil {
		return cfg, nil
	}
	nop := zap.NewNop()
	cfg := certmagic.New(m.cache, certmagic.Config{Storage: m.storage, Logger: nop, OCSP: certmagic.OCSPConfig{DisableStapling: true}})
	spec := certmagic.ACMEIssuer{
		CA: certmagic.LetsEncryptProductionCA, Email: o.Email, Agreed: true, DisableTLSALPNChallenge: true, Logger: nop,
		// certmagic answers servers itself, on a listener that is ours: no port is opened.
		ListenHost: "fd/" + strconv.Itoa(m.fd),
	}
	if o.CA != "" {
		spec.CA, spec.TestCA = o.CA, o.CA
	}
	if o.CARoot != "" {
		roots, err := os.ReadFile(o.CARoot)
		if err != nil {
			return nil, fmt.Errorf("read ca_root: %w", err)
		}
		spec.TrustedRoots = x509.NewCertPool()
		if !spec.TrustedRoots.AppendCertsFromPEM(roots) {
			return nil, fmt.Errorf("read ca_root: %s holds no PEM certificate", o.CARoot)
		}
	}
	cfg.Issuers = []certmagic.Issuer{quiet{certmagic.NewACMEIssuer(cfg, spec)}}
	m.server[o] = cfg
	return cfg, nil
}
