package edge

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// echoApp behaves as an app does: it says what it got, streams, hints early
// and upgrades.
func echoApp(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Upgrade") == "echo":
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
		io.Copy(c, rw)
	case r.Method == http.MethodPost:
		sum := md5.New()
		n, _ := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d ", n)
		w.(http.Flusher).Flush()
		fmt.Fprintf(w, "%x", sum.Sum(nil))
	default:
		if r.URL.Path == "/early" {
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
		}
		w.Write(bytes.Repeat([]byte("a"), 300_000))
		w.(http.Flusher).Flush()
		time.Sleep(2 * time.Millisecond)
		io.WriteString(w, "tail")
	}
}

const nodeApp = `
const http = require('http'), crypto = require('crypto')
const s = http.createServer((q, r) => {
  if (q.url == '/early') r.writeEarlyHints({ link: '</a>; rel=preload' })
  if (q.method == 'POST') {
    const h = crypto.createHash('md5'); let n = 0
    q.on('data', d => { h.update(d); n += d.length })
    q.on('end', () => { r.write(n + ' '); r.end(h.digest('hex')) })
  } else { r.write('a'.repeat(300000)); setTimeout(() => r.end('tail'), 2) }
})
s.on('upgrade', (q, k) => { k.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n'); k.pipe(k) })
s.listen(0, '127.0.0.1', () => console.log('127.0.0.1:' + s.address().port))
`

func node(t *testing.T) string {
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	file := filepath.Join(t.TempDir(), "app.js")
	if err := os.WriteFile(file, []byte(nodeApp), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	b := make([]byte, 64)
	n, err := out.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b[:n]))
}

func TestBehavesAsTheAppItself(t *testing.T) {
	t.Parallel()
	for name, backend := range map[string]func(t *testing.T) string{
		"go":   func(t *testing.T) string { return app(t, echoApp) },
		"node": node,
	} {
		t.Run(name, func(t *testing.T) {
			_, _, addr := setup(t, Config{}, backend(t))
			checks := behaviours(t, addr, 20)
			if want := 103; checks != want {
				t.Errorf("%d checks, want %d: some did not run", checks, want)
			}
		})
	}
}

// behaviours makes five checks per round, and three more.
func behaviours(t *testing.T, addr string, rounds int) (checks int) {
	tr := &http.Transport{MaxIdleConnsPerHost: 4}
	defer tr.CloseIdleConnections()
	cl := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	ask := func(method, path string, body io.Reader, hint func()) (int, string) {
		req, err := http.NewRequest(method, "http://"+addr+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if code == 103 && h.Get("Link") == "</a>; rel=preload" {
					hint()
				}
				return nil
			},
		}))
		res, err := cl.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
			return 0, ""
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
		}
		return res.StatusCode, string(b)
	}
	check := func(ok bool, format string, args ...any) {
		checks++
		if !ok {
			t.Errorf(format, args...)
		}
	}
	for i := range rounds {
		b := make([]byte, i*50_000+1)
		for k := range b {
			b[k] = byte(rand.Uint32())
		}
		want := fmt.Sprintf("%d %x", len(b), md5.Sum(b))
		code, got := ask("POST", "/", bytes.NewReader(b), nil)
		check(code == 200 && got == want, "post %d bytes with length: %d %q", len(b), code, got)
		code, got = ask("POST", "/", io.MultiReader(bytes.NewReader(b)), nil)
		check(code == 200 && got == want, "post %d bytes in chunks: %d %q", len(b), code, got)
		code, got = ask("GET", "/", nil, nil)
		check(code == 200 && len(got) == 300_004, "get in chunks: %d, %d bytes", code, len(got))
		hinted := false
		code, got = ask("GET", "/early", nil, func() { hinted = true })
		check(code == 200 && len(got) == 300_004 && hinted, "early hints: %d, %d bytes, hinted %v", code, len(got), hinted)
		code, got = ask("HEAD", "/", nil, nil)
		check(code == 200 && got == "", "head: %d %.20q", code, got)
	}

	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	b := bytes.Repeat([]byte("0123456789abcdef"), 25_000)
	go c.Write(b)
	got := make([]byte, 0, len(b)+1000)
	for !bytes.Contains(got, []byte("\r\n\r\n")) || len(got) < len(b)+bytes.Index(got, []byte("\r\n\r\n"))+4 {
		var p [32 << 10]byte
		n, err := c.Read(p[:])
		got = append(got, p[:n]...)
		if err != nil {
			t.Errorf("upgraded connection: %v", err)
			break
		}
	}
	check(bytes.HasPrefix(got, []byte("HTTP/1.1 101 ")), "upgrade: %.40q", got)
	check(bytes.HasSuffix(got, b), "echo of %d bytes is not the same (%d)", len(b), len(got))

	all := send(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\nHEAD / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	check(strings.Count(all, "HTTP/1.1 200") == 4, "pipeline of 4: %d answers", strings.Count(all, "HTTP/1.1 200"))
	return checks
}
