package edge

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"gapless/internal/edge/h1"
)

// relay sends the final answer to the client: the head and n bytes after it
// are in buf, which it puts back.
func (x *exchange) relay(i *instance, u *upstream, buf *buffer, n int) outcome {
	defer func() { putBuffer(buf) }()
	a := x.frameAnswer()
	u.limit = x.idleLimit()
	first, done, bad := x.reframe(buf[x.resp.Size:n])
	if bad != nil {
		x.failure = malformedBy(bad)
		return broken
	}
	x.headed(i)
	x.watch.writeDue.Store(x.writeBy())
	err := x.client.head(x, a, first)
	x.watch.writeDue.Store(0)
	if err != nil {
		x.watch.gone.Store(true)
		return aborted
	}
	if done {
		return answered
	}
	return x.relayBody(i, u, &buf)
}

// headed counts the head of the final answer.
func (x *exchange) headed(i *instance) {
	x.status = x.resp.Status
	x.chosen.traffic.answered(i, x.status, time.Duration(x.now()-x.started)-x.held)
	x.watch.answerDue.Store(x.lastBy())
	if x.pump != nil {
		x.pump.begins()
	}
	if x.status >= 500 {
		x.book(kind5xx, i)
	} else {
		x.book("", i)
	}
}

// frameAnswer decides how the body of the answer ends, and how the client is
// told.
func (x *exchange) frameAnswer() h1.Answer {
	x.answer, x.left, x.dirty = h1.Chunk{}, 0, false
	switch {
	case x.resp.Bodiless(x.req.Head):
		x.mode = noBody
	case x.resp.Chunked:
		x.mode = chunked
	case x.resp.ContentLength >= 0:
		x.mode, x.left = counted, x.resp.ContentLength
	default:
		x.mode = untilClose
	}
	x.close = x.close || x.edge.draining.Load()
	a := h1.Answer{Unchunk: x.plain && x.mode == chunked, Chunk: !x.plain && x.mode == untilClose}
	switch {
	case x.plain && (x.mode == chunked || x.mode == untilClose):
		x.close = true // HTTP/1.0 knows no other end of such a body
	case !x.bodyDone && (x.resp.Close || x.req.Expect && !x.continued):
		x.close = true // the rest of the request may never come, or never be read
	}
	a.Close = x.close
	a.KeepAlive = x.req.HTTP10 && !x.close
	a.Lines = x.lines()
	return a
}

// idleLimit is how long the connection of the answer may be kept idle.
func (x *exchange) idleLimit() time.Duration {
	limit := x.edge.cfg.UpstreamIdle
	if s := x.resp.IdleSeconds; s >= 0 {
		limit = min(limit, time.Duration(s)*time.Second-time.Second)
	}
	return limit
}

// deliver writes bytes of the body to the client.
func (x *exchange) deliver(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	x.watch.writeDue.Store(x.writeBy())
	err := x.client.write(out)
	x.watch.writeDue.Store(0)
	if err != nil {
		x.watch.gone.Store(true)
	}
	return err
}

// reframe turns bytes of the answer into what the client is sent, in place,
// and counts them.
func (x *exchange) reframe(data []byte) (out []byte, done bool, bad *h1.Refusal) {
	out, done, bad = x.framed(data)
	x.access.bytes += int64(len(out))
	return out, done, bad
}

func (x *exchange) framed(data []byte) (out []byte, done bool, bad *h1.Refusal) {
	if x.shadow != nil {
		x.shadow.take(x, data)
	}
	switch x.mode {
	case noBody:
		x.dirty = len(data) > 0
		return nil, true, nil
	case counted:
		if int64(len(data)) > x.left {
			data = data[:x.left]
			x.dirty = true // more than announced: never use this connection again
		}
		x.left -= int64(len(data))
		return data, x.left == 0, nil
	case chunked:
		if x.plain {
			out = data[:0]
			for len(data) > 0 && !done {
				var piece []byte
				var n int
				if piece, n, done, bad = x.answer.Next(data); bad != nil {
					return nil, false, bad
				}
				out = append(out, piece...)
				data = data[n:]
			}
			x.dirty = len(data) > 0
			return out, done, nil
		}
		n, done, bad := x.answer.Feed(data)
		x.dirty = n < len(data)
		return data[:n], done, bad
	}
	if x.plain {
		return data, false, nil
	}
	return h1.AppendChunk(nil, data), false, nil
}

// relayBody sends what is left of the body. buf is the buffer in use.
func (x *exchange) relayBody(i *instance, u *upstream, buf **buffer) outcome {
	events := x.watchEvents(i, u)
	if events != nil {
		defer i.remove(&events.stream)
	}
	x.slim()
	for {
		if x.mode == counted && x.left >= spliceFrom {
			if o, done := x.splice(i, u); done {
				return o
			}
		}
		putBuffer(*buf)
		*buf = nil
		if x.pump == nil {
			x.watch.waiting.Store(x.edge.now())
		}
		b, n, err := u.reader.next()
		x.watch.waiting.Store(0)
		if err != nil {
			if o, over := x.brokeOff(i, u, err, events); over {
				return o
			}
			continue
		}
		*buf = b
		out, done, bad := x.reframe(b[:n])
		if bad != nil {
			x.failure = malformedBy(bad)
			return truncated
		}
		if x.deliver(out) != nil {
			return aborted
		}
		if done {
			return answered
		}
	}
}

// brokeOff decides what an error while the body is read means. over: it is the end.
func (x *exchange) brokeOff(i *instance, u *upstream, err error, events *events) (o outcome, over bool) {
	switch {
	case x.watch.gone.Load():
		return aborted, true
	case x.faulty() && x.pump.bad.Load() != errSlowBody: // who is slow may still listen
		return faulted, true
	case errors.Is(err, os.ErrDeadlineExceeded):
		if events != nil && events.ending.Load() {
			return x.endEvents(u), true
		}
		if x.late() {
			x.failure = timeoutOf()
			return truncated, true
		}
		u.SetReadDeadline(time.Time{})
		return 0, false
	case err == io.EOF && x.mode == untilClose:
		if !x.plain {
			if x.client.write([]byte(h1.LastChunk)) != nil {
				return aborted, true
			}
		}
		return answered, true
	}
	if x.faulty() {
		return faulted, true
	}
	x.failure = resetBy()
	return truncated, true
}

// splice lets the kernel move a large body. done: the body, or the exchange, is over.
func (x *exchange) splice(i *instance, u *upstream) (outcome, bool) {
	for x.left > 0 {
		x.watch.writeDue.Store(x.writeBy())
		step := min(x.left, spliceStep)
		n, err, able := x.client.splice(u, step)
		x.watch.writeDue.Store(0)
		if !able {
			return 0, false
		}
		x.left -= n
		x.access.bytes += n
		if err == nil && n == step {
			continue
		}
		if x.faulty() && x.pump.bad.Load() != errSlowBody {
			return faulted, true
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !x.watch.gone.Load() {
			if x.late() {
				x.failure = timeoutOf()
				return truncated, true
			}
			u.SetReadDeadline(time.Time{})
			continue
		}
		// The kernel does not say which side failed, so the instance's is looked at.
		if err == nil || look(u.raw) == gone && !x.watch.gone.Load() {
			x.failure = resetBy()
			return truncated, true
		}
		return aborted, true
	}
	return answered, true
}

// slim gives back what a long answer does not need any more.
func (x *exchange) slim() {
	if x.pump == nil && (len(x.rest) == 0 || x.status == 101) {
		x.remember()
		if x.chosen.arm != nil {
			x.tread()
		}
		putBuffer(x.in)
		putBuffer(x.out)
		x.in, x.out = nil, nil
		x.release(streamRoom)
	}
}

// events is an answer that never ends by itself: text/event-stream.
type events struct {
	stream
	ending atomic.Bool
}

func (x *exchange) watchEvents(i *instance, u *upstream) *events {
	if !x.resp.EventStream || x.mode == counted {
		return nil
	}
	ev := &events{stream: stream{kind: eventStream}}
	ev.end = func(time.Time) {
		ev.ending.Store(true)
		u.SetReadDeadline(past)
	}
	i.add(&ev.stream)
	return ev
}

// endEvents ends an event stream as if the instance had ended it: between
// two chunks. The browser comes back by itself, to another instance.
func (x *exchange) endEvents(u *upstream) outcome {
	x.dirty = true // the instance goes on talking
	if x.plain {
		return answered
	}
	for tries := 0; x.mode == chunked && !x.answer.Boundary(); tries++ {
		// In the middle of a chunk: its end is on the way.
		u.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		b, n, err := u.reader.next()
		if err != nil || tries > 16 {
			putBuffer(b)
			return truncated
		}
		end, done := 0, false
		for end < n && !done && !x.answer.Boundary() {
			_, d, bad := x.answer.Feed(b[end : end+1])
			if bad != nil {
				putBuffer(b)
				return truncated
			}
			end, done = end+1, d
		}
		if err := x.client.write(b[:end]); err != nil || done {
			putBuffer(b)
			if err != nil {
				return aborted
			}
			return answered
		}
		putBuffer(b)
	}
	if x.client.write([]byte(h1.LastChunk)) != nil {
		return aborted
	}
	return answered
}
