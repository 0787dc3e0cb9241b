package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"gapless"
)

// A small version of the simulator, so that it cannot rot. The numbers that
// count are made by make bench-judge.

func find(t *testing.T, about string) cell {
	t.Helper()
	for _, c := range grid() {
		if c.about == about {
			return c
		}
	}
	t.Fatalf("no cell %q", about)
	return cell{}
}

func play(t *testing.T, about string, runs int) result {
	t.Helper()
	c := find(t, about)
	c.seconds = min(c.seconds, 1200)
	r, err := c.play(7, runs, 2)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSmall(t *testing.T) {
	t.Run("a good candidate", func(t *testing.T) {
		r := play(t, "shared incidents, 100/s, share 10 %", 60)
		if n := r.rules[0].takenBack; n > 3 { // at 1 % so many are seen in one of 300 seeds
			t.Errorf("the judge took %d of 60 good candidates back", n)
		}
		if n := r.rules[1].takenBack; n < 10 {
			t.Errorf("%s took only %d of 60 back: are there incidents?", r.rules[1].name, n)
		}
	})
	t.Run("a broken candidate", func(t *testing.T) {
		r := play(t, "100/s, 0 % → 100 % bad, share 10 %", 40)
		if len(r.unreached()) > 0 {
			t.Error(r.unreached())
		}
		if g := r.rules[0]; g.bad.mean() < 2 || g.takenBack != 40 {
			t.Errorf("taken back %d of 40 after %v bad answers: nobody can know that", g.takenBack, g.bad.mean())
		}
		if a := r.rules[1]; a.takenBack != 40 || a.at[0] != 60 || a.bad.mean() < 400 {
			t.Errorf("%s: %d of 40 at %v s after %v bad answers, want all at 60 after some 600", a.name, a.takenBack, a.at[0], a.bad.mean())
		}
	})
	t.Run("a slow candidate", func(t *testing.T) {
		r := play(t, "100/s, × 3, share 10 %", 40)
		if len(r.unreached()) > 0 {
			t.Error(r.unreached())
		}
		if g := r.rules[0]; g.requests.mean() < 4 {
			t.Errorf("%v requests: nobody can know that", g.requests.mean())
		}
	})
	t.Run("hiccups are learned", func(t *testing.T) {
		c := find(t, "instance hiccups, 1000/s, share 10 %")
		w := newWorld(c.scenario, newDice(1, 1))
		g, err := newJudged(w)
		if err != nil {
			t.Fatal(err)
		}
		if phi := g.judge.Config.Phi; phi < 5 {
			t.Errorf("phi is %v after an hour of hiccups, want far over 1", phi)
		}
	})
	t.Run("a rollout", func(t *testing.T) {
		r := play(t, "100/s, good, 0.1 % bad", 20)
		if g := r.rules[0]; g.promoted < 18 || g.at.quantile(0.5) < 15 {
			t.Errorf("%d of 20 were promoted, half of them by %v s", g.promoted, g.at.quantile(0.5))
		}
		if f := r.rules[4]; f.promoted != 20 || f.at[0] != 600 {
			t.Errorf("%s: %d of 20 promoted at %v s, want all at 600", f.name, f.promoted, f.at)
		}
	})
}

// The same seed gives the same result, whoever computes it.
func TestSeeds(t *testing.T) {
	c := find(t, "100/s, 0.1 % → 0.5 % bad, share 10 %")
	one, err1 := c.play(3, 12, 1)
	two, err2 := c.play(3, 12, 3)
	if err1 != nil || err2 != nil || one.row() != two.row() {
		t.Errorf("%v %v\n%s%s", err1, err2, one.row(), two.row())
	}
	if other, _ := c.play(4, 12, 2); other.row() == one.row() {
		t.Error("another seed gives the same")
	}
}

func TestTargetsCanBeMissed(t *testing.T) {
	c := cell{about: "x", targets: []target{falseAlarms(0.01), badAnswers(4), requestsToDecide(30), missed(0), promotedWithin(180)}}
	good := tallyOf{runs: 3000, takenBack: 3000, promoted: 3000, bad: spread{3, 4}, requests: spread{29}, at: spread{179}}
	bad := tallyOf{runs: 3000, takenBack: 2999, promoted: 3, bad: spread{3, 5}, requests: spread{31}, at: spread{181}}
	if got := (result{&c, []tallyOf{bad}}).unreached(); len(got) != 5 {
		t.Errorf("missed %d of 5: %v", len(got), got)
	}
	if got := (result{&c, []tallyOf{good}}).unreached(); len(got) != 1 || !strings.Contains(got[0], "false rollbacks") {
		t.Errorf("missed %v, want false rollbacks alone", got)
	}
}

func TestUpperShare(t *testing.T) {
	for _, x := range []struct {
		k, n int
		want float64
	}{{0, 300, 0.015233}, {0, 1, 0.99}, {1, 1, 1}, {17, 3000, 0.00975}} {
		if got := upperShare(x.k, x.n, 0.99); math.Abs(got-x.want) > 1e-4 {
			t.Errorf("upper limit of %d of %d: %v, want %v", x.k, x.n, got, x.want)
		}
	}
}

// Draws have the mean and the variance that they should, on both sides of
// every change of method.
func TestDraws(t *testing.T) {
	d := newDice(1, 2)
	check := func(what string, mean, variance float64, draw func() uint64) {
		const n = 40000
		sum, squares := 0.0, 0.0
		for range n {
			v := float64(draw())
			sum += v
			squares += (v - mean) * (v - mean)
		}
		if off := math.Abs(sum/n-mean) / math.Sqrt(variance/n); off > 4.5 {
			t.Errorf("%s: mean %v, want %v", what, sum/n, mean)
		}
		if got := squares / n; math.Abs(got/variance-1) > 0.06 {
			t.Errorf("%s: variance %v, want %v", what, got, variance)
		}
	}
	for _, mu := range []float64{0.3, 5, 11.9, 12.1, 80, 5000} {
		check("poisson", mu, mu, func() uint64 { return d.poisson(mu) })
	}
	for _, p := range []float64{0.002, 0.04, 0.09, 0.11, 0.5, 0.7, 0.995} {
		check("binomial", 100*p, 100*p*(1-p), func() uint64 { return d.binomial(100, p) })
	}
}

// Shares of the latency model are those of drawn latencies.
func TestLatencyModel(t *testing.T) {
	d := newDice(5, 6)
	const n = 200000
	p := pace{times: 1.5, tailShare: 0.1, tailTimes: 4}
	over := map[float64]int{0.02: 0, 0.1: 0, 0.4: 0, 2: 0, 20: 0}
	for range n {
		z := math.Log(0.05*1.5) + sigma*d.NormFloat64()
		if d.Float64() < heavyShare {
			z += heavyIndex * d.ExpFloat64()
		}
		if d.Float64() < 0.1 {
			z += math.Log(4)
		}
		for age := range over {
			if math.Exp(z) > age {
				over[age]++
			}
		}
	}
	for age, k := range over {
		want := p.over(age)
		if got := float64(k) / n; math.Abs(got-want) > 4.5*math.Sqrt(want*(1-want)/n) {
			t.Errorf("%v s is exceeded by %v, the model says %v", age, got, want)
		}
	}
	total := 0.0
	limits := [gapless.Quantiles]time.Duration{50 * time.Millisecond, 140 * time.Millisecond, 400 * time.Millisecond}
	c := cut(p, p.survival(), limits, limits)
	for i, s := range c.share {
		total += s
		if c.slow[i].worse[0] != (c.bucket[i] >= gapless.LatencyBucket(50_000)) && c.bucket[i] != gapless.LatencyBucket(50_000) {
			t.Errorf("bucket %d is beyond 50 ms: %v", c.bucket[i], c.slow[i].worse[0])
		}
	}
	if math.Abs(total-1) > 1e-9 {
		t.Errorf("the cells are %v of all", total)
	}
}

func TestMannWhitney(t *testing.T) {
	// A shift of 10 with little noise: both the bound and the estimate are near it.
	x := []float64{11, 12, 13, 14, 15, 16, 17, 18}
	y := []float64{1, 2, 3, 4, 5, 6, 7, 8}
	at, ok := shift(x, y, 0)
	if !ok || math.Abs(at-10) > 0.6 {
		t.Errorf("the shift is %v %v, want 10", at, ok)
	}
	if !high(x, y) || high(y, x) || high(x, x) {
		t.Errorf("high: %v %v %v, want true false false", high(x, y), high(y, x), high(x, x))
	}
	// U by hand: of 2×2 pairs 3.5 are won by x.
	if u, _ := rankSum([]float64{2, 5}, []float64{1, 2}); math.Abs(u-(3.5-2-0.5)/math.Sqrt(4./12*(5-6./12))) > 1e-9 {
		t.Errorf("rank sum %v", u)
	}
}
