package edge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
)

// hanging is a backend that takes requests and answers none before the test ends.
func hanging(t testing.TB) (addr string, asked *atomic.Int64) {
	asked = &atomic.Int64{}
	return raw(t, func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil && req.URL.Path != "/health" {
			asked.Add(1)
		}
		io.Copy(io.Discard, r)
	}), asked
}

// resetting is a backend that closes each connection at its first request.
func resetting(t testing.TB) (addr string, asked *atomic.Int64) {
	asked = &atomic.Int64{}
	return raw(t, func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil && req.URL.Path != "/health" {
			asked.Add(1)
		}
		c.(*net.TCPConn).SetLinger(0)
	}), asked
}

// drivers runs a test with each way to serve plain HTTP/1.1.
func drivers(t *testing.T, run func(t *testing.T, cfg Config)) {
	for name, loops := range map[string]int{"loops": 1, "goroutines": -1} {
		t.Run(name, func(t *testing.T) { run(t, Config{Loops: loops}) })
	}
}

// A candidate that hangs gets as many requests as it may have; those that come
// after are answered by stable and count against it.
func TestAHangingCandidateCannotEatTheEdge(t *testing.T) {
	t.Parallel()
	drivers(t, func(t *testing.T, cfg Config) {
		good := saying(t, "good")
		hangs, asked := hanging(t)
		r, _, addr := setup(t, cfg, good)
		const n, limit = 400, 20
		table := canary(2, good, hangs, 0.25)
		table.Routes[0].Balance.Candidate = limit
		r.apply(table)
		var answers, bad atomic.Int64
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					return // it hung
				}
				defer res.Body.Close()
				if b, _ := io.ReadAll(res.Body); res.StatusCode != 200 || string(b) != "good" {
					bad.Add(1)
				}
				answers.Add(1)
			})
		}
		eventually(t, "all that stable could answer is answered", func() bool {
			return answers.Load()+int64(r.instance("i2").InFlight) == n
		})
		v2, i2 := r.traffic("v2"), r.instance("i2")
		t.Logf("%d answered, %d hang, %d over the limit", answers.Load(), i2.InFlight, v2.Over)
		if bad.Load() != 0 {
			t.Errorf("%d bad answers", bad.Load())
		}
		// Those that come in one moment may pass the limit together.
		if i2.InFlight < limit || i2.InFlight > 2*limit || asked.Load() != int64(i2.InFlight) {
			t.Errorf("%d hang, the backend has %d", i2.InFlight, asked.Load())
		}
		if v2.Over == 0 || v2.Requests != v2.Over+uint64(i2.InFlight) {
			t.Errorf("of %d requests %d hang and %d were over the limit", v2.Requests, i2.InFlight, v2.Over)
		}
		if got := r.kinds("v2")[" "+kindOver]; got != v2.Over {
			t.Errorf("%d are held against v2, of %d", got, v2.Over)
		}
		if v1 := r.tally("v1", 0.25); v1.Bad != 0 {
			t.Errorf("stable has %d bad", v1.Bad)
		}
		leave()
		wg.Wait()
	})
}

// What fails with a candidate is asked once more, of stable. No request meets
// two instances of the candidate, and each is held against it.
func TestRetriesGoToStable(t *testing.T) {
	drivers(t, func(t *testing.T, cfg Config) {
		good := saying(t, "good")
		a, askedA := resetting(t)
		b, askedB := resetting(t)
		r, _, addr := setup(t, cfg, good)
		table := canary(2, good, a, 0.5)
		table.Routes[0].Balance.NoEject = true
		table.Routes[0].Balance.Retries = 1
		table.Routes[0].Targets = append(table.Routes[0].Targets, gapless.Target{Instance: "i3", Release: "v2", Address: b})
		r.apply(table)
		for range 100 {
			if status, body, _ := fetch(t, addr); status != 200 || body != "good" {
				t.Fatalf("%d %q", status, body)
			}
		}
		v2 := r.tally("v2", 0.5)
		if n := askedA.Load() + askedB.Load(); uint64(n) != v2.Requests || v2.Bad != v2.Requests || n < 20 {
			t.Errorf("instances of v2 were asked %d times for %+v", n, v2)
		}
	})
}

// An instance that fails is left alone, and its failures count for the release
// that the coin chose. The last one of stable is never left alone.
func TestFailingInstancesAreLeftAlone(t *testing.T) {
	t.Parallel()
	drivers(t, func(t *testing.T, cfg Config) {
		good, bad := saying(t, "good"), ""
		bad, asked := resetting(t)
		r, _, addr := setup(t, cfg, good)
		table := canary(2, good, good, 0.5)
		table.Routes[0].Targets = append(table.Routes[0].Targets, gapless.Target{Instance: "i3", Release: "v1", Address: bad})
		r.apply(table)
		for range 100 {
			if status, body, _ := fetch(t, addr); status != 200 || body != "good" {
				t.Fatalf("%d %q", status, body)
			}
		}
		i3 := r.instance("i3")
		if i3.Ejections != 1 || i3.Ejected == 0 || i3.Failed != gapless.EjectAfter || asked.Load() != gapless.EjectAfter {
			t.Errorf("%+v, asked %d times", i3, asked.Load())
		}
		eventually(t, "it is said to fail", func() bool { return r.instance("i3").Fails() })
		if v1, v2 := r.tally("v1", 0.5), r.tally("v2", 0.5); v1.Bad != gapless.EjectAfter || v2.Bad != 0 || v1.Requests+v2.Requests != 100 {
			t.Errorf("v1 %+v, v2 %+v", v1, v2)
		}
		alone := table1(3, bad)
		alone.Routes[0].Hold = 0
		alone.Routes[0].Targets[0].Instance = "i3" // the one that is left alone is all there is now
		r.apply(alone)
		for range 20 {
			if status, _, _ := fetch(t, addr); status != 502 {
				t.Errorf("status %d", status)
			}
		}
		if i3 := r.instance("i3"); i3.Ejections != 1 || i3.Ejected != 0 {
			t.Errorf("the last one: %+v", i3)
		}
	})
}

// A candidate whose only instance fails is left alone as a whole: stable
// answers, and each request is held against the candidate.
func TestACandidateIsLeftAloneAsAWhole(t *testing.T) {
	drivers(t, func(t *testing.T, cfg Config) {
		good := saying(t, "good")
		bad, asked := resetting(t)
		r, _, addr := setup(t, cfg, good)
		r.apply(canary(2, good, bad, 0.5))
		for range 100 {
			if status, body, _ := fetch(t, addr); status != 200 || body != "good" {
				t.Fatalf("%d %q", status, body)
			}
		}
		if i2 := r.instance("i2"); i2.Ejections != 1 || asked.Load() != gapless.EjectAfter {
			t.Errorf("%+v, asked %d times", i2, asked.Load())
		}
		kinds, v2 := r.kinds("v2"), r.tally("v2", 0.5)
		if v2.Bad != v2.Requests || v2.Bad <= gapless.EjectAfter || kinds[" "+kindUnready] != v2.Bad-gapless.EjectAfter {
			t.Errorf("%+v, %v", v2, kinds)
		}
	})
}

// When everything fails, requests are not repeated without end.
func TestRetriesAreBounded(t *testing.T) {
	a, askedA := resetting(t)
	b, askedB := resetting(t)
	r, _, addr := setup(t, Config{}, a)
	table := table1(2, a)
	table.Routes[0].Balance.NoEject = true
	table.Routes[0].Targets = append(table.Routes[0].Targets, gapless.Target{Instance: "i2", Release: "v1", Address: b})
	r.apply(table)
	began := time.Now()
	const n = 300
	for range n {
		if status, _, _ := fetch(t, addr); status != 502 {
			t.Errorf("status %d", status)
		}
	}
	v1 := r.traffic("v1")
	allowed := n*gapless.DefaultRetries + retryRate*(retrySpan+time.Since(began)).Seconds()
	t.Logf("%d repeated, %d not, %.0f allowed", v1.Retried, v1.Spent, allowed)
	if float64(v1.Retried) > allowed || v1.Retried < 20 || v1.Spent+v1.Retried != n {
		t.Errorf("%d repeated, %d not, %.0f allowed", v1.Retried, v1.Spent, allowed)
	}
	if got := askedA.Load() + askedB.Load(); got != int64(n+v1.Retried) {
		t.Errorf("the backends were asked %d times", got)
	}
}

func TestStableAtItsLimit(t *testing.T) {
	drivers(t, func(t *testing.T, cfg Config) {
		hangs, asked := hanging(t)
		r, _, addr := setup(t, cfg, hangs)
		table := table1(2, hangs)
		table.Routes[0].Balance.Stable = 3
		r.apply(table)
		for range 3 {
			c := connect(t, addr)
			io.WriteString(c, get("/"))
		}
		eventually(t, "three hang", func() bool { return asked.Load() == 3 })
		began := time.Now()
		status, body, head := fetch(t, addr)
		if status != 503 || head.Get("X-Gapless-Error") != "overfull" || head.Get("Retry-After") == "" {
			t.Errorf("%d %q %v", status, body, head)
		}
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("it waited %s for nothing", took)
		}
		if v1 := r.traffic("v1"); v1.Over != 1 {
			t.Errorf("counted %d", v1.Over)
		}
	})
}

func TestBalanceIsChecked(t *testing.T) {
	r, _, _ := setup(t, Config{}, "127.0.0.1:1")
	for k, b := range []gapless.Balance{{Stable: -1}, {Candidate: -1}, {Retries: 1.5}, {Retries: -1}, {SlowStart: -1}} {
		table := table1(uint64(2+k), "127.0.0.1:1")
		table.Routes[0].Balance = b
		if err := r.Apply(t.Context(), table); gapless.CodeOf(err) != gapless.Invalid {
			t.Errorf("%+v: %v", b, err)
		}
	}
	if v := fmt.Sprint(r.report().Version); v != "1" {
		t.Errorf("version %s is served", v)
	}
}
