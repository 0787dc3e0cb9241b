package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// h2cClient sends HTTP/2 requests on one connection at a time. It uses
// http.ClientConn, which sends each request once; Transport.RoundTrip would
// repeat refused ones on another connection.
type h2cClient struct {
	run       *Run
	transport *http.Transport

	mu sync.Mutex
	cc *http.ClientConn
}

func newH2C(r *Run) *h2cClient {
	t := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return &h2cClient{run: r, transport: t}
}

// get sends one request, verifies its answer and records it.
func (h *h2cClient) get(due time.Time) {
	r := h.run
	s := Sample{Kind: H2C, Due: due, Start: time.Now()}
	before := r.allowed()
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.Timeout)
	defer cancel()
	a, err := h.do(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = &failure{class: Hang, cause: err}
	}
	r.end(r.judge(s, a, before, err, checkHello))
}

func (h *h2cClient) do(ctx context.Context) (*answer, error) {
	cc, err := h.conn(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.run.cfg.Host+"/", nil)
	if err != nil {
		cc.Release()
		return nil, err
	}
	resp, err := cc.RoundTrip(req)
	if err != nil {
		return nil, h2Class(err)
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, release: resp.Header.Get("X-Release"), instance: resp.Header.Get("X-Instance")}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody)); err != nil {
		return a, h2Class(fmt.Errorf("read body: %w", err))
	}
	return a, nil
}

// conn returns the connection with one request reserved on it. A connection
// that the server closed (GOAWAY) before this request was written is replaced.
func (h *h2cClient) conn(ctx context.Context) (*http.ClientConn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cc != nil {
		if h.cc.Reserve() == nil {
			return h.cc, nil
		}
		h.run.rec.idleClosed()
		old := h.cc
		context.AfterFunc(h.run.ctx, func() { old.Close() }) // its other requests end by themselves
	}
	cc, err := h.transport.NewClientConn(ctx, "http", h.run.address)
	if err != nil {
		h.cc = nil
		return nil, err
	}
	context.AfterFunc(h.run.ctx, func() { cc.Close() })
	if err := cc.Reserve(); err != nil {
		h.cc = nil
		return nil, failf(Closed, "new connection: %w", err)
	}
	h.cc = cc
	return cc, nil
}

// h2Class keeps the classes of connection errors; whatever else HTTP/2 says
// (RST_STREAM, GOAWAY) counts as a reset of the request.
func h2Class(err error) error {
	if c := classOf(err); c != Malformed {
		return err
	}
	return &failure{class: Reset, cause: err}
}
