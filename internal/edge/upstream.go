package edge

import (
	"context"
	"net"
	"sync"
	"time"
)

// past wakes whoever reads from or writes to a connection when it is set as
// deadline.
var past = time.Unix(1, 0)

// upstream is one connection to an instance.
type upstream struct {
	net.Conn
	reader
	pooled bool          // it has served an exchange before
	since  int64         // edge clock when it became idle
	limit  time.Duration // how long it may stay idle
	bridge *bridge       // it is one HTTP/2 stream, for one exchange; nil: it is a connection
}

// pool keeps the idle connections of one instance, the last used on top.
type pool struct {
	mu     sync.Mutex
	idle   []*upstream
	closed bool
}

func (p *pool) get(now int64) *upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	u := p.idle[n-1]
	if now-u.since > int64(u.limit) {
		return nil // the clock will close it, and those below
	}
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	u.pooled = true
	return u
}

// put keeps u, or closes it if the instance is leaving.
func (p *pool) put(u *upstream, now int64) {
	p.mu.Lock()
	if p.closed || u.bridge != nil {
		p.mu.Unlock()
		u.Close()
		return
	}
	u.since = now
	p.idle = append(p.idle, u)
	p.mu.Unlock()
}

// shut closes what is idle, and from now on what is put; open undoes it.
func (p *pool) shut() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, u := range idle {
		u.Close()
	}
}

func (p *pool) open() {
	p.mu.Lock()
	p.closed = false
	p.mu.Unlock()
}

// expire closes the connections that have been idle for too long.
func (p *pool) expire(now int64) {
	p.mu.Lock()
	var old []*upstream
	kept := p.idle[:0]
	for _, u := range p.idle {
		if now-u.since > int64(u.limit) {
			old = append(old, u)
		} else {
			kept = append(kept, u)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	p.mu.Unlock()
	for _, u := range old {
		u.Close()
	}
}

func dial(ctx context.Context, network, address string, timeout time.Duration) (*upstream, error) {
	d := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	u := &upstream{Conn: c}
	u.reader.init(c)
	return u, nil
}
