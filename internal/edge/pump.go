package edge

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"gapless/internal/edge/h1"
)

var errSlowBody = &h1.Refusal{Status: 408, Reason: "no byte of the request body arrived for too long"}

var errLargeBody = &h1.Refusal{Status: 413, Reason: "the request body is larger than this server accepts"}

// pump sends what is left of a request body while the answer is read, so
// that an instance may answer early, or talk both ways.
type pump struct {
	x       *exchange
	u       *upstream
	ended   chan struct{}
	discard atomic.Bool                // the instance takes no more: the rest is read away
	halt    atomic.Bool                // stop was called
	bad     atomic.Pointer[h1.Refusal] // the body is malformed, too large or too slow

	answering atomic.Bool // the answer has begun
	grpc      bool

	// after ended
	whole bool    // the body was read to its end
	buf   *buffer // has rest, the bytes after the body
	rest  []byte
}

func (x *exchange) startPump(u *upstream) {
	p := &pump{x: x, u: u, ended: make(chan struct{}), grpc: x.req.GRPC()}
	x.pump = p
	go p.run()
}

func (p *pump) run() {
	defer close(p.ended)
	x := p.x
	buf := getBuffer()
	total := int64(len(x.body))
	var waited time.Duration
	for {
		b := buf[:]
		if !x.req.Chunked {
			b = b[:min(int64(len(b)), x.bodyLeft)]
		}
		since := x.edge.now()
		x.watch.readDue.Store(p.due(since, waited, total))
		n, err := x.client.more(b)
		x.watch.readDue.Store(0)
		now := x.edge.now()
		if n == 0 && err != nil {
			if p.halt.Load() {
				break
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if now < p.due(since, waited, total) && !x.http2 { // whose deadline cannot be taken back
					waited += time.Duration(now - since)
					x.client.resumeMore()
					continue
				}
				p.refuse(errSlowBody)
				break
			}
			x.watch.gone.Store(true)
			p.u.SetReadDeadline(past)
			break
		}
		waited += time.Duration(now - since)
		b = b[:n]
		done := false
		if x.req.Chunked {
			k, d, bad := x.chunk.Feed(b)
			if bad != nil {
				p.refuse(bad)
				break
			}
			p.rest, b, done = b[k:], b[:k], d
		} else {
			x.bodyLeft -= int64(n)
			done = x.bodyLeft == 0
		}
		total += int64(len(b))
		if limit := x.lim.body; limit > 0 && x.chunk.Data() > limit { // another length was announced
			p.refuse(errLargeBody)
			break
		}
		if !p.discard.Load() {
			if _, err := p.u.Write(b); err != nil {
				p.discard.Store(true)
			}
		}
		if done {
			p.whole, p.buf = true, buf
			return
		}
	}
	putBuffer(buf)
}

// due is when the next bytes must have come that are waited for since then.
func (p *pump) due(since int64, waited time.Duration, total int64) int64 {
	return p.x.dueFrom(since, p.x.lim.patience(waited, total, !p.grpc && !p.answering.Load()))
}

// begins says that the answer has begun: from now on only silence counts, also
// of the client that is waited for just now.
func (p *pump) begins() {
	p.answering.Store(true)
	if due := p.x.watch.readDue.Load(); due != 0 {
		p.x.watch.readDue.CompareAndSwap(due, p.x.due(p.x.lim.bodyIdle))
	}
}

// refuse lets the reader of the answer know that there will be none.
func (p *pump) refuse(r *h1.Refusal) {
	p.bad.Store(r)
	p.u.SetReadDeadline(past)
}

// wait reports whether the pump ended within d.
func (p *pump) wait(d time.Duration) bool {
	select {
	case <-p.ended:
		return true
	default:
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.ended:
		return true
	case <-t.C:
		return false
	}
}

// stop ends the pump. The upstream is closed already, or it closes here.
func (p *pump) stop() {
	p.halt.Store(true)
	p.u.Close()
	for {
		p.x.client.stopMore()
		if p.wait(100 * time.Millisecond) { // again if the pump had just reset the deadline
			break
		}
	}
	p.x.client.resumeMore()
}
