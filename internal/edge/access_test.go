package edge

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gapless"
	"gapless/internal/rotate"
)

// logging starts an edge that writes an access log of this kind about one
// backend, and returns its address and the path of the log.
func logging(t *testing.T, cfg gapless.AccessLog, backend string, host ...string) (*running, string, string) {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "access.log")
	}
	h := newHost(t, "web")
	r := start(t, Config{Host: h})
	table := table1(1, backend)
	table.Routes[0].AccessLog = &cfg
	table.Routes[0].Hosts = host
	r.apply(table)
	return r, h.addr("web"), cfg.Path
}

// written waits for n lines in a log.
func written(t *testing.T, path string, n int) []string {
	t.Helper()
	var lines []string
	eventually(t, fmt.Sprintf("%d lines in the access log", n), func() bool {
		b, _ := os.ReadFile(path)
		lines = strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		return bytes.Count(b, []byte{'\n'}) >= n
	})
	if len(lines) != n {
		t.Fatalf("%d lines, not %d:\n%s", len(lines), n, strings.Join(lines, "\n"))
	}
	return lines
}

// entry is one line of the JSON format.
type entry struct {
	Time                                  time.Time
	App, Release, Instance                string
	AnsweredBy                            string `json:"answered_by"`
	Client, Method, Host, Path, Query     string
	Status, Retries                       int
	Bytes                                 int64
	Duration, Held                        float64
	RequestID                             string `json:"request_id"`
	UserAgent                             string `json:"user_agent"`
	Protocol, Scheme, Referer, Error, End string
}

func entries(t *testing.T, lines []string) (list []entry) {
	t.Helper()
	for _, l := range lines {
		var e entry
		dec := json.NewDecoder(strings.NewReader(l))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&e); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		list = append(list, e)
	}
	return list
}

func TestAccessLogTellsEachRequest(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 100)
	backend := app(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("X-Request-Id")
		switch r.URL.Path {
		case "/big": // its head is given back before its end
			w.Header().Set("Content-Length", "1000000")
			w.Write(make([]byte, 1000000))
		case "/bad":
			w.WriteHeader(503)
		default:
			io.WriteString(w, "hello")
		}
	})
	_, addr, path := logging(t, gapless.AccessLog{}, backend, "shop.test")
	began := time.Now()
	sent := 0
	send := func(t *testing.T, addr, request string) { // lines of different shards come in any order
		send(t, addr, request)
		sent++
		written(t, path, sent)
	}
	send(t, addr, get("/a/b?secret=1", "User-Agent: test/1", "Referer: http://x/y?token=2", "Connection: close"))
	send(t, addr, get("/big", "X-Request-Id: mine", "Connection: close"))
	send(t, addr, get("/bad", "Connection: close"))
	send(t, addr, "HEAD / HTTP/1.0\r\nHost: shop.test\r\n\r\n")
	send(t, addr, "GET / HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n")
	send(t, addr, "GET / HTTP/1.1\r\nHost: shop.test\r\nbad header\r\n\r\n")
	list := entries(t, written(t, path, 6))
	for i, e := range list {
		if e.App != "shop" || e.Client != "127.0.0.1" || e.Query != "" || e.Time.Before(began.Add(-time.Second)) || e.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("line %d: %+v", i, e)
		}
	}
	first, big, bad, head, nobody, refused := list[0], list[1], list[2], list[3], list[4], list[5]
	if first.RequestID != <-seen || len(first.RequestID) != 32 {
		t.Errorf("request id %q is not what the instance was told", first.RequestID)
	}
	if first.Release != "v1" || first.Instance != "i1" || first.Method != "GET" || first.Path != "/a/b" || first.Host != "shop.test" ||
		first.Status != 200 || first.Bytes != 5 || first.Duration <= 0 || first.Protocol != "HTTP/1.1" || first.Scheme != "http" ||
		first.UserAgent != "test/1" || first.Referer != "http://x/y" || first.End != "" {
		t.Errorf("%+v", first)
	}
	if big.Path != "/big" || big.Bytes != 1000000 || big.RequestID != "mine" {
		t.Errorf("%+v", big)
	}
	if bad.Status != 503 || bad.Error != "" {
		t.Errorf("%+v", bad)
	}
	if head.Method != "HEAD" || head.Bytes != 0 || head.Protocol != "HTTP/1.0" {
		t.Errorf("%+v", head)
	}
	if nobody.Status != 404 || nobody.Error != "no_route" || nobody.Release != "" || nobody.Host != "other.test" {
		t.Errorf("%+v", nobody)
	}
	if refused.Status != 400 || refused.Error != "bad_request" || refused.Path != "" {
		t.Errorf("%+v", refused)
	}
}

// What goes wrong between edge, client and instances is in the line.
func TestAccessLogTellsHowItEnded(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	backend := raw(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switch req.URL.Path {
		case "/cut":
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		case "/wait":
			close(asked)
			io.Copy(io.Discard, r)
		}
	})
	_, addr, path := logging(t, gapless.AccessLog{}, backend)
	c := connect(t, addr)
	io.WriteString(c, get("/cut"))
	io.ReadAll(c)
	written(t, path, 1)
	c = connect(t, addr)
	io.WriteString(c, "POST /reset HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	http.ReadResponse(bufio.NewReader(c), nil)
	written(t, path, 2)
	c = connect(t, addr)
	io.WriteString(c, get("/wait"))
	<-asked
	c.Close()
	list := entries(t, written(t, path, 3))
	if e := list[0]; e.End != "broke off" || e.Status != 200 || e.Bytes != 4 {
		t.Errorf("%+v", e)
	}
	if e := list[1]; e.Status != 502 || e.Error != "reset" || e.Method != "POST" {
		t.Errorf("%+v", e)
	}
	if e := list[2]; e.End != "client gone" || e.Status != 499 || e.Duration < 0.5 {
		t.Errorf("%+v", e)
	}
}

// Nothing that a client sends makes a line of its own, or breaks one.
func TestAccessLogEscapes(t *testing.T) {
	const nasty = "a\"b\\c\xff\xc3\xa9\t\xe2\x80\xa8\xc2\x85'{}"
	request := get("/x%0a\"?q=\"", "User-Agent: "+nasty, "Referer: \"} {\"a\":\"", "Connection: close")
	for _, format := range gapless.AccessFormats() {
		_, addr, path := logging(t, gapless.AccessLog{Format: format, Query: true}, saying(t, "hello"))
		send(t, addr, request)
		line := written(t, path, 1)[0]
		for _, c := range []byte(line) {
			if c < ' ' || c == 0x7f {
				t.Errorf("%s: control character %q in %q", format, c, line)
			}
		}
		switch format {
		case gapless.AccessJSON:
			e := entries(t, []string{line})[0]
			if e.UserAgent != "a\"b\\c\ufffdé\t\ufffd\ufffd'{}" || e.Path != `/x%0a"` || e.Query != `q="` || e.Referer != `"} {"a":"` {
				t.Errorf("%+v", e)
			}
		case gapless.AccessCommon:
			const want = `^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /x%0a\\x22\?q=\\x22 HTTP/1\.1" 200 5$`
			if !regexp.MustCompile(want).MatchString(line) {
				t.Errorf("%q", line)
			}
		case gapless.AccessCombined:
			const want = ` 200 5 "\x22} {\x22a\x22:\x22" "a\x22b\x5Cc\xFF\xC3\xA9\x09\xE2\x80\xA8\xC2\x85'{}"`
			if !strings.HasSuffix(line, want) {
				t.Errorf("%q", line)
			}
		}
	}
}

func TestAccessLogCutsWhatIsLong(t *testing.T) {
	long := strings.Repeat("x", 10000)
	for _, format := range gapless.AccessFormats() {
		_, addr, path := logging(t, gapless.AccessLog{Format: format}, saying(t, "hello"))
		send(t, addr, get("/"+long, "Connection: close"))
		if line := written(t, path, 1)[0]; len(line) > loggedTarget+500 {
			t.Errorf("%s: a line of %d bytes", format, len(line))
		}
	}
}

func TestAccessLogOfHTTP2(t *testing.T) {
	_, addr, path := logging(t, gapless.AccessLog{}, saying(t, "hello"))
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	c := &http.Client{Transport: &http.Transport{Protocols: &p}}
	defer c.CloseIdleConnections()
	resp, err := c.Get("http://" + addr + "/two")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if e := entries(t, written(t, path, 1))[0]; e.Protocol != "HTTP/2.0" || e.Path != "/two" || e.Status != 200 || e.Bytes != 5 {
		t.Errorf("%+v", e)
	}
}

// A disk that is full, or stuck, costs lines, which are counted; never requests.
func TestAccessLogNeverHoldsRequestsUp(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"full": "/dev/full", "stuck": fifo} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(path); err != nil {
				t.Skip(err)
			}
			r, addr, _ := logging(t, gapless.AccessLog{Path: path}, saying(t, "hello"))
			c := connect(t, addr)
			br := bufio.NewReader(c)
			request := get("/"+strings.Repeat("x", 2000), "User-Agent: "+strings.Repeat("y", 500))
			asked := 0
			eventually(t, "lines are dropped", func() bool {
				for range 200 {
					asked++
					c.SetDeadline(time.Now().Add(10 * time.Second))
					io.WriteString(c, request)
					resp, err := http.ReadResponse(br, nil)
					if err != nil {
						t.Fatalf("request %d: %v", asked, err)
					}
					io.Copy(io.Discard, resp.Body)
				}
				logs := r.report().Logs
				return len(logs) == 1 && logs[0].App == "shop" && logs[0].Dropped > 0
			})
			c.Close()
			r.cancel()
			r.wait(10 * time.Second)
		})
	}
}

// Two writers of one file, as two generations of an edge, rotate it without
// losing a line or leaving more files than wanted.
func TestAccessLogRotates(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "access.log")
	cfg := gapless.AccessLog{Path: path, LogPolicy: gapless.LogPolicy{MaxSize: 20_000, Keep: 1000}}
	const writers, lines = 2, 5000
	var done sync.WaitGroup
	for w := range writers {
		l := newAccessLog("shop", cfg, func(err error) { t.Errorf("write: %v", err) })
		done.Go(func() {
			for k := range lines {
				s := l.open(uint32(k), int64(k))
				s.buf = fmt.Appendf(s.buf, "%d %d %s\n", w, k, strings.Repeat("x", 20))
				l.shut(s)
				if k%100 == 0 {
					eventually(t, "lines are written", func() bool { return l.lines.Load()+100 >= uint64(k) })
				}
			}
			l.close()
		})
	}
	done.Wait()
	files, err := rotate.Files(path)
	if err != nil || len(files) < 5 {
		t.Fatalf("rotated files: %v, %v", files, err)
	}
	seen := map[string]int{}
	for _, f := range append(files, path) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			seen[line]++
		}
	}
	if len(seen) != writers*lines {
		t.Errorf("%d different lines of %d", len(seen), writers*lines)
	}
	for line, n := range seen {
		if n != 1 {
			t.Fatalf("%d times %q", n, line)
		}
	}
	// Another writer with a smaller number of files to keep.
	cfg.Keep, cfg.MaxAge = 2, gapless.Duration(time.Nanosecond)
	l := newAccessLog("shop", cfg, func(err error) { t.Errorf("write: %v", err) })
	s := l.open(0, 0)
	s.buf = append(s.buf, "last\n"...)
	l.shut(s)
	l.close()
	if files, err := rotate.Files(path); err != nil || len(files) != 2 {
		t.Errorf("kept %v, %v", files, err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "last\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// A table changes the log: another format, another file, none.
func TestAccessLogFollowsTheTable(t *testing.T) {
	r, addr, path := logging(t, gapless.AccessLog{}, saying(t, "hello"))
	next := func(l *gapless.AccessLog) {
		table := r.last
		table.Version++
		table.Routes = append([]gapless.Route(nil), table.Routes...)
		table.Routes[0].AccessLog = l
		r.apply(table)
		send(t, addr, get("/", "Connection: close"))
	}
	send(t, addr, get("/", "Connection: close"))
	written(t, path, 1)
	next(&gapless.AccessLog{Path: path, Format: gapless.AccessCommon})
	lines := written(t, path, 2)
	if lines[0][0] != '{' || lines[1][0] == '{' {
		t.Errorf("formats: %q", lines)
	}
	next(&gapless.AccessLog{Path: path + "2"})
	written(t, path+"2", 1)
	next(nil)
	r.cancel()
	r.wait(10 * time.Second)
	written(t, path, 2)
	written(t, path+"2", 1)
}

// Logging a request on a kept connection allocates nothing.
func TestAccessLogsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	backend := raw(t, func(c net.Conn, br *bufio.Reader) {
		b := make([]byte, 4096)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			c.Write(answer)
		}
	})
	for _, format := range gapless.AccessFormats() {
		_, addr, _ := logging(t, gapless.AccessLog{Format: format}, backend)
		c := connect(t, addr)
		request := []byte(get("/x?y", "User-Agent: test \"", "Accept: */*"))
		b := make([]byte, 4096)
		ask := func() {
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
			for n := 0; n < len("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"); {
				k, err := c.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				n += k
			}
		}
		mallocs := func() uint64 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.Mallocs
		}
		for range 2000 {
			ask()
		}
		before := mallocs()
		for range 2000 {
			ask()
		}
		if n := mallocs() - before; n > 200 { // what else the process does
			t.Errorf("%s: %d allocations in 2000 requests", format, n)
		}
	}
}
