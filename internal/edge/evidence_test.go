package edge

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"gapless"
)

// canary routes share of the traffic to v2 and the rest to v1.
func canary(version uint64, stable, candidate string, share float64) gapless.Table {
	t := table1(version, stable)
	r := &t.Routes[0]
	r.Weights = []gapless.Weight{{Release: "v1", Share: 1 - share}, {Release: "v2", Share: share}}
	r.Targets = append(r.Targets, gapless.Target{Instance: "i2", Release: "v2", Address: candidate})
	return t
}

// tally adds up what was counted of a release at a weight.
func (r *running) tally(release string, weight float64) gapless.Tally {
	sum := gapless.Tally{}
	for _, c := range r.report().Counters {
		if c.Release == release && c.Weight == weight {
			sum.Requests, sum.Bad, sum.Late = sum.Requests+c.Requests, sum.Bad+c.Bad, sum.Late+c.Late
		}
	}
	return sum
}

// kinds says how often a release was counted by instance and kind.
func (r *running) kinds(release string) map[string]uint64 {
	out := map[string]uint64{}
	for _, c := range r.report().Counters {
		if c.Release == release {
			out[c.Instance+" "+c.Kind] += c.Requests + c.Late
		}
	}
	return out
}

func TestEvidenceIsBookedForTheReleaseThatTheCoinChose(t *testing.T) {
	good := saying(t, "good")
	bad := app(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); io.WriteString(w, "bad") })
	r, _, addr := setup(t, Config{}, good)
	for range 20 { // no coin is tossed: no evidence
		fetch(t, addr)
	}
	if got := r.report().Counters; len(got) != 0 {
		t.Fatalf("evidence without a coin: %v", got)
	}
	r.apply(canary(2, good, bad, 0.5))
	fails := uint64(0)
	const n = 200
	for range n {
		if status, _, _ := fetch(t, addr); status == 500 {
			fails++
		}
	}
	v1, v2 := r.tally("v1", 0.5), r.tally("v2", 0.5)
	if v1.Bad != 0 || v2.Bad != fails || v2.Requests != fails || v1.Requests != n-fails || fails < n/4 {
		t.Fatalf("v1 %+v, v2 %+v, %d answers were bad", v1, v2, fails)
	}
	// Another weight is another row, the rows before stay as they are.
	r.apply(canary(3, good, bad, 0.1))
	for range 50 {
		fetch(t, addr)
	}
	if a, b := r.tally("v1", 0.1), r.tally("v2", 0.1); a.Requests+b.Requests != 50 {
		t.Errorf("at 10 %%: v1 %+v, v2 %+v", a, b)
	}
	if r.tally("v2", 0.5) != v2 {
		t.Errorf("a former row changed: %+v", r.tally("v2", 0.5))
	}
}

func TestRetriesAndFallbacksHideNoEvidence(t *testing.T) {
	good := saying(t, "good")
	r, _, addr := setup(t, Config{}, good)
	r.apply(canary(2, good, "127.0.0.1:1", 1)) // nobody listens there
	for range 20 {
		if status, body, _ := fetch(t, addr); status != 200 || body != "good" {
			t.Fatalf("%d %q: stable should have answered", status, body)
		}
	}
	if v2 := r.tally("v2", 1); v2.Requests != 20 || v2.Bad != 20 {
		t.Errorf("what stable rescued is not held against v2: %+v", v2)
	}
	if v1 := r.tally("v1", 1); v1.Requests != 0 {
		t.Errorf("v1 got what its coin did not: %+v", v1)
	}
}

func TestClientsThatGoAwayAreNoEvidence(t *testing.T) {
	entered := make(chan bool, 10)
	slow := app(t, func(w http.ResponseWriter, r *http.Request) { entered <- true; <-r.Context().Done() })
	r, _, addr := setup(t, Config{}, slow)
	r.apply(canary(2, slow, slow, 1))
	c := connect(t, addr)
	if _, err := io.WriteString(c, get("/")); err != nil {
		t.Fatal(err)
	}
	<-entered
	c.Close()
	eventually(t, "the abort is seen", func() bool { return r.traffic("v2").Aborted == 1 })
	if v2 := r.tally("v2", 1); v2.Requests != 0 || v2.Bad != 0 {
		t.Errorf("%+v", v2)
	}
}

func TestPreviewByHostAndHeader(t *testing.T) {
	one, two := saying(t, "one"), saying(t, "two")
	r, _, addr := setup(t, Config{}, one)
	table := canary(2, one, two, 0)
	table.Routes[0].Weights = []gapless.Weight{{Release: "v1", Share: 1}}
	table.Routes[0].Preview = &gapless.PreviewRoute{Release: "v2", Preview: gapless.Preview{Host: "next.shop.test", Header: "X-Preview", Value: "yes"}}
	r.apply(table)
	ask := func(host string, fields ...string) string {
		res := send(t, addr, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n"+strings.Join(append(fields, ""), "\r\n")+"\r\n")
		return res[strings.LastIndex(res, "\n")+1:]
	}
	for _, c := range []struct {
		host, field, want string
	}{
		{"shop.test", "X-Other: yes", "one"}, {"next.shop.test", "X-Other: yes", "two"},
		{"shop.test", "x-preview: yes", "two"}, {"shop.test", "X-Preview: no", "one"},
	} {
		if got := ask(c.host, c.field); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.host, c.field, got, c.want)
		}
	}
	if got := r.report().Counters; len(got) != 0 {
		t.Errorf("previews are evidence: %v", got)
	}
}

func TestLeaseFallsBackByItself(t *testing.T) {
	t.Parallel()
	one, two := saying(t, "one"), saying(t, "two")
	r, _, addr := setup(t, Config{}, one)
	table := canary(2, one, two, 1)
	table.Routes[0].Lease = gapless.Duration(1500 * time.Millisecond)
	table.Routes[0].Fallback = []gapless.Weight{{Release: "v1", Share: 1}}
	r.apply(table)
	body := func() string { _, b, _ := fetch(t, addr); return b }
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := r.Renew(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if got := body(); got != "two" || len(r.report().FellBack) > 0 {
			t.Fatalf("%q while the lease is renewed", got)
		}
	}
	// A table that came for another app renews nothing.
	other := table
	other.Version = 3
	other.Routes = append([]gapless.Route(nil), table.Routes...)
	r.apply(other)
	eventually(t, "the fallback is served", func() bool { return body() == "one" })
	if rep := r.report(); len(rep.FellBack) != 1 || rep.FellBack[0] != "shop" || rep.Version != 3 {
		t.Errorf("fell back: %v at version %d", rep.FellBack, rep.Version)
	}
	if err := r.Renew(t.Context(), "shop"); gapless.CodeOf(err) != gapless.Conflict {
		t.Errorf("a lease that ran out was renewed: %v", err)
	}
	other.Version = 4
	r.apply(other) // and brings nothing back
	if got := body(); got != "one" {
		t.Errorf("%q after a table with the same route", got)
	}
	next := canary(5, one, two, 1)
	r.apply(next) // a new decision does
	if got := body(); got != "two" || len(r.report().FellBack) > 0 {
		t.Errorf("%q after a new route, fell back: %v", got, r.report().FellBack)
	}
}

// leasedTo is a table whose candidate is leased for a time.
func leasedTo(version uint64, stable, candidate string, d time.Duration) gapless.Table {
	table := canary(version, stable, candidate, 1)
	table.Routes[0].Lease = gapless.Duration(d)
	table.Routes[0].Fallback = []gapless.Weight{{Release: "v1", Share: 1}}
	return table
}

// An edge that comes after one that fell back serves the fallback, too, and
// says so; also where that one died before it could store that it fell back.
func TestFallbackOutlivesItsEdge(t *testing.T) {
	t.Parallel()
	one, two := saying(t, "one"), saying(t, "two")
	for _, deadOn := range []bool{false, true} {
		r, h, addr := setup(t, Config{}, one)
		r.apply(leasedTo(2, one, two, 1200*time.Millisecond))
		stored := func() []byte { b, _ := h.Load(t.Context()); return b }
		before := stored()
		body := func() string { _, b, _ := fetch(t, addr); return b }
		eventually(t, "the fallback is served", func() bool { return body() == "one" })
		if deadOn {
			h.Save(t.Context(), before)
		} else {
			eventually(t, "it is stored", func() bool { return strings.Contains(string(stored()), `"over":true`) })
		}
		for range 3 { // every crash would renew it
			r.cancel()
			r.wait(10 * time.Second)
			r = start(t, Config{Host: h, Generation: 2})
			if got, rep := body(), r.report(); got != "one" || len(rep.FellBack) != 1 || rep.Version != 2 {
				t.Errorf("%q after a restart, fell back %v, version %d", got, rep.FellBack, rep.Version)
			}
		}
		r.apply(canary(3, one, two, 1))
		if got := body(); got != "two" || len(r.report().FellBack) != 0 {
			t.Errorf("%q after a new decision", got)
		}
	}
}

// A restart does not begin a lease anew: what was left of it is left.
func TestRestartLeavesWhatWasLeftOfALease(t *testing.T) {
	t.Parallel()
	one, two := saying(t, "one"), saying(t, "two")
	const lease = 4 * time.Second
	r, h, addr := setup(t, Config{}, one)
	r.apply(leasedTo(2, one, two, lease))
	judged := Clock()
	renewed := judged
	for range 6 { // renewals are stored, too: often enough
		time.Sleep(300 * time.Millisecond)
		renewed = Clock()
		if err := r.Renew(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
	}
	body := func() string { _, b, _ := fetch(t, addr); return b }
	for Clock() < renewed+lease/2 { // crashes that would each renew it
		r.cancel()
		r.wait(10 * time.Second)
		r = start(t, Config{Host: h, Generation: 2})
		time.Sleep(200 * time.Millisecond)
		if Clock() < judged+lease*9/10 && body() != "two" {
			t.Fatal("it fell back although its first time is not over")
		}
	}
	eventually(t, "the fallback is served", func() bool { return body() == "one" })
	at := Clock()
	t.Logf("fell back %s after the table came, %s after the last renewal", at-judged, at-renewed)
	if at > renewed+lease+2*time.Second {
		t.Errorf("a restart prolonged it")
	}
	if at < renewed+lease-lease/4-storeEvery-2*time.Second {
		t.Errorf("renewals were forgotten")
	}
}

// What a judge says counts from when it judged, not from when it is heard.
func TestRenewalsThatWaited(t *testing.T) {
	t.Parallel()
	one, two := saying(t, "one"), saying(t, "two")
	r, _, _ := setup(t, Config{}, one)
	w := watching(t, r)
	r.apply(leasedTo(2, one, two, time.Second))
	old := Clock() - 10*time.Second
	eventually(t, "it falls back", func() bool {
		if err := w.Tell(t.Context(), nil, map[string]time.Duration{"shop": old}); err != nil {
			t.Fatal(err)
		}
		return len(r.report().FellBack) == 1
	})
	r.apply(leasedTo(3, two, one, time.Second)) // the same weights: no new decision
	r.apply(canary(4, one, two, 0.5))
	r.apply(leasedTo(5, one, two, time.Second))
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := w.Tell(t.Context(), nil, map[string]time.Duration{"shop": Clock()}); err != nil {
			t.Fatal(err)
		}
		if len(r.report().FellBack) > 0 {
			t.Fatal("fell back although it is renewed")
		}
	}
}
