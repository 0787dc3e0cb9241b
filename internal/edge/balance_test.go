package edge

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"gapless"
)

// still is an edge that serves nobody.
func still() *Edge {
	e := &Edge{
		cfg: Config{}.withDefaults(), log: slog.New(slog.DiscardHandler), start: time.Now(),
		instances: map[target]*instance{}, budgets: map[string]*budget{}, watchers: map[*watcher]struct{}{},
	}
	return e
}

// balanced is the route of picking with the balance that b sets.
func balanced(e *Edge, b gapless.Balance, weights map[string]float64, targets ...gapless.Target) *route {
	r := picking(weights, targets...)
	e.setBalance(r, gapless.Route{App: "a", Stable: "v1", Balance: b})
	for _, s := range r.shares {
		s.traffic.tempo.at = 0
	}
	return r
}

// atOf are n targets of a release.
func atOf(release string, n int) (list []gapless.Target) {
	for k := range n {
		list = append(list, at(release, 1+k))
	}
	return list
}

// Up to eight instances the least loaded of those that can be had is found; of
// more never one that is more loaded than another one it was compared with, so
// never the single most loaded. What is out, or was tried, is never taken.
func TestTheLeastLoadedIsTaken(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	now := int64(time.Hour)
	for range 20_000 {
		n := 1 + rng.IntN(20)
		var list, tried []*instance
		least64, usableN := int64(math.MaxInt64), 0
		for k := range n {
			i := newInstance(target{id: fmt.Sprint(k)})
			i.inFlight.Store(int64(rng.IntN(30)))
			i.leaving.Store(rng.IntN(6) == 0)
			i.unhealthy.Store(rng.IntN(6) == 0)
			if rng.IntN(6) == 0 {
				i.refused.Store(now - int64(time.Millisecond))
			}
			if rng.IntN(6) == 0 {
				i.passive.until.Store(now + 1)
			}
			list = append(list, i)
			if rng.IntN(8) == 0 {
				tried = append(tried, i)
			} else if i.usable(now, wary) {
				least64 = min(least64, i.inFlight.Load())
				usableN++
			}
		}
		got, _ := least(list, now, tried, wary)
		switch {
		case usableN == 0:
			if got != nil {
				t.Fatalf("%s was taken where nobody can be had", got.id)
			}
		case got == nil:
			t.Fatalf("nobody was taken of %d", usableN)
		case !got.usable(now, wary):
			t.Fatalf("%s is out", got.id)
		case (n <= scanned || len(tried) > 0) && got.inFlight.Load() != least64:
			t.Fatalf("of %d: %d in flight, the least is %d", n, got.inFlight.Load(), least64)
		}
		for _, i := range tried {
			if i == got {
				t.Fatal("one that was tried was taken again")
			}
		}
	}
	var list []*instance
	for k := range 20 {
		i := newInstance(target{id: fmt.Sprint(k)})
		i.inFlight.Store(1)
		list = append(list, i)
	}
	list[7].inFlight.Store(2)
	const picks = 40_000
	busiest := 0
	for range picks {
		if i, _ := least(list, now, nil, wary); i == list[7] {
			busiest++
		}
	}
	if busiest > picks/200 { // 1/400: compared with itself
		t.Errorf("the most loaded of 20 was taken %d times of %d", busiest, picks)
	}
}

// However loaded a release is, its coin decides first.
func TestTheCoinComesFirst(t *testing.T) {
	e := still()
	r := balanced(e, gapless.Balance{}, map[string]float64{"v1": 0.5, "v2": 0.5}, at("v1", 1), at("v2", 2))
	r.share("v2").instances[0].inFlight.Store(candidateFloor - 1)
	for range 1000 {
		x := &exchange{edge: e, chosen: r.toss(rand.Float64())}
		if i := x.pick(r); i.release != x.chosen.release {
			t.Fatalf("the coin said %s, the pick %s", x.chosen.release, i.release)
		}
	}
}

func TestPanic(t *testing.T) {
	now := int64(time.Hour)
	for _, c := range []struct {
		all, out int
		refuse   bool // those that are out refuse connections
		want     int  // how many are picked from
	}{
		{1, 0, false, 1}, {2, 1, false, 1}, {3, 1, false, 2}, {4, 2, false, 2},
		{3, 2, false, 3}, {4, 3, false, 4}, {10, 6, false, 10},
		{3, 2, true, 1}, {4, 4, false, 4},
	} {
		r := balanced(still(), gapless.Balance{}, map[string]float64{"v1": 1}, atOf("v1", c.all)...)
		s := r.stable
		for k := range c.out {
			if c.refuse {
				s.instances[k].refused.Store(now - 1)
			} else {
				s.instances[k].unhealthy.Store(true)
			}
		}
		got := map[*instance]bool{}
		for range 400 {
			got[r.pick(s, now, nil)] = true
		}
		if len(got) != c.want {
			t.Errorf("%+v: %d are picked from", c, len(got))
		}
	}
	// A candidate does not panic: stable stands in.
	r := balanced(still(), gapless.Balance{}, map[string]float64{"v1": 0.5, "v2": 0.5}, append(atOf("v2", 4), at("v1", 9))...)
	for k := range 3 {
		r.share("v2").instances[k].unhealthy.Store(true)
	}
	for range 100 {
		if i := r.pick(r.share("v2"), now, nil); i != r.share("v2").instances[3] {
			t.Fatalf("%s was taken", i.id)
		}
	}
}

func TestProbeThresholds(t *testing.T) {
	for _, c := range []struct {
		h    gapless.Health
		seen string // + and - are probes
		out  string // whether it is out after each
	}{
		{gapless.Health{}, "--+----++", ".....xxx."},
		{gapless.Health{}, "---+-++", "..xxxx."},
		{gapless.Health{Unhealthy: 1, Healthy: 1}, "-+-+", "x.x."},
		{gapless.Health{Unhealthy: 5, Healthy: 3}, "-----++-+++", "....xxxxxx."},
	} {
		p := prober{instance: &instance{}, health: c.h}
		out := ""
		for _, s := range c.seen {
			p.saw(s == '+')
			if p.unhealthy.Load() {
				out += "x"
			} else {
				out += "."
			}
		}
		if out != c.out {
			t.Errorf("%+v, probes %s: out %s, want %s", c.h, c.seen, out, c.out)
		}
	}
}

func TestSlowStart(t *testing.T) {
	const slow = int64(30 * time.Second)
	now := int64(time.Hour)
	// share is what the last of n gets when it is so old and nobody has much to do.
	shareOf := func(n int, age, others time.Duration) float64 {
		var list []*instance
		for k := range n {
			i := newInstance(target{id: fmt.Sprint(k)})
			i.since = now - int64(others)
			list = append(list, i)
		}
		list[n-1].since = now - int64(age)
		s := &share{instances: list, balance: &balance{slow: slow, slowUntil: slowStart(list, now, time.Duration(slow))}}
		const picks = 40_000
		got := 0
		for range picks {
			if s.least(now, nil, wary) == list[n-1] {
				got++
			}
		}
		return float64(got) / picks
	}
	for _, c := range []struct {
		n           int
		age, others time.Duration
		want        float64
	}{
		{2, 0, time.Hour, 0.05}, {2, 3 * time.Second, time.Hour, 0.05}, {2, 15 * time.Second, time.Hour, 0.25},
		{2, 30 * time.Second, time.Hour, 0.5}, {2, time.Minute, time.Hour, 0.5},
		{4, 0, time.Hour, 0.025}, {4, 15 * time.Second, time.Hour, 0.125}, {12, 0, time.Hour, 0.1 / 12},
		{2, 0, 0, 0.5}, {2, 0, 10 * time.Second, 0.5}, // nobody is warm: nobody to spare it
	} {
		// Where it is thinned out the others are compared one more time, so it is a little less or more.
		if got := shareOf(c.n, c.age, c.others); math.Abs(got-c.want) > 0.012+c.want*0.1 {
			t.Errorf("%d instances, one %s old beside %s: gets %.3f, want %.3f", c.n, c.age, c.others, got, c.want)
		}
	}
	// When the others are buried a new one helps more than its part says.
	old, fresh := newInstance(target{id: "old"}), newInstance(target{id: "new"})
	old.since, fresh.since = 0, now
	old.inFlight.Store(100)
	for range 100 {
		if i, _ := leastSlow([]*instance{old, fresh}, now, nil, wary, slow); i != fresh {
			t.Fatal("a hundred wait for the old one and the new one is idle")
		}
	}
}

func TestEjectionTimes(t *testing.T) {
	for level, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300, 300} {
		if got := ejection(level, 0); got != want*time.Second {
			t.Errorf("level %d: %s", level, got)
		}
		if got := ejection(level, 1); got < want*time.Second*4/5-1 || got > want*time.Second {
			t.Errorf("level %d with all the jitter: %s", level, got)
		}
	}
	if got := ejection(1000, 0); got != ejectLongest {
		t.Errorf("level 1000: %s", got)
	}
	for _, c := range []struct {
		level, want int
		until, now  time.Duration
	}{
		{0, 0, 0, time.Hour}, {0, 1, time.Minute, time.Minute}, {3, 4, time.Hour, time.Hour + ejectLongest},
		{3, 0, time.Hour, time.Hour + ejectLongest + 1},
	} {
		if got := nextLevel(c.level, int64(c.until), int64(c.now)); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func TestMayEject(t *testing.T) {
	for all := 1; all <= 12; all++ {
		for _, vital := range []bool{false, true} {
			out := 0
			for range 20 {
				if mayEject(all, out, vital) {
					out++
				}
			}
			want := max(1, all/2)
			if vital && all == 1 {
				want = 0
			}
			if out != want {
				t.Errorf("%d instances, vital %v: %d out, want %d", all, vital, out, want)
			}
		}
	}
}

// An instance that flaps is out longer and longer, for five minutes at most;
// one answer in between does not change that. After a quiet time all is forgotten.
func TestFlappingIsOutLongerAndLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := still()
		r := balanced(e, gapless.Balance{}, map[string]float64{"v1": 1}, at("v1", 1), at("v1", 2))
		bad := r.stable.instances[0]
		x := &exchange{edge: e}
		fail := func() time.Duration {
			for range gapless.EjectAfter {
				x.heard(bad, broken)
			}
			return time.Duration(bad.passive.until.Load() - e.now())
		}
		x.heard(bad, unsent)
		x.heard(bad, dropped)
		x.heard(bad, answered)
		x.heard(bad, broken)
		x.heard(bad, aborted)
		x.heard(bad, faulted)
		x.stale = true
		x.heard(bad, dropped) // a kept connection ended
		x.stale = false
		x.heard(bad, truncated)
		if bad.passive.count.Load() != 0 || bad.passive.failures.Load() != 2 {
			t.Fatalf("out after %d failures in a row", bad.passive.failures.Load())
		}
		x.heard(bad, answered)
		for k, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
			want *= time.Second
			got := fail()
			if got > want || got < want*4/5-1 {
				t.Fatalf("ejection %d: for %s, want %s", k+1, got, want)
			}
			if again := fail(); again != got {
				t.Fatal("what was on its way made it longer")
			}
			for range 100 {
				if r.pick(r.stable, e.now(), nil) == bad {
					t.Fatal("it is picked")
				}
			}
			time.Sleep(got)
			if !bad.usable(e.now(), wary) {
				t.Fatal("it does not come back")
			}
			x.heard(bad, answered)
		}
		time.Sleep(ejectLongest + time.Second)
		if got := fail(); got > 10*time.Second {
			t.Errorf("after a quiet time: %s", got)
		}
		if n := bad.passive.count.Load(); n != 8 {
			t.Errorf("%d ejections", n)
		}
	})
}

// Whatever fails, in any order and whatever tables come: at most one instance
// or half of a release is out, and stable always has one that can be had.
func TestEjectionLeavesEnough(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			e := still()
			n1, n2 := 1+rng.IntN(6), rng.IntN(5)
			r := balanced(e, gapless.Balance{}, map[string]float64{"v1": 0.5, "v2": 0.5}, append(atOf("v1", n1), atOf("v2", n2)...)...)
			x := &exchange{edge: e}
			var all []*instance
			for _, s := range r.shares {
				all = append(all, s.instances...)
			}
			for range 200 {
				i := all[rng.IntN(len(all))]
				switch rng.IntN(12) {
				case 0:
					time.Sleep(time.Duration(rng.IntN(20)) * time.Second)
				case 1:
					x.heard(i, answered)
				case 2: // a table takes one away
					if s := r.stable; len(s.instances) > 1 && rng.IntN(4) == 0 {
						s.instances = append([]*instance(nil), s.instances[1:]...)
						e.setBalance(r, gapless.Route{App: "a", Stable: "v1"})
					}
				default:
					x.heard(i, [...]outcome{unsent, dropped, broken, truncated}[rng.IntN(4)])
				}
				for _, s := range r.shares {
					out := 0
					for _, i := range s.instances {
						if e.now() < i.passive.until.Load() {
							out++
						}
					}
					if s == r.stable && out == len(s.instances) {
						t.Fatalf("all %d of stable are out", out)
					}
					if most := max(1, n1/2, n2/2); out > most {
						t.Fatalf("%d of %d are out", out, len(s.instances))
					}
				}
			}
		})
	}
}

func TestCandidateLimit(t *testing.T) {
	const most = 25_000
	for _, c := range []struct {
		w         float64
		total     int64
		perSecond float64
		want      int64
	}{
		{0.1, 0, 0, candidateFloor}, {0.1, 100, 0, candidateFloor}, {0.1, 1000, 0, 200}, {0.1, 1001, 0, 201},
		{0.25, 300, 1000, 500}, {0.05, 2000, 100, 200}, {1, 100_000, 0, most}, {0.5, 400, 0, 400},
	} {
		if got := candidateLimit(c.w, c.total, c.perSecond, most); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	// A candidate as fast as stable stays below it, whatever the load: at
	// twice its share nobody gets by chance.
	rng := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		total, w := rng.IntN(4000), []float64{0.01, 0.05, 0.1, 0.25, 0.5}[rng.IntN(5)]
		n := int64(0)
		for range total {
			if rng.Float64() < w {
				n++
			}
		}
		if n > candidateLimit(w, int64(total), 0, most) {
			t.Fatalf("%d of %d at %v", n, total, w)
		}
	}
}

func TestOverItsLimitACandidateFallsToStable(t *testing.T) {
	e := still()
	r := balanced(e, gapless.Balance{}, map[string]float64{"v1": 0.9, "v2": 0.1}, at("v1", 1), at("v2", 2))
	v2 := r.share("v2")
	ask := func() (*exchange, *instance) {
		x := &exchange{edge: e, chosen: v2}
		return x, x.pick(r)
	}
	v2.instances[0].inFlight.Store(candidateFloor - 1)
	if x, i := ask(); i.release != "v2" || x.failed != "" {
		t.Fatalf("below the limit: %s, %q", i.release, x.failed)
	}
	v2.instances[0].inFlight.Store(candidateFloor)
	if x, i := ask(); i.release != "v1" || x.failed != kindOver || v2.traffic.over.Load() != 1 {
		t.Fatalf("at the limit: %s, %q, counted %d", i.release, x.failed, v2.traffic.over.Load())
	}
	v2.instances[0].upgraded.Store(10) // these are no work
	if _, i := ask(); i.release != "v2" {
		t.Error("upgraded connections count")
	}
	v2.instances[0].upgraded.Store(0)
	v2.traffic.tempo.look(1000, int64(time.Second)) // 1000 in a second: 0.1 · 1000 · 2 s may be in flight
	if _, i := ask(); i.release != "v2" {
		t.Error("a pause of a moment is too much")
	}
	v2.instances[0].inFlight.Store(200)
	if _, i := ask(); i.release != "v1" {
		t.Error("a pause of two seconds is not")
	}
	r.stable.instances[0].leaving.Store(true)
	if x, i := ask(); i == nil || i.release != "v2" || x.failed != "" {
		t.Error("nobody else is there: it has to")
	}
}

func TestLimitOfStable(t *testing.T) {
	e := still()
	r := balanced(e, gapless.Balance{Stable: 10, Candidate: 3}, map[string]float64{"v1": 0.9, "v2": 0.1}, at("v1", 1), at("v2", 2))
	r.stable.instances[0].inFlight.Store(9)
	for _, n := range []int64{2, 3} {
		r.share("v2").instances[0].inFlight.Store(n)
		x := &exchange{edge: e, chosen: r.share("v2")}
		if i := x.pick(r); i == nil || (i.release == "v1") != (n == 3) {
			t.Errorf("%d of 3 in flight with the candidate: %v", n, i)
		}
	}
	r.stable.instances[0].inFlight.Store(10)
	for _, s := range r.shares {
		x := &exchange{edge: e, chosen: s}
		if i := x.pick(r); i != nil || !x.overfull() {
			t.Errorf("%s: stable is full and %v is asked, %q", s.release, i, x.failure.code)
		}
	}
}

// A request that failed with a candidate goes to stable, never to another of
// the candidate, while there is an instance of stable in the table.
func TestACandidateDoesNotAnswerForACandidate(t *testing.T) {
	e := still()
	r := balanced(e, gapless.Balance{}, map[string]float64{"v1": 0.5, "v2": 0.5}, at("v1", 1), at("v2", 2), at("v2", 3))
	failed := func() *exchange {
		x := &exchange{edge: e, chosen: r.share("v2")}
		i := x.pick(r)
		x.fail("reset", i)
		x.avoid(i)
		return x
	}
	for _, health := range []bool{true, false} {
		r.stable.instances[0].unhealthy.Store(!health)
		if i := failed().pick(r); i == nil || i.release != "v1" {
			t.Fatalf("stable's health %v: %v", health, i)
		}
	}
	r.stable.instances[0].leaving.Store(true)
	if i := failed().pick(r); i != nil {
		t.Errorf("%s of %s", i.id, i.release)
	}
	r = balanced(e, gapless.Balance{}, map[string]float64{"v1": 0, "v2": 1}, at("v2", 2), at("v2", 3))
	if i := failed().pick(r); i == nil {
		t.Error("the candidate is all there is, and is not asked again")
	}
}

// In any time, no more is repeated than a fifth of what came, three per
// second, and what ten seconds of them may save up.
func TestRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(9, 10))
		for round := range 50 {
			e := still()
			b := newBudget(0)
			requests := uint64(0)
			b.earn(0, func() uint64 { return requests })
			rate := []float64{0, 5, 100, 3000}[round%4]
			var seconds, taken float64
			for range 2000 {
				d := time.Duration(rng.IntN(50)) * time.Millisecond
				time.Sleep(d)
				seconds += d.Seconds()
				requests += uint64(rate * d.Seconds())
				if rng.IntN(100) == 0 { // a table: it neither gives nor takes
					b.earn(0, b.requests)
				}
				for range rng.IntN(20) {
					if b.take(e.now()) {
						taken++
					}
				}
			}
			allowed := gapless.DefaultRetries*float64(requests) + retryRate*seconds + retrySpan.Seconds()*(retryRate+gapless.DefaultRetries*rate)
			if taken > allowed+1 {
				t.Fatalf("%v requests per second: %v repeated in %.0f s, %.0f allowed", rate, taken, seconds, allowed)
			}
			if wanted := 9.0 * 2000; taken < min(wanted, gapless.DefaultRetries*float64(requests)+retryRate*seconds)*0.9 {
				t.Fatalf("%v requests per second: only %v repeated in %.0f s", rate, taken, seconds)
			}
		}
	})
	for _, c := range []struct {
		tokens, gain float64
		d            time.Duration
		want         float64
	}{
		{0, 0, 0, 0}, {5, 2, 0, 7}, {0, 0, time.Hour, 30}, {1e9, 0, time.Hour, 30},
		{30, 0, 5 * time.Second, 30}, {0, 200, 10 * time.Second, (200 + 30) * (1 - 1/math.E)},
	} {
		if got := earned(c.tokens, c.gain, c.d); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestPace(t *testing.T) {
	var p tempo
	for _, c := range []struct {
		requests uint64
		at       time.Duration
		want     float64
	}{{0, 0, 0}, {100, time.Second, 100}, {150, 1500 * time.Millisecond, 100}, {150, 2 * time.Second, 50}, {150, 3 * time.Second, 25}, {350, 4 * time.Second, 200}} {
		p.look(c.requests, int64(c.at))
		if got := p.perSecond(); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	e := still()
	for _, b := range []gapless.Balance{{}, {SlowStart: gapless.Duration(time.Hour), Stable: 100, Candidate: 100}} {
		r := balanced(e, b, map[string]float64{"v1": 0.9, "v2": 0.1}, append(atOf("v1", 4), atOf("v2", 2)...)...)
		x := &exchange{edge: e}
		if n := testing.AllocsPerRun(1000, func() {
			x.chosen = r.toss(rand.Float64())
			x.heard(x.pick(r), answered)
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	e := still()
	for _, n := range []int{1, 4, 8, 100} {
		for _, release := range []string{"v1", "v2"} {
			r := balanced(e, gapless.Balance{SlowStart: gapless.Duration(30 * time.Second)}, map[string]float64{"v1": 0.9, "v2": 0.1}, append(atOf("v1", n), atOf("v2", n)...)...)
			x := &exchange{edge: e, chosen: r.share(release)}
			b.Run(fmt.Sprintf("%s of %d", release, n), func(b *testing.B) {
				for b.Loop() {
					x.heard(x.pick(r), answered)
				}
			})
		}
	}
}
