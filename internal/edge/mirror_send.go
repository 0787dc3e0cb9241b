package edge

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"mime"
	"strings"

	"gapless"
	"gapless/internal/edge/h1"
)

// answer is what is kept of an answer to compare it with another one.
type answer struct {
	status int
	media  string // without parameters, lower case
	coding string // Content-Encoding
	body   []byte
	skip   bool // the body is not to be compared
	large  bool // the body is larger than what is compared
	unread bool // the body cannot be read
}

// headed takes in the head of an answer.
func (a *answer) headed(head *h1.Head) {
	a.status = head.Status
	for name, value := range head.Fields {
		switch {
		case strings.EqualFold(string(name), "Content-Type"):
			a.media, _, _ = mime.ParseMediaType(string(value))
		case strings.EqualFold(string(name), "Content-Encoding"):
			a.coding = strings.ToLower(string(value))
		}
	}
}

func (a *answer) json() bool {
	return a.media == "application/json" || strings.HasSuffix(a.media, "+json")
}

// plain is the body without its encoding.
func (a *answer) plain() ([]byte, bool) {
	switch {
	case a.unread:
		return nil, false
	case a.coding == "" || a.coding == "identity":
		return a.body, true
	case a.coding != "gzip" && a.coding != "x-gzip":
		return nil, false
	}
	z, err := gzip.NewReader(bytes.NewReader(a.body))
	if err != nil {
		return nil, false
	}
	out, err := io.ReadAll(io.LimitReader(z, 2*mirrorBody+1))
	return out, err == nil && len(out) <= 2*mirrorBody
}

// sender sends copies, one after the other, on connections of its own.
type sender struct {
	*mirror
	candidate, stable line
}

// line is a connection that is kept as long as there is something to send.
type line struct {
	i *instance
	u *upstream
	r *bufio.Reader
}

// send sends what is queued, until nothing is.
func (m *mirror) send() {
	w := &sender{mirror: m}
	defer w.candidate.hangUp()
	defer w.stable.hangUp()
	for s := m.next(); s != nil; s = m.next() {
		w.carry(s)
		m.done(s)
	}
}

// carry sends one copy to the candidate, and perhaps to stable, and compares
// what they answer with what stable answered before.
func (w *sender) carry(s *shadow) {
	m := w.mirror
	i, _ := least(s.candidate, m.edge.now(), nil, wary)
	if i == nil || !i.mirrored() {
		m.mu.Lock()
		m.counts.Dropped++
		m.mu.Unlock()
		return
	}
	var again answer
	asked := make(chan bool, 1)
	if s.pair && m.pairs.Add(1) <= mostPairs {
		go func() {
			var ok bool
			again, ok = w.askStable(s)
			m.pairs.Add(-1)
			asked <- ok
		}()
	} else {
		if s.pair {
			m.pairs.Add(-1)
		}
		asked <- false
	}
	got, err := w.candidate.ask(s, s.request, i)
	w.left(i)
	paired := <-asked
	w.compare(s, got, err, again, paired)
}

// left ends what mirrored began.
func (w *sender) left(i *instance) {
	i.copies.Add(-1)
	if i.done() == 0 && i.leaving.Load() {
		w.edge.news(i.app) // somebody waits for this
	}
}

// askStable asks an instance of stable once more, another one where there is one.
func (w *sender) askStable(s *shadow) (answer, bool) {
	now := w.edge.now()
	i, _ := least(s.stable, now, []*instance{s.by}, wary)
	if i == nil {
		i, _ = least(s.stable, now, nil, wary)
	}
	if i == nil || !i.mirrored() {
		return answer{}, false
	}
	defer w.left(i)
	got, err := w.stable.ask(s, s.again, i)
	return got, err == nil
}

// mirrored is acquire for a copy: a drain waits for it, and it is no request
// that the instance was given.
func (i *instance) mirrored() bool {
	i.copies.Add(1)
	i.inFlight.Add(1)
	if i.leaving.Load() {
		i.inFlight.Add(-1)
		i.copies.Add(-1)
		return false
	}
	return true
}

// ask sends a copy and reads the answer, all within the copy's time.
func (l *line) ask(s *shadow, request []byte, i *instance) (answer, error) {
	ctx, cancel := context.WithTimeout(s.edge.ctx, s.spec.Timeout.Std())
	defer cancel()
	for {
		fresh := l.u == nil || l.i != i
		if fresh {
			l.hangUp()
			u, err := i.connect(ctx, s.edge.cfg.ConnectTimeout)
			i.dialed(s.edge.now(), err)
			if err != nil {
				return answer{}, err
			}
			l.i, l.u, l.r = i, u, bufio.NewReaderSize(u.Conn, bufferSize)
		}
		got, keep, begun, err := l.exchange(ctx, s, request)
		if !keep || l.u.bridge != nil {
			l.hangUp()
		}
		if err != nil && !fresh && !begun && ctx.Err() == nil {
			continue // a kept connection had ended
		}
		return got, err
	}
}

func (l *line) hangUp() {
	if l.u != nil {
		l.u.Close()
	}
	*l = line{}
}

// exchange is one request and its answer. keep: the connection can be used
// again; begun: a byte of the answer came.
func (l *line) exchange(ctx context.Context, s *shadow, request []byte) (a answer, keep, begun bool, err error) {
	end, _ := ctx.Deadline()
	u := l.u
	u.SetDeadline(end)
	stop := context.AfterFunc(ctx, func() { u.SetDeadline(past) }) // the edge may end before
	defer func() { keep = stop() && keep }()
	if _, err := u.Conn.Write(request); err != nil {
		return a, false, false, err
	}
	head := new(h1.Head)
	for interims, want := 0, 1; ; want = l.r.Buffered() + 1 {
		if want > maxHead {
			return a, false, begun, errLongHead
		}
		if _, err := l.r.Peek(want); err != nil {
			return a, false, begun, err
		}
		begun = true
		b, _ := l.r.Peek(l.r.Buffered())
		done, bad := head.ParseResponse(b)
		switch {
		case bad != nil:
			return a, false, begun, bad
		case !done:
			continue
		case head.Status == 101:
			return a, false, begun, errUpgraded
		case head.Interim():
			if interims++; interims > maxInterim {
				return a, false, begun, errLongHead
			}
			l.r.Discard(head.Size)
			continue
		}
		break
	}
	a.headed(head)
	a.skip = s.skip || !a.json()
	mode, length, limit := framingOf(head, s.head), head.ContentLength, head.IdleSeconds
	closes, events := head.Close, head.EventStream
	l.r.Discard(head.Size)
	if events {
		a.skip = true
		return a, false, true, nil
	}
	whole, err := l.read(&a, mode, length)
	return a, whole && !closes && limit != 0, true, err
}

var (
	errLongHead = gapless.Errorf(gapless.Invalid, "the head of the answer is too long")
	errUpgraded = gapless.Errorf(gapless.Invalid, "the answer goes over to another protocol")
)

// framingOf says how the body of an answer ends.
func framingOf(h *h1.Head, toHead bool) framing {
	switch {
	case h.Bodiless(toHead):
		return noBody
	case h.Chunked:
		return chunked
	case h.ContentLength >= 0:
		return counted
	}
	return untilClose
}

// read reads the body; whole: to its end, so that the connection can be kept.
// Of one that is too large no more is read than what shows that.
func (l *line) read(a *answer, mode framing, length int64) (whole bool, err error) {
	var chunk h1.Chunk
	keep := func(b []byte) bool {
		if len(a.body)+len(b) > mirrorBody {
			a.large, a.body = true, nil
			return false
		}
		a.body = append(a.body, b...)
		return true
	}
	switch mode {
	case noBody:
		return true, nil
	case counted:
		if length > mirrorBody {
			a.large = true
			return false, nil
		}
	}
	for {
		if mode == counted && length == 0 {
			return true, nil
		}
		if _, err := l.r.Peek(1); err != nil {
			if err == io.EOF && mode == untilClose {
				return false, nil
			}
			return false, err
		}
		b, _ := l.r.Peek(l.r.Buffered())
		n, done := len(b), false
		if mode == chunked {
			piece, k, d, bad := chunk.Next(b)
			if bad != nil {
				return false, bad
			}
			b, n, done = piece, k, d
		} else if mode == counted {
			n = int(min(int64(n), length))
			b, length = b[:n], length-int64(n)
		}
		if !keep(b) {
			return false, nil
		}
		l.r.Discard(n)
		if done {
			return true, nil
		}
	}
}

// compare counts what came of a copy. err: the candidate did not answer;
// paired: again is what stable answers to the same request now.
func (w *sender) compare(s *shadow, got answer, err error, again answer, paired bool) {
	m := w.mirror
	var candidate, stable differences
	var large, encoded bool
	if s.spec.Compare != gapless.CompareNothing {
		m.comparing <- struct{}{}
		first := newOriginal(s)
		if err != nil {
			candidate = differences{{place{"answer", failureKind(err)}, ""}}
		} else {
			candidate, large, encoded = first.differences(&got)
		}
		if paired {
			stable, _, _ = first.differences(&again)
		}
		<-m.comparing
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.counts.Failed++
	} else {
		m.counts.Answered++
	}
	if s.spec.Compare == gapless.CompareNothing {
		return
	}
	if err == nil {
		m.counts.Compared++
	}
	if large {
		m.counts.Large++
	}
	if encoded {
		m.counts.Encoded++
	}
	if paired {
		m.counts.Pairs++
		if len(stable) > 0 {
			m.counts.Noisy++
		}
	}
	if len(candidate) > 0 {
		m.counts.Different++
	}
	for _, d := range candidate {
		f := m.place(d, s)
		if f == nil {
			m.counts.More++
			continue
		}
		f.Seen++
		if paired && !stable.has(d.place) {
			f.Candidate++
		}
	}
	for _, d := range stable {
		if f := m.place(d, s); f != nil && !candidate.has(d.place) {
			f.Stable++
		}
	}
}

// place is the count of one place; nil: there are too many. m.mu is held.
func (m *mirror) place(d difference, s *shadow) *gapless.MirrorDifference {
	f := m.found[d.place]
	if f == nil && len(m.found) < mirrorPlaces {
		f = &gapless.MirrorDifference{Path: d.path, Kind: d.kind, Example: s.what + d.example}
		m.found[d.place] = f
	}
	return f
}

// failureKind is why there was no answer, in a word or two.
func failureKind(err error) string {
	switch {
	case refusedConnection(err):
		return "refused"
	case isTimeout(err):
		return "none in time"
	}
	return "broken off"
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}
