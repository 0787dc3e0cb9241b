package edge

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"gapless"
)

func TestFoldPath(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "": "", "/a/b": "/a/b", "/a//b/": "/a//b/", "/v2/orders/123": "/v2/orders/:id", "/orders/123/items/4": "/orders/:id/items/:id",
		"/u/3f2504e0-4f89-11d3-9a0c-0305e82c3301/x": "/u/:id/x", "/c/235951a": "/c/:id", "/c/deadbeef": "/c/deadbeef", "/img/1234.png": "/img/:id.png",
		"/t/eyJhbGciOiJIUzI1NiJ9xyz": "/t/:id", "/how-to-win-in-2026": "/how-to-win-in-2026", "/2026-11-25": "/:id", "/.well-known/x": "/.well-known/x",
		"/caf\xc3\xa9": "/caf??", "/app.3f2504e04f.js": "/app.3f2504e04f.js", "/" + strings.Repeat("x", 300): "/" + strings.Repeat("x", failingPath-1),
		"/invite/aB3dE9xQ": "/invite/:id", "/reset/k3j9x2m4q7": "/reset/:id", "/s/A_b-3dE9": "/s/:id", "/s/AB3DE9XQ": "/s/:id", "/s/x7k2m9q4.json": "/s/:id.json",
		"/checkout": "/checkout", "/api/v2/getUserById": "/api/v2/getUserById", "/checkout2": "/checkout2", "/products/page12": "/products/page12",
		"/top-10-products": "/top-10-products", "/utf8": "/utf8", "/My_Account": "/My_Account",
		strings.Repeat("/7", 100): strings.Repeat("/:id", failingPath/4),
	} {
		if got := string(foldPath(nil, []byte(path), failingPath)); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func FuzzFoldPath(f *testing.F) {
	f.Add("/a/1", 3)
	f.Fuzz(func(t *testing.T, path string, before int) {
		before = min(max(before, 0), failingMethod)
		out := foldPath(make([]byte, before, failingMethod+failingPath), []byte(path), before+failingPath)
		if len(out) > before+failingPath || len(out) < before {
			t.Errorf("%d bytes of %q", len(out), path)
		}
	})
}

// What is frequent is found among any number of others, in bounded memory.
func TestFailingIsBounded(t *testing.T) {
	var f failing
	rng := rand.New(rand.NewPCG(1, 2))
	var all sync.WaitGroup
	const n = 20_000
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("/made-up-%d", rng.Uint64())
		if i%5 == 0 {
			names[i] = "/frequent"
		}
	}
	for part := range slices.Chunk(names, n/4) {
		all.Go(func() {
			for _, name := range part {
				f.add([]byte("GET"), []byte(name), "500")
			}
		})
	}
	all.Wait()
	list := f.report()
	var sum uint64
	for _, x := range list {
		sum += x.Count
	}
	if len(list) != mostFailing || list[0].Path != "/frequent" || sum != n {
		t.Fatalf("%d of %d: %+v", len(list), sum, list)
	}
	if c := list[0].Count; c < n/5 || c > n/5+n/mostFailing {
		t.Errorf("%d, it was asked for %d times", c, n/5)
	}
}

func TestFailingPaths(t *testing.T) { drivers(t, failingPaths) }

func failingPaths(t *testing.T, cfg Config) {
	good := saying(t, "good")
	bad := app(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/orders/"):
			w.WriteHeader(503)
		case r.URL.Path == "/reset":
			panic(http.ErrAbortHandler)
		case r.URL.Path == "/cut":
			w.Header().Set("Content-Length", "100000")
			io.WriteString(w, strings.Repeat("x", 50000))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	r, _, addr := setup(t, cfg, good)
	r.apply(canary(2, good, bad, 1))
	ask := func(method, path string) {
		req, err := http.NewRequest(method, "http://"+addr+path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	for i := range 5 {
		ask("GET", fmt.Sprintf("/orders/%d?secret=1", 100+i))
		ask("GET", "/fine")
	}
	for range 3 { // each of them alone: nobody is to be ejected
		ask("POST", "/reset")
		ask("GET", "/fine")
	}
	for range 2 {
		ask("GET", "/cut")
		ask("GET", "/fine")
	}
	ask("DELETE", "/orders/7")
	want := []gapless.Failing{
		{Method: "GET", Path: "/orders/:id", Kind: "503", Count: 5}, {Method: "POST", Path: "/reset", Kind: "reset", Count: 3},
		{Method: "GET", Path: "/cut", Kind: "cut", Count: 2}, {Method: "DELETE", Path: "/orders/:id", Kind: "503", Count: 1},
	}
	eventually(t, "all of them are known", func() bool {
		n := uint64(0)
		for _, x := range r.traffic("v2").Failing {
			n += x.Count
		}
		return n == 11
	})
	if got := r.traffic("v2").Failing; !slices.Equal(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if got := r.traffic("v1").Failing; got != nil {
		t.Errorf("%+v of who answers well", got)
	}
	i := r.instance("i2")
	if i.Bad != 11 || r.instance("i1").Bad != 0 {
		t.Errorf("the instance gave %d bad answers, the good one %d", i.Bad, r.instance("i1").Bad)
	}
}

// The latencies of each instance are in a report about once per second, and
// those of its release are the sum of them.
func TestLatenciesOfInstances(t *testing.T) { drivers(t, latenciesOfInstances) }

func latenciesOfInstances(t *testing.T, cfg Config) {
	one := saying(t, "one")
	r, _, addr := setup(t, cfg, one)
	table := table1(2, one)
	table.Routes[0].Targets = append(table.Routes[0].Targets, gapless.Target{Instance: "i2", Release: "v1", Address: saying(t, "two")})
	r.apply(table)
	for range 30 {
		fetch(t, addr)
	}
	full, thin := 0, 0
	eventually(t, "both kinds of reports come", func() bool {
		rep := r.report()
		var sum [gapless.LatencyBuckets]uint64
		for _, i := range rep.Instances {
			n := uint64(0)
			for b, k := range i.Latency {
				sum[b] += k
				n += k
			}
			if i.Latency != nil && (n != i.Requests || len(i.Latency) == 0 || i.Latency[len(i.Latency)-1] == 0) {
				t.Errorf("%d requests: %v", i.Requests, i.Latency)
			}
		}
		if rep.Instances[0].Latency == nil {
			thin++
			return full > 0
		}
		full++
		if !slices.Equal(sum[:], rep.Releases[0].Latency) {
			t.Errorf("of the release %v, of both instances %v", rep.Releases[0].Latency, sum)
		}
		return thin > 0
	})
}
