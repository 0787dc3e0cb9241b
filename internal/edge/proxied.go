package edge

import (
	"net"
	"net/netip"
	"strconv"
	"time"

	"gapless/internal/edge/h1"
)

// proxied reports whether a connection from a begins with a PROXY protocol
// header.
func (t *terms) proxied(a netip.Addr) bool {
	if len(t.proxies) == 0 {
		return false // the common case
	}
	for _, p := range t.proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// maxProxyTime is how long a proxy has for its header: it is the first thing
// it sends.
const maxProxyTime = 5 * time.Second

// serveProxied serves a connection of a listed proxy: its header first, then
// whatever the address speaks. Until the header is here the connection counts,
// but for no address.
func (e *Edge) serveProxied(nc net.Conn, l *listener, pass pass) {
	c := e.newConn(nc, l.addr)
	c.gate, c.pass = pass.gate, pass
	o := &opening{nc} // until the client is known, the clock has nothing to do with c
	e.watchOver(o)
	nc.SetReadDeadline(time.Now().Add(min(maxProxyTime, pass.gate.headTime())))
	said, err := h1.ReadProxy(nc)
	nc.SetReadDeadline(time.Time{})
	e.forget(o)
	if err != nil {
		e.log.Debug("connection refused", "listen", l.addr, "peer", string(c.peer), "error", err)
		c.end()
		return
	}
	if said.From.IsValid() {
		c.addr = said.From.Addr()
		c.peer, c.trusted = c.addr.AppendTo(nil), c.addr.IsLoopback()
		c.local, c.port = said.To.String(), strconv.Itoa(int(said.To.Port()))
		e.dismiss(pass)
		pass, o := e.admit(pass.gate, c.addr)
		if c.pass = pass; o.status != 0 {
			if !l.tls {
				nc.Write(appendOwn(nil, o, false, true))
				c.lingerOn()
			}
			c.end()
			return
		}
	}
	if l.tls {
		c.secure()
		e.watchOver(c)
		c.serveTLS()
		return
	}
	e.watchOver(c)
	c.serve()
}

// opening is a connection that has not said yet for whom it speaks.
type opening struct{ net.Conn }

func (o *opening) check(int64, bool) {} // it has a deadline
func (o *opening) cut()              { o.Close() }
