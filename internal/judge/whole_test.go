package judge

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gapless"
)

// stream is what one coin after the other gave: single requests of a release
// that is bad and slow more often than stable is by a factor.
func stream(r *rand.Rand, n int, worse float64) (all []gapless.Tally) {
	for k := range n {
		t := gapless.Tally{Release: "v1", Weight: []float64{0.05, 0.1, 0.25}[k*3/n], Requests: 1}
		p := 0.02
		if r.Float64() < t.Weight {
			t.Release, p = "v2", p*worse
		}
		if r.Float64() < p {
			t.Bad = 1
		}
		for i, q := range gapless.Over() {
			slow := uint64(0)
			if r.Float64() < min(1, q*p/0.02) {
				slow = 1
			}
			t.Paces.Worse[i] = gapless.Pace{Slow: slow, Fast: 1 - slow}
			t.Paces.Margin[i] = t.Paces.Worse[i]
		}
		all = append(all, t)
	}
	return all
}

// batches cuts a stream into pieces of n requests, as the edges of two
// generations report them: one tally for each release and weight of each.
func batches(r *rand.Rand, all []gapless.Tally, n int) (cut [][]gapless.Tally) {
	for part := range slices.Chunk(all, n) {
		sums := map[string]*gapless.Tally{}
		for _, t := range part {
			key := fmt.Sprint(r.IntN(2), t.Release, t.Weight)
			if sums[key] == nil {
				sums[key] = &gapless.Tally{Release: t.Release, Weight: t.Weight}
			}
			s := sums[key]
			s.Requests, s.Bad, s.Paces = s.Requests+t.Requests, s.Bad+t.Bad, s.Paces.Plus(t.Paces)
		}
		var batch []gapless.Tally
		for _, t := range sums { // in any order
			batch = append(batch, *t)
		}
		cut = append(cut, batch)
	}
	return cut
}

// Looked at once a second or after every request, evidence is the same at the
// end of each second, and who looks seldom stops at most one second later.
// The weight rises, two generations of edges report in any order, and the judge
// is restarted all along.
func TestOnceASecondIsAsGood(t *testing.T) {
	const second = 50
	r := rand.New(rand.NewPCG(51, 52))
	stopped := 0
	for run := range 30 {
		all := stream(r, 3000, []float64{1, 3, 30}[run%3])
		often, first := fresh(t, Config{Phi: 1.5}), -1
		seldom := fresh(t, Config{Phi: 1.5})
		for k, batch := range batches(r, all, second) {
			for i, one := range all[k*second : (k+1)*second] {
				often = often.Observe([]gapless.Tally{one})
				if first < 0 && often.sight(0.1).worse() != "" {
					first = k*second + i
				}
			}
			seldom = again(t, seldom.Observe(batch))
			a, b := often.Verdict(0.1), seldom.Verdict(0.1)
			if math.Abs(a.Evidence.LnE-b.Evidence.LnE) > 1e-9 || !a.Equal(b) {
				t.Fatalf("after every request: %+v\nonce a second: %+v", a, b)
			}
			if b.Kind != gapless.Worse && first < 0 {
				continue
			}
			if b.Kind == gapless.Worse {
				stopped++
				if k != first/second {
					t.Errorf("stops in second %d, not in that of request %d", k, first)
				}
				break
			}
			if run%3 == 2 {
				t.Errorf("worse after request %d, but not at the end of its second", first)
			}
			break // a good answer of the candidate or a bad one of stable came in between
		}
	}
	if stopped < 15 {
		t.Errorf("only %d streams were stopped", stopped)
	}
}

func TestVerdictHasItAll(t *testing.T) {
	w := newTraffic(t, 3, 200, 0.1)
	w.bad = [2]float64{0.001, 0.001}
	w.known(5000)
	v := w.judge.Verdict(0)
	if v.Bound != 1 || v.Share != 0.05 || v.Bands != nil || len(v.Terms) != 4 || len(v.Proofs) != 4 || !v.NoData {
		t.Errorf("at first: %+v", v)
	}
	for range 30 {
		w.second()
	}
	v = w.judge.Verdict(0.1)
	sum := 0.0
	for _, term := range v.Terms {
		sum += term.Weight * math.Exp(term.LnE)
	}
	if math.Abs(math.Log(sum)-v.Evidence.LnE) > 1e-9 {
		t.Errorf("terms give %v, evidence is %v", math.Log(sum), v.Evidence.LnE)
	}
	if v.Kind != gapless.Undecided || v.Warming || v.Bound <= 0 || v.Bound >= 0.2 || v.Bands == nil {
		t.Errorf("after half a minute: %+v", v)
	}
	if b := v.Bands.Latency[0]; !(b.Low > 0.5 && b.Low < 1 && b.High > 1 && b.High < 2) {
		t.Errorf("p50 is within %+v", b)
	}
	more := uint64(0)
	for _, p := range v.Proofs {
		if p.Proven != (p.LnE >= math.Log(20)) || math.Abs(p.Threshold-20) > 1e-9 || !p.Proven && p.Needed == 0 {
			t.Errorf("%+v", p)
		}
		more = max(more, p.Needed)
	}
	if v.Needed.Requests != more || !strings.Contains(v.Reason, fmt.Sprintf("about %d more good ones", more)) {
		t.Errorf("%d more: %+v", more, v)
	}
	seen := v.Evidence.Candidate.Requests
	end := w.until(1000)
	if end.Kind != gapless.NotWorse || end.Share != 1 {
		t.Fatalf("in the end: %+v", end)
	}
	if took := end.Evidence.Candidate.Requests - seen; took > 4*more || took < more/4 {
		t.Errorf("it took %d more, not about %d", took, more)
	}
	if data, err := json.Marshal(end); err != nil {
		t.Errorf("%s: %v", data, err)
	}
}

// A good release is let through, a slow one is not, over many seeds.
func TestDecisions(t *testing.T) {
	for name, c := range map[string]struct {
		slower, bad float64
		want        gapless.VerdictKind
	}{
		"good": {1, 0.001, gapless.NotWorse}, "half as slow again": {1.5, 0.001, gapless.Worse}, "5 % bad": {1, 0.05, gapless.Worse},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := 0
			for seed := range uint64(20) {
				w := newTraffic(t, 200+seed, 300, 0.2)
				w.bad = [2]float64{0.001, c.bad}
				w.candidate = w.times(func(float64) float64 { return c.slower })
				w.known(5000)
				if v := w.until(180); v.Kind != c.want {
					wrong++
				}
			}
			if wrong > 1 {
				t.Errorf("%d of 20 are not %s", wrong, c.want)
			}
		})
	}
}

// A service that nothing is known of is never proven to be as fast.
func TestNothingIsProvenWithoutLatency(t *testing.T) {
	j := fresh(t, Config{}).Observe([]gapless.Tally{{Release: "v2", Weight: 0.1, Requests: 1e5}, {Release: "v1", Weight: 0.1, Requests: 9e5}})
	v := j.Verdict(0.1)
	if v.Kind != gapless.Undecided || !v.Proofs[0].Proven || v.Proofs[1].Proven || v.Needed.Requests != 0 || v.Share != 0.5 {
		t.Errorf("%+v", v)
	}
	if !strings.HasSuffix(v.Reason, "stable's p50 is not known yet") {
		t.Error(v.Reason)
	}
	off := Config{Slower: [gapless.Quantiles]float64{0, 0, -1}}
	if v := fresh(t, off).Verdict(0.1); len(v.Proofs) != 3 {
		t.Errorf("without p99: %+v", v.Proofs)
	}
}

func TestShare(t *testing.T) {
	for _, v := range []struct {
		bound, now float64
		warming    bool
		budget     float64
		want       float64
	}{
		{1, 0, false, 0, 0.05},
		{1, 0.05, false, 0, 0.05},
		{0.05, 0.05, false, 0, 0.1},
		{0.02, 0.05, false, 0, 0.25},
		{0.01, 0.05, false, 0, 0.5},
		{0.0005, 0.05, false, 0, 0.5},
		{0.02, 0.05, true, 0, 0.05},  // warming up: it waits
		{0.02, 0.1, true, 0, 0.1},    // and keeps what it has
		{0.02, 0, true, 0, 0.05},     // beginning
		{0.019, 0.5, false, 0, 0.5},  // a little too wide: it keeps what it has
		{0.03, 0.5, false, 0, 0.25},  // too wide: down
		{0.03, 0.5, true, 0, 0.25},   // warming or not
		{1, 0.5, false, 0, 0.1},      // an unknown one is found soon
		{1, 0, false, 0.001, 0.01},   // who may lose little begins with little
		{1, 0, false, 0.00001, 0.01}, // but with something
		{1, 0, false, 0.02, 0.1},
		{0.02, 0.1, false, 0.001, 0.1},
	} {
		c := Config{Budget: v.budget}.withDefaults()
		if got := c.share(v.bound, v.now, v.warming); got != v.want {
			t.Errorf("%+v: %v", v, got)
		}
	}
	// A good release climbs the ladder, never over what the bound allows.
	w := newTraffic(t, 5, 500, 0.05)
	w.known(5000)
	shares := []float64{0.05}
	for range 120 {
		w.second()
		v := w.judge.Verdict(w.weight)
		if v.Kind != gapless.Undecided {
			break
		}
		if v.Share > w.weight {
			if v.Share*min(v.Bound, boundAtFirst) > 0.005+1e-9 {
				t.Fatalf("share %v with bound %v", v.Share, v.Bound)
			}
			w.weight = v.Share
			shares = append(shares, v.Share)
		}
	}
	if len(shares) < 3 || shares[len(shares)-1] != 0.5 {
		t.Errorf("shares: %v", shares)
	}
}

func TestAlert(t *testing.T) {
	batch := func(c, s uint64) []gapless.Tally {
		return []gapless.Tally{{Release: "v2", Weight: 0.1, Requests: 100, Bad: c}, {Release: "v1", Weight: 0.1, Requests: 900, Bad: s}}
	}
	v := fresh(t, Config{}).Observe(batch(20, 180)).Verdict(0.1)
	if v.Kind != gapless.Undecided || v.Alert != "both releases give bad answers to over 1 % of their requests: v2: 20 of 100 bad, v1: 180 of 900 bad" {
		t.Errorf("both bad: %+v", v)
	}
	for name, quiet := range map[string]gapless.Verdict{
		"fine":           fresh(t, Config{}).Observe(batch(1, 9)).Verdict(0.1),
		"candidate only": fresh(t, Config{}).Observe(batch(20, 0)).Verdict(0.1),
		"stable only":    fresh(t, Config{}).Observe(batch(0, 180)).Verdict(0.1),
		"always so":      fresh(t, Config{Record: gapless.Arm{Requests: 10000, Bad: 2000}}).Observe(batch(20, 180)).Verdict(0.1),
	} {
		if quiet.Alert != "" {
			t.Errorf("%s: %s", name, quiet.Alert)
		}
	}
}

// The band of a quantile lies within the one that holds for all quantiles at
// once, and holds the truth.
func TestQuantileBand(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 62))
	broken := 0
	for range 100 {
		var h histogram
		for n := 1; n <= 20000; n++ {
			h[gapless.LatencyBucket(uint64(50_000*math.Exp(0.8*r.NormFloat64())))]++
			if n%1000 != 0 {
				continue
			}
			for i, over := range gapless.Over() {
				q, alpha := 1-over, 0.005
				b := h.band(q, alpha)
				truth := 50_000 * math.Exp(0.8*[]float64{0, 1.2815515655446004, 2.3263478740408408}[i])
				if b.Low > truth || b.High > 0 && b.High < truth {
					broken++
				}
				wide := uniform(float64(n), alpha)
				low, high := h.quantile(max(0, q-wide)), h.quantile(min(1, q+wide))
				if q-wide > 0 && b.Low < float64(gapless.LatencyBucketStart(gapless.LatencyBucket(uint64(low.Microseconds())))) {
					t.Fatalf("n %d, quantile %v: low %v, uniform %v", n, q, b.Low, low)
				}
				if q+wide < 1 && (b.High == 0 || time.Duration(b.High)*time.Microsecond > high*3/2) {
					t.Fatalf("n %d, quantile %v: high %v, uniform %v", n, q, b.High, high)
				}
			}
		}
	}
	if broken > 5 {
		t.Errorf("the truth was outside %d times", broken)
	}
	if got := quotient(gapless.Band{Low: 2}, gapless.Band{Low: 1, High: 4}); got != (gapless.Band{Low: 0.5}) {
		t.Errorf("an unknown end: %+v", got)
	}
}

// More weights than there is place for: errors still count, and never for more
// than they are worth.
func TestManyWeights(t *testing.T) {
	j := fresh(t, Config{})
	for k := range 200 {
		j = j.Observe([]gapless.Tally{{Release: "v1", Weight: float64(k+1) / 1000, Requests: 10}})
	}
	if len(j.Rows) != mostRows || len(j.Rough) == 0 || len(j.Rough) > 15 {
		t.Fatalf("%d rows, %d rough", len(j.Rows), len(j.Rough))
	}
	before := len(j.Rough)
	v := again(t, j.Observe(counts{0.195, 4, 0}.tallies())).Verdict(0.195)
	exact := fresh(t, Config{}).Observe(counts{0.195, 4, 0}.tallies()).Verdict(0.195)
	if v.Kind != gapless.Worse || v.Evidence.LnE > exact.Evidence.LnE {
		t.Errorf("%+v", v)
	}
	if j.Observe(counts{0.97, 4, 0}.tallies()); len(j.Rough) != before {
		t.Error("Observe changed the judge that it was called on")
	}
	if v := j.Observe(counts{0.97, 40, 0}.tallies()).Verdict(0.1); v.Test == gapless.TestGuard {
		t.Errorf("what had a control was judged without: %+v", v)
	}
}

// What an earlier version saved is read, and judged as before.
func TestOldState(t *testing.T) {
	old := `{"config":{"candidate":"v2","stable":"v1","alpha":0.01,"ratio":1,"p_max":0.01,"phi":1,"record":{"requests":100,"bad":1}},"rows":[{"weight":0.1,"candidate":{"requests":31,"bad":3},"stable":{"requests":912,"bad":0}}]}`
	var j Judge
	if err := json.Unmarshal([]byte(old), &j); err != nil {
		t.Fatal(err)
	}
	if v := j.Verdict(0.1); v.Kind != gapless.Worse || v.Evidence.Candidate.Bad != 3 || v.Proofs[0].Margin != 0.005 {
		t.Errorf("%+v", v)
	}
	if j = j.Learn(gapless.LatencyLook{At: epoch}); j.Limits().Version != 0 {
		t.Errorf("%+v", j.Limits())
	}
}

// What a judge keeps, and what a verdict costs, does not grow with traffic.
func TestCost(t *testing.T) {
	j := fresh(t, Config{Record: gapless.Arm{Requests: 1e15, Bad: 1e12}})
	full := make([]uint64, gapless.LatencyBuckets)
	for b := range full {
		full[b] = 1e12 + uint64(b)
	}
	var instances []string
	for k := range 300 {
		instances = append(instances, fmt.Sprintf("a-rather-long-instance-name-%d", k))
	}
	j.Config.Latency = [gapless.LatencyBuckets]uint64(full)
	many := gapless.Paces{}
	for i := range gapless.Quantiles {
		many.Worse[i] = gapless.Pace{Fast: 1e12 + 7, Slow: 1e12 + 9}
		many.Margin[i] = many.Worse[i]
	}
	for k := range 80 {
		w := float64(k+1) / 97
		j = j.Observe([]gapless.Tally{{Release: "v2", Weight: w, Requests: 1e13, Bad: 1e11, Paces: many}, {Release: "v1", Weight: w, Requests: 1e13, Bad: 1e11, Paces: many}})
		j = j.Learn(gapless.LatencyLook{At: epoch.Add(time.Duration(k) * 1234567891), Stable: full, Candidate: full, Instances: instances})
	}
	data, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	names, err := json.Marshal(instances) // all that serve are remembered
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 60<<10+len(names) {
		t.Errorf("%d bytes of JSON, %d of them names of instances", len(data), len(names))
	}
	t.Logf("%d bytes of JSON", len(data))
	again(t, j)
	ramp := fresh(t, Config{})
	for _, w := range ladder {
		ramp = ramp.Observe([]gapless.Tally{{Release: "v2", Weight: w, Requests: 1e6, Bad: 1e3, Paces: many}, {Release: "v1", Weight: w, Requests: 1e6, Bad: 1e3, Paces: many}})
	}
	batch := counts{0.1, 1, 9}.tallies()
	if n := testing.AllocsPerRun(100, func() { ramp.Observe(batch).Verdict(0.1) }); n > 50 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkJudge is what a judge costs in a second of a ramp with 1000
// requests: ten looks. Per request.
func BenchmarkJudge(b *testing.B) {
	j, err := New(Config{Candidate: "v2", Stable: "v1"})
	if err != nil {
		b.Fatal(err)
	}
	full := make([]uint64, gapless.LatencyBuckets)
	for k := range full {
		full[k] = 10
	}
	many := gapless.Paces{}
	for i := range gapless.Quantiles {
		many.Worse[i] = gapless.Pace{Fast: 90, Slow: 10}
		many.Margin[i] = many.Worse[i]
	}
	for _, w := range ladder[2:] {
		j = j.Observe([]gapless.Tally{{Release: "v2", Weight: w, Requests: 100, Bad: 1, Paces: many}, {Release: "v1", Weight: w, Requests: 100, Bad: 1, Paces: many}})
	}
	batch := []gapless.Tally{{Release: "v2", Weight: 0.5, Requests: 50, Paces: many}, {Release: "v1", Weight: 0.5, Requests: 50, Bad: 1, Paces: many}}
	n := 0
	for b.Loop() {
		if n++; n%100 == 0 {
			j = j.Observe(batch)
			j.Verdict(0.5)
		}
		if n%1000 == 0 {
			j = j.Learn(gapless.LatencyLook{At: epoch.Add(time.Duration(n) * time.Millisecond), Stable: full, Candidate: full})
		}
	}
	if per := b.Elapsed() / time.Duration(b.N); os.Getenv("GAPLESS_TIMES") != "" && b.N > 1000 && per > time.Microsecond {
		b.Errorf("judging takes %s per request, more than 1 µs", per)
	}
}
