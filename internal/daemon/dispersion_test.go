package daemon

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"gapless"
)

// hour plays an hour of a release alone, second by second.
type hour struct {
	rng       *rand.Rand
	instances int
	rps       float64
	share     func(instance int) float64 // of the requests; nil: equal
	bad       float64                    // share of bad answers
	hiccup    time.Duration              // mean time between the hiccups of an instance; 0: none
	fails     float64                    // share of requests that fail in a hiccup, which lasts a second
	slows     float64                    // by how much it makes requests slower; 0: not at all
}

// poisson is fit for the small and large means here.
func poisson(rng *rand.Rand, mean float64) uint64 {
	if mean > 50 {
		return uint64(max(0, math.Round(mean+math.Sqrt(mean)*rng.NormFloat64())))
	}
	n, p, limit := uint64(0), rng.Float64(), math.Exp(-mean)
	for ; p > limit; n++ {
		p *= rng.Float64()
	}
	return n
}

var began = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// play returns the record of it.
func (h hour) play() *stableRecord {
	r := &stableRecord{Release: "v1"}
	for window := range int(recordTime / windowTime) {
		w := recordWindow{latency: make([]uint64, gapless.LatencyBuckets), instances: make([]instanceWindow, h.instances)}
		for i := range w.instances {
			x := &w.instances[i]
			x.latency = make([]uint64, gapless.LatencyBuckets)
			share := 1 / float64(h.instances)
			if h.share != nil {
				share = h.share(i)
			}
			for range int(windowTime / time.Second) {
				n := poisson(h.rng, h.rps*share)
				fails, slows := h.bad, 1.0
				if h.hiccup > 0 && h.rng.Float64() < float64(time.Second)/float64(h.hiccup) {
					fails, slows = max(h.bad, h.fails), max(1, h.slows)
				}
				w.requests += n
				for range n {
					if h.rng.Float64() < fails {
						x.bad++
					}
					ms := 50 * math.Exp(0.8*h.rng.NormFloat64()) * slows
					x.latency[gapless.LatencyBucket(uint64(ms*1000))]++
				}
			}
			w.bad += x.bad
			w.latency = plusCounts(w.latency, x.latency)
		}
		r.add(began.Add(time.Duration(window+1)*windowTime-time.Second), w)
	}
	return r
}

func (h hour) seeded(seed uint64) hour {
	h.rng = rand.New(rand.NewPCG(seed, 21))
	return h
}

// Instances that are alike are told to be: whatever they were given, and
// whatever they do together.
func TestEqualInstancesDoNotDiffer(t *testing.T) {
	uneven := func(i int) float64 { return []float64{0.4, 0.3, 0.2, 0.1}[i] }
	for what, h := range map[string]hour{
		"five":      {instances: 5, rps: 60, bad: 0.01},
		"two":       {instances: 2, rps: 60, bad: 0.01},
		"uneven":    {instances: 4, rps: 60, share: uneven},
		"no errors": {instances: 3, rps: 60},
	} {
		r := h.seeded(3).play()
		errors, slow, known := r.phi()
		if !known || errors > 1.25 || slow[0] > 1.25 || slow[1] > 1.25 || slow[2] > 1.25 {
			t.Errorf("%s: %.2f and %.2f, known %v", what, errors, slow, known)
		}
		if r.Slices[5].Slow[0].Chance == 0 || r.Slices[5].Slow[2].Chance == 0 {
			t.Errorf("%s: slow requests were not compared: %+v", what, r.Slices[5])
		}
	}
}

// The hiccups that the reference's table was measured with (each of ten
// instances fails half of its requests for a second, about every ten minutes)
// give about its dispersions: 3.4 at 100 requests per second, 26 at 1000.
func TestHiccupsAreLearned(t *testing.T) {
	for _, c := range []struct{ rps, low, high float64 }{{100, 2, 5}, {1000, 15, 36}} {
		errors, _, known := hour{instances: 10, rps: c.rps, bad: 0.001, hiccup: 10 * time.Minute, fails: 0.5}.seeded(5).play().phi()
		if !known || errors < c.low || errors > c.high {
			t.Errorf("at %v requests/s: %.2f, want %v to %v", c.rps, errors, c.low, c.high)
		}
	}
	errors, slow, _ := hour{instances: 5, rps: 100, bad: 0.001, hiccup: time.Minute, slows: 5}.seeded(6).play().phi()
	if errors > 1.25 || slow[0] < 1.2 || slow[1] < 2 || slow[2] < 2 {
		t.Errorf("instances that pause: %.2f of errors, %.2f of slow requests", errors, slow)
	}
}

// One instance cannot be compared with others: nothing is known, and nothing claimed.
func TestOneInstanceIsUnknown(t *testing.T) {
	r := hour{instances: 1, rps: 50, bad: 0.01, hiccup: time.Minute, fails: 0.5, slows: 5}.seeded(7).play()
	errors, slow, known := r.phi()
	if known || errors != 1 || slow != [3]float64{1, 1, 1} {
		t.Errorf("%v %v %v", errors, slow, known)
	}
	if all := r.arm(); all.Requests < 100_000 || all.Bad == 0 {
		t.Errorf("%+v", all)
	}
}

// What is longer ago than an hour counts no more, latencies after ten minutes;
// it is small, and a daemon that goes on from what was written knows the same.
func TestRecordsAreShortAndSmall(t *testing.T) {
	r := hour{instances: 4, rps: 30, bad: 0.01, hiccup: time.Minute, fails: 0.9, slows: 4}.seeded(8).play()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 8<<10 || len(r.Slices) > 7 || len(r.Minutes) > 11 {
		t.Errorf("%d bytes, %d slices, %d minutes", len(data), len(r.Slices), len(r.Minutes))
	}
	var again stableRecord
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	errors, slow, known := r.phi()
	if e, s, k := again.phi(); e != errors || s != slow || k != known || errors < 2 {
		t.Errorf("%v %v %v, then %v %v %v", errors, slow, known, e, s, k)
	}
	_, n := r.latency()
	if _, m := again.latency(); m != n || n < 9*60*30*9/10 || n > 11*60*30*11/10 {
		t.Errorf("latencies of %d requests, then %d", n, m)
	}
	again.forget(began.Add(recordTime + 11*time.Minute)) // slices of 12:00 and 12:10 began too long ago
	if _, n := again.latency(); n != 0 || len(again.Slices) != 4 {
		t.Errorf("later: latencies of %d requests, %d slices", n, len(again.Slices))
	}
	again.forget(began.Add(3 * recordTime))
	if _, _, known := again.phi(); known || len(again.Slices) != 0 {
		t.Error("something is remembered for ever")
	}
	again = *r
	if again.forget(began.Add(-time.Hour)); len(again.Slices)+len(again.Minutes) != 0 {
		t.Error("the clock was set back: what is of the future counts for ever")
	}
}
