package judge

import (
	"math"
	"math/rand/v2"
	"testing"

	"gapless"
)

// The false-alarm rates of this file are exact, but for the one that says it
// is simulated: all ways that a fine candidate's bad answers can fall are
// summed up by dynamic programming, with the judge itself deciding where to stop.

// most is the largest n for which ok(n) holds, -1 if not even ok(0) does;
// ok must be true up to some n and false from there.
func most(ok func(int) bool) int {
	if !ok(0) {
		return -1
	}
	high := 1
	for ok(high) {
		if high *= 2; high > 1<<20 {
			return high // a judge that nothing calms; the caller's bounds fail
		}
	}
	low := high / 2
	for high-low > 1 {
		if mid := (low + high) / 2; ok(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

// alarms walks over n events, each of which is a hit with probability p, and
// returns the probability that a state with worse(hits, misses) was met after
// at most 10, 100, … n events.
func alarms(n int, p float64, worse func(hits, misses int) bool) map[int]float64 {
	// A miss can only calm the judge, a hit only alarm it: one bound per number of hits.
	limit := make([]int, 0, 64)
	bound := func(hits int) int {
		for len(limit) <= hits {
			h := len(limit)
			limit = append(limit, most(func(misses int) bool { return worse(h, misses) }))
		}
		return limit[hits]
	}
	out, total := map[int]float64{}, 0.0
	prob := make([]float64, n+1)
	prob[0] = 1
	for i, mark := 1, 10; i <= n; i++ {
		for h := i; h >= 0; h-- {
			v := prob[h] * (1 - p)
			if h > 0 {
				v += prob[h-1] * p
			}
			if v > 1e-18 && i-h <= bound(h) {
				total += v
				v = 0
			}
			prob[h] = v
		}
		if i == mark || i == n {
			out[i] = total
			mark *= 10
		}
	}
	return out
}

func TestErrorsFalseAlarms(t *testing.T) {
	for _, v := range []struct {
		alpha, weight float64
		want          [3]float64 // within 10, 100, 1000 bad answers of both arms, to 4 digits
	}{
		{0.01, 0.01, [3]float64{0.0010, 0.0021, 0.0030}},
		{0.01, 0.05, [3]float64{0.0037, 0.0048, 0.0055}},
		{0.01, 0.10, [3]float64{0.0016, 0.0028, 0.0034}},
		{0.01, 0.25, [3]float64{0.0048, 0.0060, 0.0067}},
		{0.01, 0.50, [3]float64{0.0039, 0.0058, 0.0065}},
		{0.05, 0.10, [3]float64{0.0139, 0.0192, 0.0221}},
		{0.05, 0.50, [3]float64{0.0313, 0.0398, 0.0424}},
	} {
		none := fresh(t, Config{Alpha: v.alpha})
		got := alarms(1000, v.weight, func(candidate, stable int) bool {
			c := counts{v.weight, uint64(candidate), uint64(stable)}
			return none.Observe(c.tallies()).errorsAlone() >= -math.Log(v.alpha)
		})
		for i, n := range []int{10, 100, 1000} {
			if got[n] > v.alpha {
				t.Errorf("alpha %v, weight %v: %.4f false alarms within %d", v.alpha, v.weight, got[n], n)
			}
			if math.Abs(got[n]-v.want[i]) > 0.00006 {
				t.Errorf("alpha %v, weight %v: %.5f false alarms within %d, want %.4f", v.alpha, v.weight, got[n], n, v.want[i])
			}
		}
	}
}

// A candidate at exactly the ratio that is fine is fine.
func TestErrorsFalseAlarmsAtRatio(t *testing.T) {
	const weight, ratio = 0.1, 1.25
	none := fresh(t, Config{Ratio: ratio})
	run := func(theta float64) float64 {
		return alarms(300, theta, func(candidate, stable int) bool {
			c := counts{weight, uint64(candidate), uint64(stable)}
			return none.Observe(c.tallies()).sight(weight).worse() != ""
		})[300]
	}
	if got := run(weight * ratio / (1 + weight*(ratio-1))); got > 0.01 || got == 0 {
		t.Errorf("%.4f false alarms", got)
	}
	if got := run(weight * 10 / (1 + weight*9)); got < 0.99 {
		t.Errorf("ten times the rate was seen only with probability %.4f", got)
	}
}

func TestGuardFalseAlarms(t *testing.T) {
	for _, p := range []float64{0.01, 0.05, 0.5} {
		none := fresh(t, Config{PMax: p})
		run := func(share float64) float64 {
			return alarms(500, share, func(bad, good int) bool {
				tally := gapless.Tally{Release: "v2", Weight: 1, Requests: uint64(bad + good), Bad: uint64(bad)}
				return none.Observe([]gapless.Tally{tally}).sight(1).worse() != ""
			})[500]
		}
		if got := run(p); got > 0.01 || got == 0 {
			t.Errorf("limit %v: %.4f false alarms", p, got)
		}
		if got := run(min(10*p, 0.95)); got < 0.99 {
			t.Errorf("limit %v: a broken release was seen only with probability %.4f", p, got)
		}
	}
}

// Weights that change with what was seen so far, and looks after each event.
// This one is simulated, with a fixed seed.
func TestErrorsFalseAlarmsWithChangingWeights(t *testing.T) {
	const runs, alpha = 4000, 0.05
	r := rand.New(rand.NewPCG(1, 2))
	none := fresh(t, Config{Alpha: alpha})
	alarm := 0
	for range runs {
		j, weight := none, 0.01
		for range 60 {
			c := counts{weight: weight, stable: 1}
			if r.Float64() < weight {
				c.candidate, c.stable = 1, 0
			}
			j = j.Observe(c.tallies())
			if j.sight(0).worse() != "" {
				alarm++
				break
			}
			switch { // the ramp of somebody who wants an alarm
			case c.candidate == 1:
				weight = 0.05
			default:
				weight = min(weight*1.2, 0.5)
			}
			weight = math.Round(weight*100) / 100
			weight = max(weight, 0.01)
		}
	}
	got := float64(alarm) / runs
	if got > alpha || got == 0 {
		t.Errorf("%.4f false alarms at alpha %v", got, alpha)
	}
}

// Instances that fail in clumps, all of one version: 30 to 60 bad answers at
// once on one of ten instances, of which one is the candidate's. Learned from
// stable alone, phi takes the false alarms away. Simulated, with a fixed seed.
func TestTemperingOfClumps(t *testing.T) {
	const instances, clumps, runs = 10, 6, 300
	r := rand.New(rand.NewPCG(3, 4))
	var d Dispersion
	for range 360 {
		window := make([]uint64, instances-1)
		if r.Float64() < 0.15 {
			window[r.IntN(len(window))] += 30 + r.Uint64N(31)
		}
		for i := range window {
			window[i] += r.Uint64N(2)
		}
		d = d.Observe(window)
	}
	phi, known := d.Phi()
	if !known || phi < 10 {
		t.Fatalf("phi %v, known %v", phi, known)
	}
	alarmed := func(phi float64) int {
		n := 0
		for range runs {
			j := fresh(t, Config{Phi: phi})
			for range clumps {
				c := counts{weight: 0.1}
				for range 5 { // and some that come alone
					if r.Float64() < 0.1 {
						c.candidate++
					} else {
						c.stable++
					}
				}
				if size := 30 + r.Uint64N(31); r.IntN(instances) == 0 {
					c.candidate += size
				} else {
					c.stable += size
				}
				j = j.Observe(c.tallies())
				if j.sight(0).worse() != "" {
					n++
					break
				}
			}
		}
		return n
	}
	if raw := alarmed(1); raw < runs/10 {
		t.Errorf("untempered: only %d of %d runs alarmed; the clumps test nothing", raw, runs)
	}
	if tempered := alarmed(phi); tempered > runs/50 {
		t.Errorf("phi %.1f: %d of %d runs alarmed", phi, tempered, runs)
	}
}

// Where stable gives 2 % bad answers, a candidate that does, too, is not worse
// than usual; one that gives ten times as many is.
func TestGuardKnowsWhatIsNormal(t *testing.T) {
	const share, n = 0.02, 2000
	for _, c := range []struct {
		record gapless.Arm
		factor float64
		low    float64 // probability that it is called worse
		high   float64
	}{
		{gapless.Arm{Requests: 1000, Bad: 20}, 1, 0, 0.01},
		{gapless.Arm{}, 1, 0.5, 1}, // without the record: this is what the record is for
		{gapless.Arm{Requests: 1000, Bad: 20}, 10, 0.999, 1},
	} {
		none := fresh(t, Config{Record: c.record})
		got := alarms(n, share*c.factor, func(bad, good int) bool {
			tally := gapless.Tally{Release: "v2", Weight: 1, Requests: uint64(bad + good), Bad: uint64(bad)}
			return none.Observe([]gapless.Tally{tally}).sight(1).worse() != ""
		})[n]
		if got < c.low || got > c.high {
			t.Errorf("record %+v, %v times as bad: called worse with probability %.4f", c.record, c.factor, got)
		}
	}
}

// errorsAlone is the evidence of the errors test without the other ones.
func (j Judge) errorsAlone() float64 { return j.sight(0).terms[0].LnE }

type counts struct {
	weight            float64
	candidate, stable uint64 // bad answers
}

func (c counts) tallies() []gapless.Tally {
	return []gapless.Tally{
		{Release: "v2", Weight: c.weight, Requests: c.candidate, Bad: c.candidate},
		{Release: "v1", Weight: c.weight, Requests: c.stable, Bad: c.stable},
	}
}

// fresh is a judge of v2 against v1 that saw nothing.
func fresh(t *testing.T, c Config) Judge {
	t.Helper()
	c.Candidate, c.Stable = "v2", "v1"
	j, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return j
}
