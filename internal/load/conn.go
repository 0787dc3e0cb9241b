package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxIdle is how long a client keeps a connection unused. Servers close
	// idle connections too (Node after 5 s); a client that reuses one at that
	// very moment loses a request in any deployment.
	maxIdle = 3 * time.Second
	// maxBody bounds the bodies that are read; none of the verified ones comes near.
	maxBody = 1 << 20
	// maxHead bounds the status line and headers of an answer.
	maxHead = 16 << 10
)

// conn is one connection of an HTTP/1.1 client that never repeats anything.
type conn struct {
	net.Conn
	in     *bufio.Reader
	last   bool // the server announced that it closes after this answer
	idle   time.Time
	unhook func() bool
}

// dial opens a connection; deadline bounds it and everything done on it.
func (r *Run) dial(deadline time.Time) (*conn, error) {
	d := net.Dialer{Deadline: deadline, KeepAlive: -1}
	nc, err := d.DialContext(r.ctx, "tcp", r.address)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(deadline)
	if r.cfg.TLS != nil {
		s := &secure{tls.Client(nc, r.cfg.TLS), nc}
		if err := s.HandshakeContext(r.ctx); err != nil {
			nc.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		nc = s
	}
	return &conn{
		Conn:   nc,
		in:     bufio.NewReaderSize(nc, maxHead),
		unhook: context.AfterFunc(r.ctx, func() { nc.Close() }),
	}, nil
}

func (c *conn) Close() error {
	c.unhook()
	return c.Conn.Close()
}

// get sends a GET request and reads its answer whole.
func (c *conn) get(path, host string, lastRequest bool) (*answer, error) {
	head := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: gapless-load\r\n"
	if lastRequest {
		head += "Connection: close\r\n"
	}
	if _, err := io.WriteString(c, head+"\r\n"); err != nil {
		// What the server said before it hung up still counts.
		if a, readErr := c.answer("GET"); readErr == nil {
			return a, nil
		}
		return nil, fmt.Errorf("write request: %w", err)
	}
	return c.answer("GET")
}

// answer is a response, read whole.
type answer struct {
	status   int
	release  string
	instance string
	body     []byte
}

// answer reads one response with its whole body.
func (c *conn) answer(method string) (*answer, error) {
	resp, err := c.head(method)
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, release: resp.Header.Get("X-Release"), instance: resp.Header.Get("X-Instance")}
	if resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 {
		return a, failf(Malformed, "an answer without a length: its end cannot be verified")
	}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody)); err != nil {
		return a, fmt.Errorf("read body: %w", err)
	}
	if c.in.Buffered() > 0 {
		return a, failf(Malformed, "%d bytes after the end of the answer", c.in.Buffered())
	}
	c.last = resp.Close
	return a, nil
}

// head reads the next final status line and headers; informational answers
// are skipped, but 101 is final.
func (c *conn) head(method string) (*http.Response, error) {
	for {
		if err := c.wholeHead(); err != nil {
			return nil, fmt.Errorf("read answer: %w", err)
		}
		resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
		if err != nil {
			return nil, fmt.Errorf("read answer: %w", err)
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
}

// wholeHead waits until a whole head is buffered, so that a connection that
// ended within it is told from an answer that is not HTTP.
func (c *conn) wholeHead() error {
	for {
		b, err := c.in.Peek(c.in.Buffered() + 1)
		switch {
		case err == io.EOF && len(b) > 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		b, _ = c.in.Peek(c.in.Buffered())
		if bytes.Contains(b, []byte("\r\n\r\n")) {
			return nil
		}
	}
}

// usable reports whether an idle connection may carry another request. A
// server may close a connection that is idle, and a client that notices before
// it writes has lost nothing; r counts these.
func (c *conn) usable(r *Run) bool {
	switch {
	case c.last:
		return false
	case time.Since(c.idle) > maxIdle:
		return false
	case peerClosed(c.Conn):
		r.rec.idleClosed()
		return false
	}
	return true
}

// pool keeps idle connections; the one used last is used next.
type pool struct {
	run  *Run
	mu   sync.Mutex
	free []*conn
}

// take returns an idle connection that is still open, or dials.
func (p *pool) take(deadline time.Time) (*conn, error) {
	for {
		p.mu.Lock()
		n := len(p.free)
		if n == 0 {
			p.mu.Unlock()
			return p.run.dial(deadline)
		}
		c := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		if c.usable(p.run) {
			c.SetDeadline(deadline)
			return c, nil
		}
		c.Close()
	}
}

// put gives a connection back after a whole answer.
func (p *pool) put(c *conn) {
	if c.last || p.run.stopped() {
		c.Close()
		return
	}
	c.idle = time.Now()
	p.mu.Lock()
	p.free = append(p.free, c)
	p.mu.Unlock()
}

// close closes the idle connections.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.free {
		c.Close()
	}
	p.free = nil
}
