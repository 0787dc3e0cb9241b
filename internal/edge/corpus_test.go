package edge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gapless"
)

// The corpus: shapes of requests and answers that two servers may read
// differently. Each is sent to both drivers whole, byte by byte, in two parts
// divided at every offset, and pipelined behind and before a good request; what
// the instance received and what the client got is compared byte by byte.

// question is one request of the corpus.
type question struct {
	name   string
	in     string // what the client sends
	status int    // that it is refused with; 0: it is forwarded
	want   string // what the instance receives, without what the edge adds; "": in
	got    string // what the client gets; "": the plain answer
	closes bool   // the connection ends after it
	late   bool   // the refusal is about the body, of which an instance may have the begin
	lone   bool   // nothing can be put behind it
}

// reply is one answer of the corpus.
type reply struct {
	name string
	in   string // what the client sends; "": a GET
	out  string // what the instance sends
	shut bool   // and closes then
	want string // what the client gets; "": out
	bad  string // the code of the 502 that the client gets instead
	end  bool   // the client's connection ends then
	cut  bool   // and the client can see that this was not all, or there is no way to tell
}

const (
	plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	closeAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
	goodRequest = "GET /good HTTP/1.1\r\nHost: good\r\n\r\n"
	here        = "EDGE" // stands for the address of the listener
)

func (q *question) forwarded() string {
	if q.want == "" {
		return q.in
	}
	return q.want
}

func (q *question) answer() string {
	switch {
	case q.got != "":
		return q.got
	case q.closes:
		return closeAnswer
	}
	return plainAnswer
}

// strict is an instance that reads HTTP/1.1 by rules of its own, writes down
// every message, and answers each.
type strict struct {
	t       testing.TB
	mu      sync.Mutex
	whole   []string         // messages, in the order in which they were complete
	open    map[net.Conn]int // bytes of a message that is not
	parts   []string         // what connections ended with
	script  *reply           // nil: the plain answer
	divided int              // the answer is sent in two parts, divided here; below 0: byte by byte
	said    atomic.Int64     // scripts, to their end
	addr    string
}

func newStrict(t testing.TB) *strict {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &strict{t: t, open: map[net.Conn]int{}, addr: l.Addr().String()}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *strict) serve(c net.Conn) {
	defer c.Close()
	var have []byte
	told := false
	tmp := make([]byte, 32<<10)
	for {
		head, size := strictSize(have)
		if head > 0 && !told && strings.Contains(strings.ToLower(string(have[:head])), "\r\nexpect: 100-continue\r\n") {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			told = true
		}
		if size > 0 {
			told = false
			s.mu.Lock()
			s.whole = append(s.whole, string(have[:size]))
			script, divided := s.script, s.divided
			s.mu.Unlock()
			toHead := strings.HasPrefix(string(have), "HEAD ")
			have = have[size:]
			switch {
			case script != nil:
				inParts(c, script.out, divided)
				s.said.Add(1)
				if script.shut {
					s.settled(c)
					return
				}
			case toHead:
				io.WriteString(c, plainAnswer[:len(plainAnswer)-2])
			default:
				io.WriteString(c, plainAnswer)
			}
		}
		s.mu.Lock()
		s.open[c] = len(have)
		s.mu.Unlock()
		if size > 0 && len(have) > 0 {
			continue
		}
		n, err := c.Read(tmp)
		have = append(have, tmp[:n]...)
		if err != nil {
			s.settled(c)
			s.mu.Lock()
			if len(have) > 0 {
				s.parts = append(s.parts, string(have))
			}
			s.mu.Unlock()
			return
		}
	}
}

func (s *strict) settled(c net.Conn) {
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
}

// take returns what arrived since it was called last, when no message is under way.
func (s *strict) take() (whole, parts []string) {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		s.mu.Lock()
		pending := 0
		for _, n := range s.open {
			pending += n
		}
		if pending == 0 || time.Now().After(end) {
			whole, parts = s.whole, s.parts
			s.whole, s.parts = nil, nil
			s.mu.Unlock()
			return whole, parts
		}
		s.mu.Unlock()
	}
}

// strictSize returns the bytes of the head and of the whole message at the
// start of b, 0 for what is not complete. It shares nothing with the parser.
func strictSize(b []byte) (head, whole int) {
	h, _, ok := strings.Cut(string(b), "\r\n\r\n")
	if !ok {
		return 0, 0
	}
	head = len(h) + 4
	length := 0
	for _, line := range strings.Split(h, "\r\n")[1:] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		switch strings.ToLower(name) {
		case "content-length":
			fmt.Sscanf(value, "%d", &length)
		case "transfer-encoding":
			return head, strictChunks(string(b), head)
		}
	}
	if head+length > len(b) {
		return head, 0
	}
	return head, head + length
}

func strictChunks(b string, from int) int {
	for {
		eol := strings.Index(b[from:], "\r\n")
		if eol < 0 {
			return 0
		}
		var size int
		digits, _, _ := strings.Cut(b[from:from+eol], ";")
		fmt.Sscanf(digits, "%x", &size)
		from += eol + 2
		if size == 0 {
			break
		}
		if from += size + 2; from > len(b) {
			return 0
		}
	}
	for { // trailers
		eol := strings.Index(b[from:], "\r\n")
		if eol < 0 {
			return 0
		}
		from += eol + 2
		if eol == 0 {
			return from
		}
	}
}

// added are the fields that the edge puts in, with the values that it made.
var added = []*regexp.Regexp{
	regexp.MustCompile(`^X-Forwarded-For: 127\.0\.0\.1$`),
	regexp.MustCompile(`^X-Forwarded-Proto: http$`),
	regexp.MustCompile(`^X-Forwarded-Host: .+$`),
	regexp.MustCompile(`^X-Forwarded-Port: \d+$`),
	regexp.MustCompile(`^X-Request-Id: [0-9a-f]{32}$`),
	regexp.MustCompile(`^[Tt]raceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`),
	regexp.MustCompile(`^Forwarded: for=127\.0\.0\.1;.*$`),
}

// always are the fields that an instance finds exactly once in each request.
var always = []string{"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-request-id", "host"}

// natural takes out what the edge added, and says what is wrong with that.
func natural(msg, addr string) (string, error) {
	head, body, ok := strings.Cut(msg, "\r\n\r\n")
	if !ok {
		return msg, nil // the begin of a head
	}
	head = strings.ReplaceAll(head, addr, here)
	lines := strings.Split(head, "\r\n")
	count := map[string]int{}
	kept := lines[:1:1]
next:
	for _, line := range lines[1:] {
		name, _, _ := strings.Cut(line, ":")
		count[strings.ToLower(name)]++
		for _, re := range added {
			if re.MatchString(line) {
				continue next
			}
		}
		kept = append(kept, line)
	}
	var err error
	for _, name := range always {
		if count[name] != 1 {
			err = fmt.Errorf("%s %d times in %q", name, count[name], head)
		}
	}
	return strings.Join(kept, "\r\n") + "\r\n\r\n" + body, err
}

// inParts writes s in two parts, divided at the offset; 0: whole, below 0: byte by byte.
func inParts(c net.Conn, s string, at int) {
	switch {
	case at < 0:
		for k := range len(s) {
			if _, err := io.WriteString(c, s[k:k+1]); err != nil {
				return
			}
			if k&3 == 3 {
				time.Sleep(20 * time.Microsecond) // now and then others must have seen it
			}
		}
	case at == 0 || at >= len(s):
		io.WriteString(c, s)
	default:
		io.WriteString(c, s[:at])
		time.Sleep(50 * time.Microsecond)
		io.WriteString(c, s[at:])
	}
}

// offsets are where n bytes are divided: everywhere, or if they are many
// everywhere near the begin and the end and here and there between.
func offsets(n int) []int {
	out := []int{0}
	const near = 96 // bytes
	for k := 1; k < n; k++ {
		if raceEnabled && k%5 != 0 && os.Getenv("GAPLESS_TEST_ALL") == "" { // everywhere without: see Makefile
			continue
		}
		if k <= near || k >= n-near/2 || k%1021 == 0 {
			out = append(out, k)
		}
	}
	if n <= 2048 {
		out = append(out, -1)
	}
	return out
}

// stand is one listener of an edge and the instance behind it.
type stand struct {
	t      testing.TB
	addr   string
	app    *strict
	kept   net.Conn  // a connection on which all went well
	late   *question // the last one of which an instance may have got a part
	before *question // and the one before
	trials *atomic.Int64
}

// stands starts an edge of one driver with n listeners.
func stands(t testing.TB, cfg Config, n int) []*stand {
	var names []string
	for k := range n {
		names = append(names, fmt.Sprint("web", k))
	}
	h := newHost(t, names...)
	cfg.Host = h
	r := start(t, cfg)
	table := gapless.Table{Version: 1}
	var out []*stand
	trials := new(atomic.Int64)
	for k, name := range names {
		p := &stand{t: t, addr: h.addr(name), app: newStrict(t), trials: trials}
		out = append(out, p)
		table.Routes = append(table.Routes, gapless.Route{
			App: fmt.Sprint("shop", k), Listen: []string{name}, Path: "/", Stable: "v1",
			Weights: []gapless.Weight{{Release: "v1", Share: 1}},
			Targets: []gapless.Target{{Instance: "i1", Release: "v1", Address: p.app.addr}},
			Hold:    gapless.Duration(10 * time.Millisecond),
			Probe:   gapless.Health{Interval: gapless.Duration(time.Hour)},
		})
	}
	r.apply(table)
	return out
}

func (p *stand) conn() net.Conn {
	if c := p.kept; c != nil {
		p.kept = nil
		return c
	}
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Error(err)
		return nil
	}
	return c
}

// tell sends in and returns what comes back: as many bytes as wanted, or until
// the end of the connection.
func (p *stand) tell(in string, at, want int, end bool) (string, error) {
	p.trials.Add(1)
	c := p.conn()
	if c == nil {
		return "", io.ErrUnexpectedEOF
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	inParts(c, in, at)
	if end {
		b, err := io.ReadAll(c)
		c.Close()
		return string(b), err
	}
	b := make([]byte, want)
	n, err := io.ReadFull(c, b)
	if err != nil {
		c.Close()
		return string(b[:n]), err
	}
	p.kept = c
	return string(b), nil
}

func (p *stand) ask(q *question) {
	p.before = p.late
	for _, at := range offsets(len(q.in)) {
		if !p.try(q, "", "", at) {
			return
		}
	}
	for _, at := range []int{0, len(goodRequest), len(goodRequest) + len(q.in)/2, -1} {
		if at < 0 && len(q.in) > 2048 {
			break
		}
		if !p.try(q, goodRequest, "", at) || !q.lone && !p.try(q, "", goodRequest, min(at, len(q.in))) {
			return
		}
	}
	if !q.lone {
		p.try(q, goodRequest, goodRequest, 0)
	}
}

// try sends q with what is before and behind it.
func (p *stand) try(q *question, before, behind string, at int) bool {
	how := fmt.Sprintf("%s (divided at %d, %d bytes before, %d behind)", q.name, at, len(before), len(behind))
	var wantClient string
	var wantApp []string
	if before != "" {
		wantClient, wantApp = plainAnswer, []string{before}
	}
	end := q.status != 0 || q.closes
	if q.status == 0 {
		wantClient += q.answer()
		wantApp = append(wantApp, q.forwarded())
		if behind != "" && !end {
			wantClient += plainAnswer
			wantApp = append(wantApp, behind)
		}
	}
	got, err := p.tell(before+q.in+behind, at, len(wantClient), end)
	if q.closes && behind != "" && errors.Is(err, syscall.ECONNRESET) && strings.HasPrefix(wantClient, got) {
		p.app.take() // who says that nothing follows, and sends more, may be reset
		return true
	}
	if err != nil {
		p.t.Errorf("%s: the client got %q, then %v", how, short(got), err)
		p.app.take()
		return false
	}
	ok := true
	if q.status == 0 {
		if got != wantClient {
			p.t.Errorf("%s: the client got\n %q, want\n %q", how, short(got), short(wantClient))
			ok = false
		}
	} else if own, found := strings.CutPrefix(got, wantClient); !found || !refusedWith(own, q.status) {
		p.t.Errorf("%s: the client got\n %q, want a %d", how, short(got), q.status)
		ok = false
	}
	whole, parts := p.app.take()
	if q.late {
		p.late = q
	}
	if len(whole) != len(wantApp) || p.late == nil && len(parts) > 0 {
		p.t.Errorf("%s: the instance got %d messages and %d parts, want %d: %.300q %.300q", how, len(whole), len(parts), len(wantApp), whole, parts)
		return false
	}
	for k, msg := range whole {
		msg, err := natural(msg, p.addr)
		if err != nil {
			p.t.Errorf("%s: %v", how, err)
			ok = false
		}
		if msg != wantApp[k] {
			p.t.Errorf("%s: the instance got\n %q, want\n %q", how, short(msg), short(wantApp[k]))
			ok = false
		}
	}
	for _, part := range parts {
		// It may have been noticed only now.
		if part, _ = natural(part, p.addr); !strings.HasPrefix(p.late.in, part) && strings.Contains(part, "\r\n\r\n") && (p.before == nil || !strings.HasPrefix(p.before.in, part)) {
			p.t.Errorf("%s: the instance got a part\n %q of\n %q", how, short(part), short(q.in))
			ok = false
		}
	}
	return ok
}

// refusedWith reports whether s is one whole answer of the edge and nothing else.
func refusedWith(s string, status int) bool {
	if !strings.HasPrefix(s, fmt.Sprintf("HTTP/1.1 %d ", status)) || !strings.Contains(s, "\r\nX-Gapless-Error: ") || !strings.Contains(s, "\r\nConnection: close\r\n") {
		return false
	}
	_, size := strictSize([]byte(s))
	return size == len(s)
}

func short(s string) string {
	if len(s) > 700 {
		return s[:350] + " … " + s[len(s)-350:]
	}
	return s
}

func (p *stand) answered(a *reply) {
	in := a.in
	if in == "" {
		in = goodRequest
	}
	want := a.want
	if want == "" {
		want = a.out
	}
	for _, at := range offsets(len(a.out)) {
		p.app.mu.Lock()
		p.app.script, p.app.divided = a, at
		p.app.mu.Unlock()
		end := a.end || a.cut
		var got string
		var err error
		if a.bad != "" {
			got, err = p.lose(in)
			if err != nil || !strings.HasPrefix(got, "HTTP/1.1 502 ") || !strings.Contains(got, "\r\nX-Gapless-Error: "+a.bad+"\r\n") {
				p.t.Errorf("%s (divided at %d): the client got %q, %v, want a 502 with %s", a.name, at, short(got), err, a.bad)
				return
			}
			p.app.take()
			continue
		}
		said := p.app.said.Load()
		got, err = p.tell(in, 0, len(want), end)
		switch {
		case a.cut && (strings.HasPrefix(want, got) || strings.HasPrefix(got, want)):
			// A reset may take what was sent before with it; what came must be
			// of the answer, and not look whole.
			if _, size := strictSize([]byte(got)); size > 0 && size <= len(got) && err == nil && strings.Contains(want, "\r\n\r\n") {
				p.t.Errorf("%s (divided at %d): the client got a whole answer: %q", a.name, at, short(got))
				return
			}
		case err != nil:
			p.t.Errorf("%s (divided at %d): the client got %q, then %v", a.name, at, short(got), err)
			return
		case got != want:
			p.t.Errorf("%s (divided at %d): the client got\n %q, want\n %q", a.name, at, short(got), short(want))
			return
		}
		p.app.take()
		if !end { // what follows is not mixed up with what was left behind
			eventually(p.t, "the instance has said all", func() bool { return p.app.said.Load() > said })
			p.app.mu.Lock()
			p.app.script = nil
			p.app.mu.Unlock()
			if got, err := p.tell(goodRequest, 0, len(plainAnswer), false); err != nil || got != plainAnswer {
				p.t.Errorf("%s (divided at %d): the request after it got %q, %v", a.name, at, short(got), err)
				return
			}
			p.app.take()
		}
	}
}

// lose sends in on a connection of its own and reads one answer.
func (p *stand) lose(in string) (string, error) {
	p.trials.Add(1)
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, in)
	var have []byte
	tmp := make([]byte, 4096)
	for {
		n, err := c.Read(tmp)
		have = append(have, tmp[:n]...)
		if _, size := strictSize(have); size > 0 || err != nil {
			return string(have), err
		}
	}
}

// corpusDrivers are the two ways in which an edge serves HTTP/1.1.
var corpusDrivers = []struct {
	name  string
	loops int
}{{"goroutines", -1}, {"loop", 1}}

func TestCorpus(t *testing.T) {
	questions, replies := questions(), replies()
	if n := len(questions) + len(replies); n < 300 {
		t.Fatalf("only %d cases", n)
	}
	names := map[string]bool{}
	for _, q := range questions {
		if names[q.name] {
			t.Errorf("two cases are called %q", q.name)
		}
		names[q.name] = true
	}
	for _, d := range corpusDrivers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			var todo []func(*stand)
			for k := range questions {
				todo = append(todo, func(p *stand) { p.ask(&questions[k]) })
			}
			for k := range replies {
				todo = append(todo, func(p *stand) { p.answered(&replies[k]) })
			}
			var next atomic.Int64
			var wg sync.WaitGroup
			list := stands(t, Config{Loops: d.loops}, 8)
			for _, p := range list {
				wg.Go(func() {
					for {
						k := int(next.Add(1)) - 1
						if k >= len(todo) {
							return
						}
						p.app.mu.Lock()
						p.app.script = nil
						p.app.mu.Unlock()
						todo[k](p)
						if p.kept != nil {
							p.kept.Close()
							p.kept = nil
						}
						p.app.take()
					}
				})
			}
			wg.Wait()
			t.Logf("%d questions and %d replies in %d trials", len(questions), len(replies), list[0].trials.Load())
		})
	}
}
