package edge

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"gapless"
)

// reach is how an instance is reached, and what of it is kept: the
// connections of HTTP/2, and what TLS has to check.
type reaching struct {
	gapless.Upstream
	links links // of HTTP/2

	mu     sync.Mutex
	spec   gapless.UpstreamTLS
	secure *tls.Config // made of spec when it is first needed
}

// plain reports whether the instance speaks HTTP/1.1 without TLS.
func (i *instance) plain() bool { return i.via.Protocol == gapless.ProtocolHTTP }

// trust takes over how certificates of the instance are checked.
func (r *reaching) trust(spec *gapless.UpstreamTLS) {
	if spec == nil {
		spec = new(gapless.UpstreamTLS)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spec != *spec {
		r.spec, r.secure = *spec, nil
	}
}

// security is what TLS checks and offers. The file of authorities is read
// when the first connection is made, and again after it could not be.
func (r *reaching) security() (*tls.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secure != nil {
		return r.secure, nil
	}
	host, _, err := net.SplitHostPort(r.Address)
	if err != nil {
		host = "localhost"
	}
	c := &tls.Config{
		ServerName: cmp.Or(r.spec.ServerName, host), InsecureSkipVerify: r.spec.Insecure,
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	if r.HTTP2() {
		c.NextProtos = []string{"h2"}
	}
	if f := r.spec.CAFile; f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("read authorities: %s has no certificate in PEM", f)
		}
	}
	r.secure = c
	return c, nil
}

// wire makes a connection on which the instance's protocol can begin.
func (r *reaching) wire(ctx context.Context, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d := net.Dialer{KeepAlive: 30 * time.Second}
	nc, err := d.DialContext(ctx, r.Network, r.Address)
	if err != nil || !r.TLS() {
		return nc, err
	}
	c, err := r.security()
	if err != nil {
		nc.Close()
		return nil, err
	}
	tc := tls.Client(nc, c)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("tls: %w", err)
	}
	if got := tc.ConnectionState().NegotiatedProtocol; r.HTTP2() && got != "h2" {
		nc.Close()
		return nil, errors.New("tls: the instance does not speak HTTP/2 (no ALPN h2)")
	}
	return tc, nil
}

// connect reaches the instance for one or more exchanges, in whatever
// protocol: what is written to the connection, and read, is HTTP/1.1.
func (i *instance) connect(ctx context.Context, timeout time.Duration) (*upstream, error) {
	switch {
	case i.plain():
		return dial(ctx, i.network, i.dial, timeout)
	case i.via.HTTP2():
		b, err := i.via.links.bridge(ctx, i.via, timeout)
		if err != nil {
			return nil, err
		}
		u := &upstream{Conn: b, bridge: b}
		u.reader.init(b)
		return u, nil
	}
	c, err := i.via.wire(ctx, timeout)
	if err != nil {
		return nil, err
	}
	u := &upstream{Conn: c}
	u.reader.init(c)
	return u, nil
}

// sight shows whether the instance has ended a kept connection: its socket,
// also where what is read from it is not what it carries.
func (u *upstream) sight() peer {
	if u.raw != nil {
		return look(u.raw)
	}
	if tc, ok := u.Conn.(*tls.Conn); ok {
		var r reader
		r.init(tc.NetConn())
		return look(r.raw)
	}
	return quiet
}
