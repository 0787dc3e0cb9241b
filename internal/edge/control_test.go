package edge

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gapless"
)

func TestTablesAreAllOrNothing(t *testing.T) {
	r, h, addr := setup(t, Config{}, saying(t, "one"))
	good := table1(5, saying(t, "two"))
	for _, c := range []struct {
		name string
		code gapless.Code
		make func(*gapless.Table)
	}{
		{"weights", gapless.Invalid, func(t *gapless.Table) { t.Routes[0].Weights[0].Share = 0.5 }},
		{"path", gapless.Invalid, func(t *gapless.Table) { t.Routes[0].Path = "x" }},
		{"no address", gapless.Invalid, func(t *gapless.Table) { t.Routes[0].Targets[0].Address = "" }},
		{"unknown release", gapless.Invalid, func(t *gapless.Table) { t.Routes[0].Targets[0].Release = "v9" }},
		{"listener", gapless.Unavailable, func(t *gapless.Table) { t.Routes[0].Listen = []string{"web", "nowhere"} }},
		{"older", gapless.Conflict, func(t *gapless.Table) { t.Version = 0 }},
	} {
		bad := table1(5, "127.0.0.1:1")
		c.make(&bad)
		if err := r.Apply(t.Context(), bad); gapless.CodeOf(err) != c.code {
			t.Errorf("%s: %v (code %s)", c.name, err, gapless.CodeOf(err))
		}
	}
	h.mu.Lock()
	h.saveErr = errors.New("disk full")
	h.mu.Unlock()
	if err := r.Apply(t.Context(), good); gapless.CodeOf(err) != gapless.Unavailable || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("not stored: %v", err)
	}
	if _, body, _ := fetch(t, addr); body != "one" || r.report().Version != 1 {
		t.Errorf("something changed: %q, version %d", body, r.report().Version)
	}
	h.mu.Lock()
	h.saveErr = nil
	h.mu.Unlock()
	r.apply(good)
	r.apply(good) // the same again is fine
	if _, body, _ := fetch(t, addr); body != "two" {
		t.Errorf("%q", body)
	}
}

func TestListenersComeAndGo(t *testing.T) {
	h := newHost(t, "a", "b")
	r := start(t, Config{Host: h})
	// One that is named must answer, however long it takes; of one that is not
	// nothing must be heard for a while.
	serves := func(name string, within time.Duration) bool {
		c, err := net.Dial("tcp", h.addr(name))
		if err != nil {
			return false
		}
		defer c.Close()
		io.WriteString(c, get("/"))
		c.SetReadDeadline(time.Now().Add(within))
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		return err == nil
	}
	tab := table1(1, saying(t, "x"))
	for i, want := range [][]string{{"a"}, {"a", "b"}, {"b"}, {"a"}} {
		tab.Version = uint64(i + 1)
		tab.Routes[0].Listen = want
		r.apply(tab)
		for _, name := range []string{"a", "b"} {
			named, within := slices.Contains(want, name), 200*time.Millisecond
			if named {
				within = 10 * time.Second
			}
			if serves(name, within) != named {
				t.Errorf("table %v: %s is named %v, but served %v", want, name, named, !named)
			}
		}
	}
}

func TestControlIsStrict(t *testing.T) {
	r, _, _ := setup(t, Config{}, saying(t, "x"))
	fi, err := os.Stat(r.socket)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v %v", fi.Mode(), err)
	}
	c, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for _, m := range []struct{ line, want string }{
		{`{"v":1,"op":"report"}`, `"report"`},
		{`{"v":2,"op":"report"}`, `"unsupported"`},
		{`{"v":1,"op":"report","x":1}`, `"invalid"`},
		{`{"v":1,"op":"dance"}`, `apply, report, watch, renew and drain`},
		{`not json`, `"invalid"`},
		{`{"v":1,"op":"apply","table":[]}`, `"invalid"`},
		{`{"v":1,"op":"apply","table":{"version":9,"routes":null,"later":true}}`, `{"v":1}`},
	} {
		io.WriteString(c, m.line+"\n")
		if got, err := br.ReadString('\n'); !strings.Contains(got, m.want) || err != nil {
			t.Errorf("%s: %s %v, want %s", m.line, got, err, m.want)
		}
	}
	go func() {
		b := []byte(strings.Repeat("x", 1<<20))
		for range 17 {
			c.Write(b)
		}
	}()
	if got, err := br.ReadString('\n'); !strings.Contains(got, "longer than") || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestClientAfterTheEdgeIsGone(t *testing.T) {
	r, _, _ := setup(t, Config{}, saying(t, "x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Report(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.report() // a call that was not begun breaks nothing
	r.cancel()
	r.wait(5 * time.Second)
	if _, err := r.Report(t.Context()); gapless.CodeOf(err) != gapless.Unavailable {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), r.socket); gapless.CodeOf(err) != gapless.Unavailable {
		t.Error(err)
	}
}

// What is stored may be anything; an edge that cannot read it serves nothing
// and waits for the daemon.
func TestStoredTableThatCannotBeServed(t *testing.T) {
	for _, stored := range []string{"rubbish", `{"version":3,"routes":[{"app":"a","listen":["nowhere"],"path":"/","weights":[{"release":"v1","share":1}]}]}`} {
		h := newHost(t, "web")
		h.saved = []byte(stored)
		r := start(t, Config{Host: h})
		if v := r.report().Version; v != 0 {
			t.Errorf("version %d", v)
		}
		r.apply(table1(1, saying(t, "x")))
	}
}

func TestProbesTakeOutAndPutBack(t *testing.T) {
	sick := make(chan bool, 1)
	isSick := false
	probed := app(t, func(w http.ResponseWriter, q *http.Request) {
		select {
		case isSick = <-sick:
		default:
		}
		if q.URL.Path == "/health" && isSick {
			w.WriteHeader(500)
		}
		io.WriteString(w, "probed")
	})
	r, _, addr := setup(t, Config{}, saying(t, "x"))
	tab := r.route(2, 0, map[string]float64{"v1": 1}, map[string][]string{"v1": {probed, saying(t, "other")}})
	tab.Routes[0].Probe = gapless.Health{Path: "/health", Interval: gapless.Duration(20 * time.Millisecond), Timeout: gapless.Duration(time.Second)}
	r.apply(tab)
	seen := func() map[string]int {
		m := map[string]int{}
		for range 40 {
			_, body, _ := fetch(t, addr)
			m[body]++
		}
		return m
	}
	if m := seen(); m["probed"] == 0 || m["other"] == 0 {
		t.Errorf("%v", m)
	}
	sick <- true
	eventually(t, "taken out", func() bool { return !r.instance("v1.1").Healthy })
	if m := seen(); m["probed"] != 0 {
		t.Errorf("%v", m)
	}
	// All out: the probes cannot be believed, so everybody is asked.
	tab.Version, tab.Routes[0].Targets = 3, tab.Routes[0].Targets[:1]
	r.apply(tab)
	if m := seen(); m["probed"] != 40 {
		t.Errorf("%v", m)
	}
	sick <- false
	eventually(t, "put back", func() bool { return r.instance("v1.1").Healthy })
}
