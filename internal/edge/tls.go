package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gapless"
)

// TLSFiles are where an edge finds what https needs and no table says,
// because it is the installation's. All may be empty: then each process keeps
// its sessions for itself, and nobody asks an ACME server.
type TLSFiles struct {
	Certificates string // directory of those that come by ACME; see CertificateFile
	Tickets      string // file of the keys of sessions; see WriteTickets
	Challenges   string // unix socket that requests of ACME servers go to
}

// suites are those of TLS 1.2 that encrypt and authenticate in one; those of
// 1.3 all do, and cannot be chosen.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// freshEvery is how often files of certificates and tickets are looked at.
const freshEvery = time.Second

// terminator is what one edge has for https: certificates, session keys, and
// the handshakes under way.
type terminator struct {
	files TLSFiles
	log   *slog.Logger
	cfg   *tls.Config
	slots chan struct{}
	time  time.Duration // of a handshake

	state *atomic.Pointer[state]
	acme  *route // to whoever answers ACME servers; nil: nobody does

	mu      sync.Mutex
	pairs   map[pairFiles]*pair
	tickets tickets
	own     func() *tls.Certificate // stands in where there is none yet

	open                         atomic.Int64
	done, resumed, failed, sheds atomic.Uint64
}

func newTerminator(e *Edge) *terminator {
	t := &terminator{
		files: e.cfg.TLS, log: e.log, state: &e.state, pairs: map[pairFiles]*pair{},
		slots: make(chan struct{}, e.cfg.MaxHandshakes), time: e.cfg.HandshakeTime,
		own: sync.OnceValue(standIn),
	}
	t.cfg = &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: suites, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: t.certificate, DynamicRecordSizingDisabled: true,
	}
	if t.files.Challenges != "" {
		t.acme = challengeRoute(e, t.files.Challenges)
	}
	return t
}

// report is what was counted; nil where nothing speaks https and nothing did.
func (t *terminator) report() *gapless.TLSTraffic {
	r := &gapless.TLSTraffic{
		Handshakes: t.done.Load(), Resumed: t.resumed.Load(), Failed: t.failed.Load(), Shed: t.sheds.Load(), Open: int(t.open.Load()),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if *r == (gapless.TLSTraffic{}) && len(t.pairs) == 0 {
		return nil
	}
	return r
}

// keepFresh reads certificates and session keys again when their files have
// changed, until ctx ends.
func (t *terminator) keepFresh(ctx context.Context) {
	tick := time.NewTicker(freshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		t.mu.Lock()
		t.refresh()
		t.mu.Unlock()
	}
}

// refresh looks at the files; t.mu is held.
func (t *terminator) refresh() {
	if len(t.pairs) == 0 {
		return
	}
	for _, p := range t.pairs {
		p.refresh(t.log)
	}
	t.tickets.refresh(t.files.Tickets, t.cfg, t.log)
}

// secure is the TLS side of a client connection.
type secure struct {
	*tls.Conn
	wire  *wire
	raw   syscall.RawConn
	byte1 [1]byte
	until int64 // edge clock: the first request may come until then, also when this generation drains
}

// wire is the connection below TLS.
type wire struct {
	*net.TCPConn
	listener string
	pending  int // bytes read that did not bring a byte of a request yet
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.TCPConn.Read(b)
	w.pending += n
	return n, err
}

// secure makes c one that speaks https. Nothing was read from it yet.
func (c *conn) secure() {
	if c.tcp == nil {
		return // no listener of ours gives such a one
	}
	w := &wire{TCPConn: c.tcp, listener: c.listener}
	c.tls = &secure{Conn: tls.Server(w, c.edge.tls.cfg), wire: w, raw: c.reader.raw}
	c.Conn = c.tls.Conn
	c.reader = reader{conn: c.Conn}
}

// serveTLS shakes hands, then serves c.
func (c *conn) serveTLS() {
	switch {
	case c.tls == nil || !c.shake():
		c.end()
	case c.tls.ConnectionState().NegotiatedProtocol == "h2":
		c.preface(getBuffer(), 0)
		c.end()
	default:
		c.serve()
	}
}

// shake reports whether the two sides agreed. Who says nothing at all takes
// no place of those who do.
func (c *conn) shake() bool {
	t := c.edge.tls
	until := time.Now().Add(t.time)
	c.tcp.SetDeadline(until)
	if !c.tls.spoken() {
		return false
	}
	if !t.enter(time.Until(until)) {
		t.sheds.Add(1)
		return false
	}
	t.open.Add(1)
	err := c.tls.Handshake()
	t.open.Add(-1)
	<-t.slots
	if err != nil {
		t.failed.Add(1)
		c.edge.log.Debug("TLS handshake failed", "listen", c.listener, "peer", string(c.peer), "error", err)
		c.correct(err)
		return false
	}
	t.done.Add(1)
	if c.tls.ConnectionState().DidResume {
		t.resumed.Add(1)
	}
	c.tcp.SetDeadline(time.Time{})
	c.tls.wire.pending = 0
	c.tls.until = c.edge.now() + int64(c.edge.cfg.DrainGrace)
	return true
}

// enter waits until there is a place for one more handshake.
func (t *terminator) enter(d time.Duration) bool {
	select {
	case t.slots <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case t.slots <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

// correct tells somebody who speaks http that this address does not.
func (c *conn) correct(err error) {
	var bad tls.RecordHeaderError
	if !errors.As(err, &bad) || bad.Conn == nil {
		return
	}
	switch string(bad.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "PATCH", "DELET", "PRI *":
		c.tcp.SetDeadline(time.Now().Add(time.Second))
		c.tcp.Write(appendOwn(nil, httpsOnly, false, true))
		c.tls = nil
		c.lingerOn()
	}
}

// spoken waits for the first byte, and leaves it where it is.
func (s *secure) spoken() bool {
	spoke := false
	err := s.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		spoke = n > 0
		return err != syscall.EAGAIN && err != syscall.EINTR
	})
	return err == nil && spoke
}

// next waits for the first byte of a request, and takes a buffer only then.
func (s *secure) next() (*buffer, int, error) {
	n, err := s.Read(s.byte1[:])
	if n == 0 {
		if err == nil {
			err = errors.New("a TLS record without a byte")
		}
		return nil, 0, err
	}
	s.wire.pending = 0
	buf := getBuffer()
	buf[0] = s.byte1[0]
	return buf, 1, nil
}

// nowTime is for the rest of a request whose first bytes are there.
const nowTime = 2 * time.Second

// now is next for a request that has come already.
func (s *secure) now() (*buffer, int, error) {
	if s.wire.pending == 0 && look(s.raw) != speaks {
		return nil, 0, os.ErrDeadlineExceeded
	}
	s.SetReadDeadline(time.Now().Add(nowTime))
	defer s.SetReadDeadline(time.Time{})
	return s.next()
}

// What a connection does differently when it speaks https.

func (c *conn) first() (*buffer, int, error) {
	if c.tls != nil {
		return c.tls.next()
	}
	return c.reader.next()
}

func (c *conn) firstNow() (*buffer, int, error) {
	if c.tls != nil {
		return c.tls.now()
	}
	return c.reader.now()
}

// socket is what is looked at to see what the client does.
func (c *conn) socket() syscall.RawConn {
	if c.tls != nil {
		return c.tls.raw
	}
	return c.reader.raw
}

// left reports whether the client went away. Over TLS it says so before it
// does, and nobody reads that while an answer is waited for.
func (c *conn) left() bool {
	if c.tls != nil {
		return hungUp(c.tls.raw)
	}
	return look(c.reader.raw) == gone
}

// graceOver is that of the edge; but a handshake takes its time, and so does
// the first request after it.
func (c *conn) graceOver() bool {
	return c.edge.graceOver() && (c.tls == nil || c.edge.now() >= c.tls.until)
}

func (c *conn) proto() string {
	if c.tls != nil {
		return "https"
	}
	return "http"
}

// endTLS says that nothing else follows.
func (c *conn) endTLS() error {
	if c.tls == nil {
		return nil
	}
	c.tcp.SetWriteDeadline(time.Now().Add(2 * time.Second))
	return c.tls.CloseWrite()
}
