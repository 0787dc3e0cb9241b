package edge

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
)

// mirrored routes everything to stable and copies all to the candidate.
func mirrored(version uint64, stable, candidate string, change ...func(*gapless.MirrorRoute)) gapless.Table {
	t := canary(version, stable, candidate, 0)
	t.Routes[0].Mirror = &gapless.MirrorRoute{Rollout: "r1", Release: "v2", Share: 1, Compare: gapless.CompareBody,
		Timeout: gapless.Duration(5 * time.Second), Header: gapless.MirrorHeader, Value: gapless.MirrorValue}
	for _, f := range change {
		f(t.Routes[0].Mirror)
	}
	return t
}

func (r *running) copies() gapless.MirrorCounts {
	for _, m := range r.report().Mirrors {
		if m.App == "shop" {
			return m.MirrorCounts
		}
	}
	return gapless.MirrorCounts{}
}

// copied waits until n requests were copied and nothing more is to come of them.
func (r *running) copied(n uint64) gapless.MirrorCounts {
	r.t.Helper()
	var c gapless.MirrorCounts
	eventually(r.t, "all copies are counted", func() bool {
		c = r.copies()
		return c.Copied == n && c.Dropped+c.Answered+c.Failed == n
	})
	return c
}

func found(c gapless.MirrorCounts) (out []string) {
	for _, d := range c.Differences {
		out = append(out, d.Path+" "+d.Kind)
	}
	slices.Sort(out)
	return out
}

func json200(t testing.TB, body func(*http.Request) string) string {
	return app(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(w, body(r))
	})
}

// A copy is the request with its mark; its answer reaches nobody and is no
// evidence; what it found is told by its place.
func TestMirror(t *testing.T) { drivers(t, checkMirror) }

func checkMirror(t *testing.T, cfg Config) {
	var clock atomic.Int64
	body := func(price string) func(*http.Request) string {
		return func(r *http.Request) string {
			n := clock.Add(1)
			return fmt.Sprintf(`{"items":[{"price":%s,"seen":%d}],"now":%d}`, price, n, n)
		}
	}
	var mu sync.Mutex
	var copies []http.Header
	candidate := body(`"12"`)
	r, _, addr := setup(t, cfg, json200(t, body("12")))
	r.apply(mirrored(2, r.last.Routes[0].Targets[0].Address, json200(t, func(r *http.Request) string {
		mu.Lock()
		copies = append(copies, r.Header)
		mu.Unlock()
		return candidate(r)
	}), func(m *gapless.MirrorRoute) { m.Ignore = []string{"/items/*/seen"} }))
	const n = 40
	for range n {
		req, _ := http.NewRequest("GET", "http://"+addr+"/list?a=1", nil)
		req.Header.Set("Cookie", "session=1")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if !strings.Contains(string(b), `"price":12,`) {
			t.Fatalf("a client got %s", b)
		}
	}
	c := r.copied(n)
	if c.Compared != n || c.Different != n || c.Pairs == 0 || c.Noisy != c.Pairs || c.Release != "v2" {
		t.Errorf("%+v", c)
	}
	if got := found(c); !slices.Equal(got, []string{"/items/*/price number → string", "/now value"}) {
		t.Errorf("found %q", got)
	}
	for _, d := range c.Differences {
		price := strings.Contains(d.Path, "price")
		if d.Seen != n || price && (d.Candidate != c.Pairs || d.Stable != 0) || !price && d.Candidate != 0 {
			t.Errorf("%+v of %d pairs", d, c.Pairs)
		}
		if !strings.HasPrefix(d.Example, "GET /list") || strings.Contains(d.Example, "a=1") {
			t.Errorf("example %q", d.Example)
		}
	}
	for _, h := range copies {
		if h.Get(gapless.MirrorHeader) != "1" || h.Get("Cookie") != "session=1" {
			t.Fatalf("a copy came with %v", h)
		}
	}
	rep := r.report()
	if len(rep.Counters) > 0 || r.traffic("v2").Requests != 0 || r.traffic("v1").Requests != n || r.instance("i2").Requests != 0 {
		t.Errorf("copies were counted as requests: %+v", rep)
	}
	r.apply(func() gapless.Table { n := table1(3, r.last.Routes[0].Targets[0].Address); return n }())
	fetch(t, addr)
	if c := r.copies(); c.Copied != n {
		t.Errorf("%d copies after the end", c.Copied)
	}
}

// What is not to be copied is not, and what a copy must not have it has not.
func TestMirrorCopiesOnlyWhatIsSafe(t *testing.T) { drivers(t, checkMirrorCopiesOnlyWhatIsSafe) }

func checkMirrorCopiesOnlyWhatIsSafe(t *testing.T, cfg Config) {
	var methods []string
	var mu sync.Mutex
	ok := saying(t, "ok")
	r, _, addr := setup(t, cfg, ok)
	r.apply(mirrored(2, ok, app(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		methods = append(methods, fmt.Sprintf("%s %s %v %v", r.Method, r.URL, r.Header["Cookie"], r.Header["Authorization"]))
	}), func(m *gapless.MirrorRoute) { m.NoCredentials = true }))
	secret := []string{"Cookie: session=1", "Authorization: Bearer x", "Connection: close"}
	for _, request := range []string{
		get("/get", secret...), strings.Replace(get("/head", secret...), "GET", "HEAD", 1), strings.Replace(get("/options", secret...), "GET", "OPTIONS", 1),
		strings.Replace(get("/delete", secret...), "GET", "DELETE", 1),
		"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
		"GET /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
		get("/copy", append(secret, "X-Gapless-Mirror: 1")...),
	} {
		if got := send(t, addr, request); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("%q: %.100q", request, got)
		}
	}
	r.copied(3)
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(methods)
	if want := []string{"GET /get [] []", "HEAD /head [] []", "OPTIONS /options [] []"}; !slices.Equal(methods, want) {
		t.Errorf("copied %q", methods)
	}
}

// A candidate that never answers costs the users nothing: they all are served,
// what does not fit is dropped and counted, and the rest fails in its time.
func TestMirrorToSomebodyWhoHangs(t *testing.T) { drivers(t, checkMirrorToSomebodyWhoHangs) }

func checkMirrorToSomebodyWhoHangs(t *testing.T, cfg Config) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	var came atomic.Int64
	ok := json200(t, func(*http.Request) string { return `{}` })
	cfg.MirrorQueue, cfg.MirrorSenders = 8, 2
	r, _, addr := setup(t, cfg, ok)
	r.apply(mirrored(2, ok, raw(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := br.ReadString('\n'); err == nil {
			came.Add(1)
		}
		<-hang
	}), func(m *gapless.MirrorRoute) { m.Timeout = gapless.Duration(300 * time.Millisecond) }))
	const n = 200
	for range n {
		if status, body, _ := fetch(t, addr); status != 200 || body != "{}" {
			t.Fatalf("a user got %d %q", status, body)
		}
	}
	c := r.copied(n)
	if c.Dropped == 0 || c.Failed == 0 || c.Answered != 0 || c.Failed != uint64(came.Load()) {
		t.Errorf("%+v, %d came", c, came.Load())
	}
	if got := found(c); !slices.Equal(got, []string{"answer none in time"}) {
		t.Errorf("found %q", got)
	}
	if x := r.traffic("v1"); x.Requests != n || x.Failed != 0 || x.Retried != 0 {
		t.Errorf("stable: %+v", x)
	}
}

// The bytes that copies hold are bounded, whatever their number.
func TestMirrorHoldsFewBytes(t *testing.T) { drivers(t, checkMirrorHoldsFewBytes) }

func checkMirrorHoldsFewBytes(t *testing.T, cfg Config) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	big := `"` + strings.Repeat("x", 20<<10) + `"`
	stable := json200(t, func(*http.Request) string { return big })
	cfg.MirrorBytes, cfg.MirrorSenders = 50<<10, 1
	r, _, addr := setup(t, cfg, stable)
	r.apply(mirrored(2, stable, raw(t, func(net.Conn, *bufio.Reader) { <-hang })))
	for range 10 {
		if _, body, _ := fetch(t, addr); body != big {
			t.Fatal("a user got something else")
		}
	}
	eventually(t, "what does not fit is dropped", func() bool { c := r.copies(); return c.Copied == 10 && c.Dropped == 8 })
}

// A candidate that refuses, breaks off or talks nonsense is told as such, and
// the refused connections are counted like others.
func TestMirrorToSomebodyBroken(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	ok := saying(t, "ok")
	for want, address := range map[string]string{
		"answer refused":    closed.Addr().String(),
		"answer broken off": raw(t, func(c net.Conn, br *bufio.Reader) { br.ReadString('\n') }),
		"answer broken off (head)": raw(t, func(c net.Conn, br *bufio.Reader) {
			br.ReadString('\n')
			io.WriteString(c, "nonsense\r\n\r\n")
		}),
		"answer broken off (body)": raw(t, func(c net.Conn, br *bufio.Reader) {
			br.ReadString('\n')
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi")
		}),
	} {
		r, _, addr := setup(t, Config{}, ok)
		r.apply(mirrored(2, ok, address))
		for range 5 {
			if status, body, _ := fetch(t, addr); status != 200 || body != "ok" {
				t.Fatalf("a user got %d %q", status, body)
			}
		}
		c := r.copied(5)
		if got := found(c); c.Failed != 5 || !slices.Equal(got, []string{strings.Split(want, " (")[0]}) {
			t.Errorf("%s: found %q, %+v", want, got, c)
		}
		if refused := r.instance("i2").Refused; (refused > 0) != (want == "answer refused") {
			t.Errorf("%s: %d refused connections", want, refused)
		}
	}
}

// A drain of the mirrored instance waits for the copies that it has.
func TestMirrorIsInFlight(t *testing.T) { drivers(t, checkMirrorIsInFlight) }

func checkMirrorIsInFlight(t *testing.T, cfg Config) {
	release := make(chan struct{})
	ok := saying(t, "ok")
	slow := app(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	r, _, addr := setup(t, cfg, ok)
	r.apply(mirrored(2, ok, slow))
	fetch(t, addr)
	eventually(t, "the copy is in flight", func() bool { return r.instance("i2").InFlight == 1 })
	next := table1(3, ok)
	next.Routes[0].Targets = append(next.Routes[0].Targets, gapless.Target{Instance: "i2", Release: "v2", Address: slow, Draining: true, Drain: gapless.Duration(time.Minute)})
	r.apply(next)
	fetch(t, addr)
	if n := r.instance("i2").InFlight; n != 1 {
		t.Errorf("%d in flight while it drains", n)
	}
	close(release)
	eventually(t, "nothing is in flight", func() bool { return r.instance("i2").InFlight == 0 })
	if c := r.copied(1); c.Answered != 1 {
		t.Errorf("%+v", c)
	}
}

// Answers are compared as they are meant: encoded ones, large ones, other
// statuses and types, chunked ones and those to HEAD.
func TestMirrorCompares(t *testing.T) { drivers(t, checkMirrorCompares) }

func checkMirrorCompares(t *testing.T, cfg Config) {
	large := `{"a":"` + strings.Repeat("x", mirrorBody) + `"}`
	say := func(other bool) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			value := 1
			if other {
				value = 2
			}
			w.Header().Set("Content-Type", "application/json")
			body := fmt.Sprintf(`{"a":%d}`, value)
			switch r.URL.Path {
			case "/gzip":
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				io.WriteString(z, body)
				z.Close()
			case "/brotli":
				w.Header().Set("Content-Encoding", "br")
				io.WriteString(w, body)
			case "/large":
				io.WriteString(w, large)
			case "/chunked":
				io.WriteString(w, body[:3])
				w.(http.Flusher).Flush()
				io.WriteString(w, body[3:])
			case "/status":
				w.WriteHeader(200 + 200*(value-1))
			case "/type":
				if other {
					w.Header().Set("Content-Type", "text/html")
				}
			case "/html":
				w.Header().Set("Content-Type", "text/html")
				io.WriteString(w, body)
			case "/cached":
				if !other {
					w.WriteHeader(304)
				}
			case "/events":
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "data: x\n\n")
			default:
				io.WriteString(w, body)
			}
		}
	}
	for _, c := range []struct {
		request, want  string
		large, encoded uint64
	}{
		{"GET /gzip", "/a value", 0, 0}, {"GET /chunked", "/a value", 0, 0}, {"GET /plain", "/a value", 0, 0},
		{"HEAD /plain", "", 0, 0}, {"GET /html", "", 0, 0}, {"GET /cached", "", 0, 0},
		{"GET /brotli", "", 0, 1}, {"GET /large", "", 1, 0},
		{"GET /status", "status 200 → 400", 0, 0}, {"GET /type", "type application/json → text/html", 0, 0},
	} {
		r, _, addr := setup(t, cfg, app(t, say(false)))
		r.apply(mirrored(2, r.last.Routes[0].Targets[0].Address, app(t, say(true))))
		send(t, addr, strings.Replace(get("/", "Connection: close"), "GET /", c.request, 1))
		got := r.copied(1)
		if strings.Join(found(got), ", ") != c.want || got.Large != c.large || got.Encoded != c.encoded || got.Compared != 1 {
			t.Errorf("%s: found %q, %+v", c.request, found(got), got)
		}
	}
	r, _, addr := setup(t, cfg, app(t, say(false)))
	r.apply(mirrored(2, r.last.Routes[0].Targets[0].Address, app(t, say(true))))
	send(t, addr, get("/events", "Connection: close"))
	send(t, addr, get("/plain", "Connection: close"))
	r.copied(1) // an event stream has no end to wait for
}

// Bodies over HTTP/1.0 and HTTP/2 are seen as they came from the instance.
func TestMirrorOfOtherClients(t *testing.T) { drivers(t, checkMirrorOfOtherClients) }

func checkMirrorOfOtherClients(t *testing.T, cfg Config) {
	stable := app(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"a":`)
		w.(http.Flusher).Flush()
		io.WriteString(w, `1}`)
	})
	r, _, addr := setup(t, cfg, stable)
	r.apply(mirrored(2, stable, stable))
	if got := send(t, addr, "GET / HTTP/1.0\r\nHost: x\r\n\r\n"); !strings.HasSuffix(got, `{"a":1}`) {
		t.Errorf("%q", got)
	}
	if c := r.copied(1); c.Compared != 1 || c.Different != 0 || c.Encoded != 0 {
		t.Errorf("%+v", c)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	h2 := http.Client{Transport: &http.Transport{Protocols: &protocols}}
	defer h2.CloseIdleConnections()
	res, err := h2.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if c := r.copied(2); c.Compared != 2 || c.Different != 0 || c.Encoded != 0 {
		t.Errorf("%+v", c)
	}
}

// Counts go on from table to table and begin anew with another rollout.
func TestMirrorCountsPerRollout(t *testing.T) {
	ok := saying(t, "ok")
	r, _, addr := setup(t, Config{}, ok)
	r.apply(mirrored(2, ok, ok))
	fetch(t, addr)
	r.copied(1)
	r.apply(mirrored(3, ok, ok, func(m *gapless.MirrorRoute) { m.Timeout = gapless.Duration(time.Second) }))
	fetch(t, addr)
	r.copied(2)
	r.apply(mirrored(4, ok, ok, func(m *gapless.MirrorRoute) { m.Rollout = "r2" }))
	fetch(t, addr)
	r.copied(1)
}

func TestMirrorTablesThatAreRefused(t *testing.T) {
	ok := saying(t, "ok")
	r, _, _ := setup(t, Config{}, ok)
	for name, change := range map[string]func(*gapless.MirrorRoute){
		"share":   func(m *gapless.MirrorRoute) { m.Share = 1.5 },
		"no one":  func(m *gapless.MirrorRoute) { m.Release = "" },
		"stable":  func(m *gapless.MirrorRoute) { m.Release = "v1" },
		"header":  func(m *gapless.MirrorRoute) { m.Value = "1\r\nX: y" },
		"path":    func(m *gapless.MirrorRoute) { m.Ignore = []string{"items"} },
		"timeout": func(m *gapless.MirrorRoute) { m.Timeout = 0 },
		"compare": func(m *gapless.MirrorRoute) { m.Compare = "bodies" },
	} {
		if err := r.Apply(t.Context(), mirrored(2, ok, ok, change)); gapless.CodeOf(err) != gapless.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Copies that hang with a candidate take nothing of what its own requests may
// have at once.
func TestMirrorIsNoLoadOfUsers(t *testing.T) {
	release := make(chan struct{})
	ok := saying(t, "ok")
	r, _, addr := setup(t, Config{}, ok)
	table := mirrored(2, ok, app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(gapless.MirrorHeader) != "" {
			<-release
		}
		io.WriteString(w, "candidate")
	}), func(m *gapless.MirrorRoute) { m.Timeout = gapless.Duration(time.Minute) })
	route := &table.Routes[0]
	route.Weights = []gapless.Weight{{Release: "v1", Share: 0.5}, {Release: "v2", Share: 0.5}}
	route.Balance = gapless.Balance{Candidate: 4}
	r.apply(table)
	defer close(release)
	for range 200 {
		fetch(t, addr)
	}
	eventually(t, "copies hang", func() bool { return r.instance("i2").InFlight == 16 })
	if k := r.kinds("v2"); len(k) != 1 || k["i2 "] == 0 {
		t.Errorf("of the candidate: %v", k)
	}
}

// A copy has the path that its release is given.
func TestMirrorTakesPrefixesOff(t *testing.T) {
	paths := make(chan string, 100)
	see := func(who string) string {
		return app(t, func(w http.ResponseWriter, r *http.Request) {
			paths <- who + r.URL.Path
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{}")
		})
	}
	stable := see("v1")
	r, _, addr := setup(t, Config{}, stable)
	table := mirrored(2, stable, see("v2"))
	table.Routes[0].Path, table.Routes[0].Strip = "/shop", []string{"v1"}
	r.apply(table)
	for n := uint64(1); r.copies().Pairs == 0; n++ { // half of them are pairs
		send(t, addr, get("/shop/list", "Connection: close"))
		r.copied(n)
	}
	r.Close()
	close(paths)
	for p := range paths {
		if p != "v1/list" && p != "v2/shop/list" {
			t.Errorf("asked for %s", p)
		}
	}
}
