package load

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// keepAliveClient sends the queued requests one after the other on one
// connection, and on a new one when the server closed it.
func (r *Run) keepAliveClient(queue <-chan time.Time) {
	p := &pool{run: r}
	defer p.close()
	for due := range queue {
		if r.stopped() {
			r.rec.late(true)
			continue
		}
		r.request(KeepAlive, due, p, "/", false, 0, checkHello)
	}
}

func (r *Run) fresh(due time.Time) {
	r.request(Fresh, due, &pool{run: r}, "/", true, 0, checkHello)
}

func (r *Run) slow(p *pool, due time.Time) {
	ms := r.cfg.Mix.SlowTime.Milliseconds()
	r.request(Slow, due, p, fmt.Sprintf("/slow?ms=%d", ms), false, r.cfg.Mix.SlowTime, func(a *answer) error {
		return checkText(a, "slow "+strconv.FormatInt(ms, 10)+" ")
	})
}

func (r *Run) path(p *pool, due time.Time) {
	name := r.cfg.Mix.PathName
	r.request(Path, due, p, name, false, 0, func(a *answer) error { return checkText(a, path.Base(name)+" ") })
}

// request sends one GET, verifies its answer and records it. It may take
// longer than Timeout by extra.
func (r *Run) request(kind Kind, due time.Time, p *pool, path string, lastRequest bool, extra time.Duration, check func(*answer) error) {
	s := Sample{Kind: kind, Due: due, Start: time.Now()}
	before := r.allowed()
	c, err := p.take(s.Start.Add(r.cfg.Timeout + extra))
	if err != nil {
		r.end(s, err)
		return
	}
	a, err := c.get(path, r.cfg.Host, lastRequest)
	if err != nil || lastRequest {
		c.Close()
	} else {
		p.put(c)
	}
	r.end(r.judge(s, a, before, err, check))
}

// judge fills s from the answer and checks it: whole, 2xx, the right body, an
// allowed release.
func (r *Run) judge(s Sample, a *answer, before map[string]bool, err error, check func(*answer) error) (Sample, error) {
	if a != nil {
		s.Status, s.Release, s.Instance, s.Bytes = a.status, a.release, a.instance, int64(len(a.body))
	}
	if err != nil {
		return s, err
	}
	if a.status < 200 || a.status > 299 {
		return s, badStatus(a.status)
	}
	if err := check(a); err != nil {
		return s, err
	}
	s.Release = a.release
	return s, r.checkRelease(a.release, before)
}

func checkHello(a *answer) error { return checkText(a, "hello ") }

// checkText wants the body to be prefix and the release that the headers
// name. Without such a header the body says which release it was.
func checkText(a *answer, prefix string) error {
	release, ok := strings.CutPrefix(strings.TrimSuffix(string(a.body), "\n"), prefix)
	if !ok || release == "" || (a.release != "" && a.release != release) {
		return failf(WrongBody, "body %.80q of release %q, want %q and the release", a.body, a.release, prefix)
	}
	a.release = release
	return nil
}

// upload posts a body over UploadTime, every second one chunked, and wants
// its length and SHA-256 back.
func (r *Run) upload(p *pool, due time.Time) {
	s := Sample{Kind: Upload, Due: due, Start: time.Now()}
	before := r.allowed()
	c, err := p.take(s.Start.Add(r.cfg.Timeout + r.cfg.Mix.UploadTime))
	if err != nil {
		r.end(s, err)
		return
	}
	body, want := r.uploadBody()
	a, sent, err := r.post(c, body)
	if err != nil || sent < len(body) {
		c.Close()
	} else {
		p.put(c)
	}
	s, err = r.judge(s, a, before, err, func(a *answer) error {
		if got := strings.TrimSuffix(string(a.body), "\n"); got != want {
			return failf(WrongBody, "upload answered %.120q, want %q", got, want)
		}
		return nil
	})
	s.Bytes = int64(sent)
	r.end(s, err)
}

// post trickles body and reads the answer meanwhile: a server may answer (and
// refuse) early. It returns how much of the body was sent.
func (r *Run) post(c *conn, body []byte) (*answer, int, error) {
	type result struct {
		a   *answer
		err error
	}
	answered := make(chan result, 1)
	go func() {
		a, err := c.answer(http.MethodPost)
		answered <- result{a, err}
	}()

	chunked := body[0]&1 == 1
	framing := "Content-Length: " + strconv.Itoa(len(body))
	if chunked {
		framing = "Transfer-Encoding: chunked"
	}
	_, err := io.WriteString(c, "POST /upload HTTP/1.1\r\nHost: "+r.cfg.Host+
		"\r\nUser-Agent: gapless-load\r\nContent-Type: application/octet-stream\r\n"+framing+"\r\n\r\n")

	const pieces = 16
	piece := max(1, (len(body)+pieces-1)/pieces)
	sent := 0
	for err == nil && sent < len(body) {
		next := body[sent:min(sent+piece, len(body))]
		if chunked {
			_, err = fmt.Fprintf(c, "%x\r\n%s\r\n", len(next), next)
		} else {
			_, err = c.Write(next)
		}
		if err != nil {
			break
		}
		if sent += len(next); sent == len(body) {
			break
		}
		select {
		case res := <-answered: // before the body was out: final, whatever it says
			if res.err == nil && res.a.status < 300 {
				res.err = failf(WrongBody, "answered %d after %d of %d bytes", res.a.status, sent, len(body))
			}
			return res.a, sent, res.err
		case <-time.After(r.cfg.Mix.UploadTime / pieces):
		}
	}
	if err == nil && chunked {
		_, err = io.WriteString(c, "0\r\n\r\n")
	}
	res := <-answered // its deadline bounds it
	if err != nil && res.err != nil {
		return res.a, sent, fmt.Errorf("write body: %w", err)
	}
	return res.a, sent, res.err
}

// newBlob makes the random bytes that uploads consist of.
func newBlob(size int) []byte {
	b := make([]byte, max(size, 16))
	rng := rand.New(rand.NewPCG(1, 2))
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return b
}

// uploadBody returns a body that no other upload has, and the answer that
// proves it arrived.
func (r *Run) uploadBody() ([]byte, string) {
	body := append([]byte(nil), r.blob...)
	binary.LittleEndian.PutUint64(body, r.rec.uploads.Add(1))
	sum := sha256.Sum256(body)
	return body, fmt.Sprintf("%d %s", len(body), hex.EncodeToString(sum[:]))
}
