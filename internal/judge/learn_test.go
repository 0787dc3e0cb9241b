package judge

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"gapless"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// traffic is what both releases are given, request by request, and the judge
// that sees it. It looks once a second.
type traffic struct {
	t         *testing.T
	dice      *rand.Rand
	judge     Judge
	rps       int
	weight    float64
	stable    func() time.Duration // of one request
	candidate func() time.Duration
	bad       [2]float64 // shares of stable's and the candidate's answers

	at        time.Duration
	instances []string
	restart   bool // the judge, every second
}

func newTraffic(t *testing.T, seed uint64, rps int, weight float64) *traffic {
	w := &traffic{t: t, dice: rand.New(rand.NewPCG(seed, 1)), judge: fresh(t, Config{}), rps: rps, weight: weight, instances: []string{"v1/1", "v1/2", "v2/1"}}
	w.stable = w.lognormal(50*time.Millisecond, 0.8)
	w.candidate = w.stable
	return w
}

func (w *traffic) lognormal(median time.Duration, sigma float64) func() time.Duration {
	return func() time.Duration { return time.Duration(float64(median) * math.Exp(sigma*w.dice.NormFloat64())) }
}

// times is the candidate slowed down by what factor says of the time.
func (w *traffic) times(factor func(seconds float64) float64) func() time.Duration {
	return func() time.Duration { return time.Duration(float64(w.stable()) * factor(w.at.Seconds())) }
}

// known lets the judge know what stable takes, as it is when a rollout begins.
func (w *traffic) known(requests int) {
	for range requests {
		w.judge.Config.Latency[gapless.LatencyBucket(uint64(w.stable().Microseconds()))]++
	}
}

// second is one second of traffic, at the end of which the judge learns.
func (w *traffic) second() {
	limits := w.judge.Limits()
	tallies := [2]gapless.Tally{{Release: "v1", Weight: w.weight}, {Release: "v2", Weight: w.weight}}
	look := gapless.LatencyLook{Stable: make([]uint64, gapless.LatencyBuckets), Candidate: make([]uint64, gapless.LatencyBuckets), Instances: w.instances}
	for range w.rps {
		arm, took, counts, worse, margin := 0, w.stable, look.Stable, limits.Quantile, limits.Quantile
		if w.dice.Float64() < w.weight {
			arm, took, counts, worse, margin = 1, w.candidate, look.Candidate, limits.Worse, limits.Margin
		}
		d := took()
		counts[gapless.LatencyBucket(uint64(d.Microseconds()))]++
		tally := &tallies[arm]
		tally.Requests++
		if w.dice.Float64() < w.bad[arm] {
			tally.Bad++
		}
		for i := range gapless.Quantiles {
			count(&tally.Paces.Worse[i], d, worse[i])
			count(&tally.Paces.Margin[i], d, margin[i])
		}
	}
	w.at += time.Second
	look.At = epoch.Add(w.at)
	w.judge = w.judge.Observe(tallies[:]).Learn(look)
	if w.restart {
		w.judge = again(w.t, w.judge)
	}
}

func count(p *gapless.Pace, took, limit time.Duration) {
	switch {
	case limit == 0:
	case took > limit:
		p.Slow++
	default:
		p.Fast++
	}
}

// again is a judge after a restart.
func again(t *testing.T, j Judge) Judge {
	t.Helper()
	b, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var back Judge
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, j) || !back.Equal(j) {
		t.Fatalf("%+v came back as %+v", j, back)
	}
	return back
}

// until runs until a verdict is reached, for at most so many seconds.
func (w *traffic) until(seconds int) gapless.Verdict {
	for range seconds {
		w.second()
		if v := w.judge.Verdict(w.weight); v.Kind != gapless.Undecided {
			return v
		}
	}
	return w.judge.Verdict(w.weight)
}

func TestHistogram(t *testing.T) {
	var h histogram
	if h.quantile(0.5) != 0 || h.over(time.Second) != 0 {
		t.Error("an empty histogram has quantiles")
	}
	counts := make([]uint64, gapless.LatencyBuckets+5) // more than there are
	counts[gapless.LatencyBucket(1024)] = 100          // 1024…1280 µs
	counts[gapless.LatencyBucket(8192)] = 100          // 8192…10240 µs
	h.add(counts)
	for q, want := range map[float64]time.Duration{0.25: 1152 * time.Microsecond, 0.5: 1280 * time.Microsecond, 0.75: 9216 * time.Microsecond, 1: 10240 * time.Microsecond} {
		if got := h.quantile(q); got != want {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
		if got := h.over(h.quantile(q)); math.Abs(got-(1-q)) > 1e-9 {
			t.Errorf("over the quantile %v: %v", q, got)
		}
	}
	if got := h.over(0); got != 1 {
		t.Errorf("over nothing: %v", got)
	}
	if got := h.over(time.Hour); got != 0 {
		t.Errorf("over an hour: %v", got)
	}
}

// A quantile has a limit once enough is known of it, from the past alone, and
// limits change when they have moved.
func TestLimits(t *testing.T) {
	counts := func(cs, n uint64) []uint64 { // hundredths of a second
		c := make([]uint64, gapless.LatencyBuckets)
		c[gapless.LatencyBucket(cs*10_000)] = n
		return c
	}
	at := epoch
	look := func(j Judge, cs, n uint64) Judge {
		at = at.Add(time.Second)
		return j.Learn(gapless.LatencyLook{At: at, Stable: counts(cs, n)})
	}
	j := fresh(t, Config{})
	if j.Limits() != (gapless.LatencyLimits{}) {
		t.Errorf("limits of nothing: %+v", j.Limits())
	}
	j = look(j, 10, 99)
	if j.Limits() != (gapless.LatencyLimits{}) {
		t.Errorf("limits after 99: %+v", j.Limits())
	}
	j = look(j, 10, 1)
	l := j.Limits()
	if l.Version != 1 || l.Candidate != "v2" || l.Stable != "v1" || l.Quantile[0] == 0 || l.Quantile[1] < l.Quantile[0] || l.Quantile[2] != 0 || l.Worse[2] != 0 || l.Margin[2] != 0 {
		t.Errorf("limits after 100: %+v", l)
	}
	for i, margin := range []float64{0.1, 0.15} {
		if worse, far := float64(l.Worse[i])/float64(l.Quantile[i]), float64(l.Margin[i])/float64(l.Quantile[i]); math.Abs(worse-1-tol[i]) > 1e-6 || math.Abs(far-1-margin) > 1e-6 {
			t.Errorf("quantile %d: worse at %v, margin at %v", i, worse, far)
		}
	}
	for range 9 {
		j = look(j, 10, 100)
	}
	if got := j.Limits(); got.Version != 2 || got.Quantile[2] == 0 || got.Quantile[0] != l.Quantile[0] {
		t.Errorf("limits after 1000: %+v", got)
	}
	for range 30 {
		j = look(j, 10, 100)
	}
	if got := j.Limits(); got.Version != 2 {
		t.Errorf("nothing moved, but limits have version %d", got.Version)
	}
	before := j.Limits().Version
	for range 10 {
		j = look(j, 30, 5000)
		j = j.Learn(gapless.LatencyLook{At: at.Add(100 * time.Millisecond), Stable: counts(60, 5000)})
	}
	if got := j.Limits(); got.Version == before || got.Version > before+11 || got.Quantile[0] < 250*time.Millisecond {
		t.Errorf("after it got slower: %+v, before version %d", got, before)
	}
	if !again(t, j).Equal(j) {
		t.Error("a restart changed it")
	}
	known := fresh(t, Config{Latency: [gapless.LatencyBuckets]uint64(counts(10, 1e9))}) // the record of before
	known = look(known, 10, 0)
	if l := known.Limits(); l.Quantile[2] == 0 {
		t.Errorf("with a record: %+v", l)
	}
	if n := known.Learned.Usual.total(); n > record {
		t.Errorf("the record counts for %v requests", n)
	}
	for range 3600 {
		known = look(known, 10, 0)
	}
	if n := known.Learned.Usual.total(); math.Abs(n-remember) > 1 {
		t.Errorf("after a silent hour %v requests are remembered", n)
	}
	off := fresh(t, Config{Slower: [gapless.Quantiles]float64{-1, -1, -1}, Latency: [gapless.LatencyBuckets]uint64(counts(10, 1e4))})
	if l := look(off, 10, 0).Limits(); l.Margin[0] != l.Quantile[0]+harmless || l.Worse[0] <= l.Margin[0] {
		t.Errorf("without margins: %+v", l)
	}
	swift := make([]uint64, gapless.LatencyBuckets)
	swift[gapless.LatencyBucket(400)] = 1000
	l = fresh(t, Config{}).Learn(gapless.LatencyLook{At: epoch, Stable: swift}).Limits()
	for i := range gapless.Quantiles { // what takes less than a millisecond may take one more
		if tau := l.Quantile[i]; tau > time.Millisecond || l.Worse[i] != tau+harmless || l.Margin[i] != tau+harmless {
			t.Errorf("limits of a swift service: %+v", l)
		}
	}
}

// A limit finds the share of stable's requests that it is to have, however
// narrow the buckets of time are that they fall into.
func TestLimitsAreCorrected(t *testing.T) {
	w := newTraffic(t, 1, 1000, 0.1)
	w.instances = nil
	w.stable = func() time.Duration {
		return 50*time.Millisecond + time.Duration(w.dice.Int64N(int64(time.Millisecond)))
	}
	w.candidate = w.stable
	w.known(2000)
	w.restart = true
	v := w.until(60)
	if v.Kind != gapless.NotWorse {
		t.Errorf("all requests take the same: %+v", v)
	}
	before := paced(w.judge.Rows, 0, (*Row).worse).stable
	for range 10 {
		w.second()
	}
	after := paced(w.judge.Rows, 0, (*Row).worse).stable
	if share := float64(after.Slow-before.Slow) / float64(after.Slow+after.Fast-before.Slow-before.Fast); share < 0.25 || share > 0.75 {
		t.Errorf("%.3f of stable's requests are slow by its p50", share)
	}
}

func TestWarmUp(t *testing.T) {
	warmed := func(w *traffic, most int) (seconds int, requests uint64) {
		w.known(2000)
		for i := range most {
			w.second()
			v := w.judge.Verdict(w.weight)
			if !v.Warming {
				return i + 1, v.Evidence.Candidate.Requests
			}
			if l := w.judge.Limits(); l.Quantile != [gapless.Quantiles]time.Duration{} {
				t.Fatalf("limits while it warms up: %+v", l)
			}
		}
		return most, w.judge.Verdict(w.weight).Evidence.Candidate.Requests
	}
	t.Run("warm at once", func(t *testing.T) {
		total := uint64(0)
		for seed := range uint64(20) {
			seconds, requests := warmed(newTraffic(t, seed, 100, 0.1), 60)
			if total += requests; seconds > 30 {
				t.Errorf("it took %d s", seconds)
			}
		}
		if total > 20*40 {
			t.Errorf("%d requests on average", total/20)
		}
	})
	t.Run("cold", func(t *testing.T) {
		for seed := range uint64(20) {
			w := newTraffic(t, seed, 100, 0.1)
			w.candidate = w.times(func(s float64) float64 { return 1 + 9*math.Exp(-s/10) })
			if seconds, _ := warmed(w, 130); seconds < 15 || seconds > 121 {
				t.Errorf("warm after %d s, when it was %.2f times slower", seconds, 1+9*math.Exp(-float64(seconds)/10))
			}
		}
	})
	t.Run("slow for good", func(t *testing.T) {
		for seed := range uint64(20) {
			w := newTraffic(t, seed, 100, 0.1)
			w.candidate = w.times(func(float64) float64 { return 3 })
			if seconds, _ := warmed(w, 70); seconds < 15 || seconds > 61 {
				t.Errorf("warm after %d s", seconds)
			}
			if v := w.until(10); v.Kind != gapless.Worse || v.Test == gapless.TestErrors {
				t.Errorf("three times slower: %+v", v)
			}
		}
	})
	t.Run("no traffic", func(t *testing.T) {
		w := newTraffic(t, 1, 100, 0)
		w.weight = 1e-12
		if seconds, _ := warmed(w, 120); seconds < 120 {
			t.Errorf("warm without a request after %d s", seconds)
		}
	})
	t.Run("little traffic", func(t *testing.T) {
		w := newTraffic(t, 1, 1, 0.1)
		if seconds, _ := warmed(w, 200); seconds > 180 {
			t.Errorf("not warm after %d s", seconds)
		}
	})
	t.Run("stable is not known", func(t *testing.T) {
		w := newTraffic(t, 1, 100, 0.1)
		for range 30 {
			w.second()
		}
		if v := w.judge.Verdict(0.1); v.Warming || w.judge.Limits().Quantile[1] == 0 {
			t.Errorf("%+v", v)
		}
	})
	t.Run("another instance", func(t *testing.T) {
		w := newTraffic(t, 1, 100, 0.1)
		warmed(w, 60)
		version := w.judge.Limits().Version
		w.instances = append(slices.Clone(w.instances), "v2/2")
		w.rps = 1
		w.second()
		l := w.judge.Limits()
		if v := w.judge.Verdict(0.1); !v.Warming || l.Version != version+1 || l.Quantile[0] != 0 {
			t.Errorf("%+v", l)
		}
		if errors := w.judge.Observe(counts{0.1, 3, 0}.tallies()).Verdict(0.1); errors.Kind != gapless.Worse {
			t.Errorf("errors while it warms up: %+v", errors)
		}
		w.rps = 100
		for range 30 {
			w.second()
		}
		if got := w.judge.Limits(); got.Version <= l.Version || got.Quantile[0] == 0 {
			t.Errorf("after it: %+v", got)
		}
	})
	t.Run("off", func(t *testing.T) {
		w := newTraffic(t, 1, 100, 0.1)
		w.judge = fresh(t, Config{WarmUp: -1})
		w.known(2000)
		w.second()
		if w.judge.Limits().Quantile[2] == 0 {
			t.Error("no limits after a second")
		}
	})
}

// What a cold start leaves behind is no reason to go back.
func TestColdStartIsNotSlow(t *testing.T) {
	const runs = 50
	alarms := 0
	for seed := range uint64(runs) {
		w := newTraffic(t, 100+seed, 100, 0.1)
		tau := []float64{1, 2, 5, 10, 20}[seed%5]
		w.candidate = w.times(func(s float64) float64 { return 1 + 9*math.Exp(-s/tau) })
		w.known(2000)
		if v := w.until(150); v.Kind == gapless.Worse {
			alarms++
		}
	}
	if alarms > runs/20 {
		t.Errorf("%d of %d fine candidates were called slower", alarms, runs)
	}
}

// The instances that were seen are not remembered without end.
func TestInstancesAreBounded(t *testing.T) {
	j := fresh(t, Config{})
	for i := range 2000 {
		j = j.Learn(gapless.LatencyLook{At: epoch.Add(time.Duration(i) * time.Second), Instances: []string{fmt.Sprint("v2/", i)}})
	}
	if n := len(j.Learned.Instances); n > mostInstances {
		t.Errorf("%d instances", n)
	}
}

// However many serve, each of them is new once.
func TestManyInstancesAreNewOnce(t *testing.T) {
	var serving []string
	for i := range 2*mostInstances + 1 {
		serving = append(serving, fmt.Sprint("v1/", i))
	}
	var l Learned
	if !l.meet(serving) || l.meet(serving) {
		t.Error("instances that serve are forgotten")
	}
	if !l.meet(append(slices.Clone(serving), "v2/1")) || l.meet(serving[1:]) {
		t.Error("one more makes others new")
	}
	if n := len(l.Instances); n > len(serving)+1 {
		t.Errorf("%d instances", n)
	}
}

// TestLimitsOfTheUnsure: where nothing is known of how instances differ, a
// little slower is not held against a release.
func TestLimitsOfTheUnsure(t *testing.T) {
	for _, c := range []struct {
		stable          time.Duration
		unsure, atLeast time.Duration // beyond stable's p50
	}{
		{2 * time.Millisecond, 5 * time.Millisecond, time.Millisecond},
		{100 * time.Millisecond, 25 * time.Millisecond, 5 * time.Millisecond},
	} {
		for _, unsure := range []bool{false, true} {
			j := fresh(t, Config{Unsure: unsure})
			latency := make([]uint64, gapless.LatencyBuckets)
			latency[gapless.LatencyBucket(uint64(c.stable/time.Microsecond))] = 1000
			l := j.Learn(gapless.LatencyLook{At: epoch, Stable: latency}).Limits()
			want := map[bool]time.Duration{false: c.atLeast, true: c.unsure}[unsure]
			if got := l.Worse[0] - l.Quantile[0]; l.Version == 0 || got < want*9/10 || got > want*14/10 {
				t.Errorf("stable takes %s, unsure %v: %s more is slower, want %s", c.stable, unsure, got, want)
			}
		}
	}
}
