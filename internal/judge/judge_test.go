package judge_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/judge"
)

// story is a random run of single requests at changing weights.
func story(r *rand.Rand, n int) []gapless.Tally {
	weights := []float64{0.01, 0.05, 0.1, 1.0 / 3, 0.5, 1}
	var all []gapless.Tally
	for range n {
		t := gapless.Tally{Release: "v1", Weight: weights[r.IntN(len(weights))], Requests: 1}
		if r.Float64() < t.Weight {
			t.Release = "v2"
		}
		if r.Float64() < 0.05 {
			t.Bad = 1
		}
		for i := range gapless.Quantiles { // each by its own limits
			for _, p := range []*gapless.Pace{&t.Paces.Worse[i], &t.Paces.Margin[i]} {
				if r.IntN(3) == 0 {
					p.Slow = 1
				} else {
					p.Fast = 1
				}
			}
		}
		all = append(all, t)
	}
	return all
}

// Neither the order of events nor how they are cut into batches matters, to
// the last bit; nor does a restart of the judge in between.
func TestBatchesDoNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		events := story(r, 300)
		whole := seen(t, judge.Config{Phi: 2}).Observe(events)
		if len(whole.Rows) < 2 {
			t.Fatal("the story has no weights")
		}
		r.Shuffle(len(events), func(a, b int) { events[a], events[b] = events[b], events[a] })
		j := seen(t, judge.Config{Phi: 2})
		for rest := events; len(rest) > 0; {
			n := min(1+r.IntN(40), len(rest))
			batch := slices.Clone(rest[:n])
			rest = rest[n:]
			for len(batch) > 1 && batch[0].Release == batch[1].Release && batch[0].Weight == batch[1].Weight {
				batch[1].Requests += batch[0].Requests
				batch[1].Bad += batch[0].Bad
				batch[1].Paces = batch[1].Paces.Plus(batch[0].Paces)
				batch = batch[1:]
			}
			j = restarted(t, j.Observe(batch))
		}
		for _, w := range []float64{0, 0.1, 1} {
			if a, b := whole.Verdict(w), j.Verdict(w); !reflect.DeepEqual(a, b) {
				t.Fatalf("one batch: %+v\nmany: %+v", a, b)
			}
		}
	}
}

func restarted(t *testing.T, j judge.Judge) judge.Judge {
	t.Helper()
	b, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var back judge.Judge
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, j) {
		t.Fatalf("%+v came back as %+v", j, back)
	}
	return back
}

// Observe leaves the judge that it is called on alone.
func TestJudgeIsAValue(t *testing.T) {
	j := seen(t, judge.Config{}, counts{0.1, 1, 1}, counts{0.5, 1, 1})
	before := j.Verdict(0.1)
	j.Observe(counts{0.1, 5, 0}.tallies())
	j.Observe(counts{0.01, 5, 0}.tallies())
	if after := j.Verdict(0.1); !reflect.DeepEqual(before, after) {
		t.Errorf("was %+v, is %+v", before, after)
	}
}

// More bad answers of the candidate never speak for it, more of stable never
// against it, and good answers mean nothing to the errors test.
func TestMonotone(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		j := seen(t, judge.Config{Ratio: 0.5 + r.Float64(), PMax: 0.5}).Observe(story(r, r.IntN(400)))
		w := 0.01 + 0.9*r.Float64()
		now := j.Verdict(w).Evidence.LnE
		lnE := func(release string, bad, good uint64) float64 {
			v := j.Observe([]gapless.Tally{{Release: release, Weight: w, Requests: bad + good, Bad: bad}}).Verdict(w)
			if v.Test != gapless.TestErrors {
				t.Fatalf("the guard spoke: %+v", v)
			}
			return v.Evidence.LnE
		}
		if up, upMore := lnE("v2", 1, 0), lnE("v2", 2, 0); !(up > now && upMore > up) {
			t.Fatalf("candidate's bad answers: %v, %v, %v", now, up, upMore)
		}
		if down := lnE("v1", 1, 0); !(down < now) {
			t.Fatalf("stable's bad answer: %v, %v", now, down)
		}
		if same := lnE("v2", 0, 1000); same != now {
			t.Fatalf("good answers: %v, %v", now, same)
		}
	}
}

// Needed.Bad is exact: so many decide, one less does not.
func TestNeededIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	checked := map[gapless.VerdictTest]int{}
	for range 200 {
		j := seen(t, judge.Config{Phi: 1 + 3*r.Float64()}).Observe(story(r, r.IntN(200)))
		w := []float64{0.01, 0.25, 0.9, 1}[r.IntN(4)]
		v := j.Verdict(w)
		if v.Kind == gapless.Worse {
			continue
		}
		n := v.Needed.Bad
		if n == 0 {
			t.Fatalf("weight %v: no number of bad answers decides: %+v", w, v)
		}
		checked[v.Test]++
		after := func(bad uint64) gapless.VerdictKind {
			return j.Observe([]gapless.Tally{{Release: "v2", Weight: w, Requests: bad, Bad: bad}}).Verdict(w).Kind
		}
		if after(n) != gapless.Worse || after(n-1) != gapless.Undecided {
			t.Fatalf("weight %v: %d needed, but %s after %d and %s after %d", w, n, after(n-1), n-1, after(n), n)
		}
	}
	if checked[gapless.TestErrors] < 20 || checked[gapless.TestGuard] < 20 {
		t.Errorf("checked only %v", checked)
	}
}

// No data is undecided, says so, and is never a pass.
func TestNoData(t *testing.T) {
	fresh := seen(t, judge.Config{})
	onlyStable := []gapless.Tally{{Release: "v1", Weight: 0.1, Requests: 5000, Bad: 3}}
	below := []gapless.Tally{{Release: "v2", Weight: 0.1, Requests: 5000}}
	for name, v := range map[string]gapless.Verdict{
		"nothing":               fresh.Verdict(0.1),
		"nothing, weight 1":     fresh.Verdict(1),
		"only stable":           fresh.Observe(onlyStable).Verdict(0.1),
		"another release":       fresh.Observe([]gapless.Tally{{Release: "v3", Weight: 0.1, Requests: 9, Bad: 9}}).Verdict(0.1),
		"no coin":               fresh.Observe([]gapless.Tally{{Release: "v2", Weight: 0, Requests: 9, Bad: 9}}).Verdict(0.1),
		"not a weight":          fresh.Observe([]gapless.Tally{{Release: "v2", Weight: math.NaN(), Requests: 9, Bad: 9}, {Release: "v2", Weight: 1.5, Requests: 9, Bad: 9}}).Verdict(0.1),
		"not yet any at 1":      fresh.Observe(below).Verdict(1),
		"stable at weight 1":    fresh.Observe([]gapless.Tally{{Release: "v1", Weight: 1, Requests: 9, Bad: 9}}).Verdict(1),
		"an empty zero tally":   fresh.Observe([]gapless.Tally{{Release: "v2", Weight: 0.1}}).Verdict(0.1),
		"weight that is no one": fresh.Verdict(math.NaN()),
	} {
		if v.Kind != gapless.Undecided || !v.NoData || !strings.HasPrefix(v.Reason, "no data: ") {
			t.Errorf("%s: %+v", name, v)
		}
		if _, err := json.Marshal(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v := fresh.Observe(below).Verdict(0.1); v.NoData || v.Kind != gapless.Undecided {
		t.Errorf("good answers only: %+v", v)
	}
}

// The errors test is blind at weight 1, the guard below it; each keeps what it saw.
func TestWeightPicksTheTest(t *testing.T) {
	atOne := seen(t, judge.Config{}, counts{weight: 1, candidate: 40})
	if v := atOne.Verdict(1); v.Kind != gapless.Worse || v.Test != gapless.TestGuard {
		t.Errorf("all bad at weight 1: %+v", v)
	}
	below := seen(t, judge.Config{}, counts{weight: 0.99, candidate: 40, stable: 40})
	if v := below.Verdict(1); v.Kind == gapless.Worse || v.Evidence.Candidate.Requests != 0 {
		t.Errorf("guard judged what had a control: %+v", v)
	}
	back := atOne.Observe(counts{0.1, 0, 5}.tallies())
	if v := back.Verdict(0.1); v.Kind != gapless.Worse || v.Test != gapless.TestGuard {
		t.Errorf("the guard forgot: %+v", v)
	}
	if v := back.Observe(counts{0.1, 9, 0}.tallies()).Verdict(1); v.Test != gapless.TestErrors || v.Evidence.Candidate != (gapless.Arm{Requests: 9, Bad: 9}) || v.Evidence.Stable.Bad != 5 {
		t.Errorf("errors counts what had no control: %+v", v)
	}
	shared := seen(t, judge.Config{}, counts{0.1, 100, 900}) // an outage of both
	if v := shared.Verdict(0.1); v.Kind != gapless.Undecided {
		t.Errorf("shared outage: %+v", v)
	}
}

// A bad answer that is known before its request is counted is a request.
func TestBadBeforeItsRequest(t *testing.T) {
	early := seen(t, judge.Config{}).Observe([]gapless.Tally{{Release: "v2", Weight: 1, Bad: 2}})
	late := early.Observe([]gapless.Tally{{Release: "v2", Weight: 1, Requests: 2}})
	if a, b := early.Verdict(1), late.Verdict(1); !reflect.DeepEqual(a, b) || a.Evidence.Candidate.Requests != 2 {
		t.Errorf("early %+v\nlate %+v", a, b)
	}
}

func TestReason(t *testing.T) {
	off := [gapless.Quantiles]float64{-1, -1, -1}
	tallies := func(w float64, requests, bad, stable, stableBad uint64) []gapless.Tally {
		return []gapless.Tally{{Release: "v2", Weight: w, Requests: requests, Bad: bad}, {Release: "v1", Weight: w, Requests: stable, Bad: stableBad}}
	}
	for _, v := range []struct {
		config judge.Config
		batch  []gapless.Tally
		want   string
	}{
		{judge.Config{}, tallies(0.1, 31, 3, 912, 0), "3 failed candidate requests (stable: 0 of 912): evidence 321:1, false-alarm guarantee 1 %"},
		{judge.Config{Alone: true}, tallies(0.1, 31, 3, 912, 0), "3 failed candidate requests (stable: 0 of 912): evidence 321:1, false-alarm guarantee 1 %; stable has one instance, so that noise of one instance cannot be told from the version"},
		{judge.Config{}, tallies(0.1, 31, 1, 912, 0), "undecided: 1 failed candidate request (stable: 0 of 912); evidence 4.8:1, 100:1 decides; 2 more failed ones in a row would; stable's p50 is not known yet"},
		{judge.Config{}, tallies(0.1, 31, 2, 912, 0), "undecided: 2 failed candidate requests (stable: 0 of 912); evidence 37:1, 100:1 decides; one more failed one would; stable's p50 is not known yet"},
		{judge.Config{Ratio: 1.5}, tallies(0.1, 31, 9, 912, 0), "9 failed candidate requests (stable: 0 of 912), over 1.5 × stable's rate: evidence over a million:1, false-alarm guarantee 1 %"},
		{judge.Config{PMax: 0.02}, tallies(1, 10, 5, 0, 0), "5 failed candidate requests of 10, where 2 % is fine and nothing to compare with: evidence 70303:1, false-alarm guarantee 1 %"},
		{judge.Config{Slower: off}, tallies(0.1, 400, 0, 4000, 3), "undecided: 0 failed candidate requests (stable: 3 of 4000); evidence 0.46:1, 100:1 decides; 5 more failed ones in a row would; about 633 more good ones would prove it not worse"},
		{judge.Config{Slower: off}, tallies(0.1, 2400, 0, 21600, 2), "not worse after 2400 candidate requests, 0 failed (stable: 2 of 21600): at most 0.5 points more bad answers; false-proof guarantee 5 %"},
	} {
		if got := seen(t, v.config).Observe(v.batch).Verdict(v.batch[0].Weight).Reason; got != v.want {
			t.Errorf("got  %s\nwant %s", got, v.want)
		}
	}
}

func TestConfig(t *testing.T) {
	good := judge.Config{Candidate: "v2", Stable: "v1"}
	j, err := judge.New(good)
	if err != nil {
		t.Fatal(err)
	}
	if want := (judge.Config{Candidate: "v2", Stable: "v1", Alpha: 0.01, Ratio: 1, PMax: 0.01, Phi: 1, PhiSlow: [gapless.Quantiles]float64{1, 1, 1},
		Beta: 0.05, Errors: 0.005, Slower: [gapless.Quantiles]float64{0.1, 0.15, 0.25}, Budget: 0.005, WarmUp: gapless.Duration(2 * time.Minute)}); j.Config != want {
		t.Errorf("defaults: %+v", j.Config)
	}
	for name, spoil := range map[string]func(*judge.Config){
		"no candidate":   func(c *judge.Config) { c.Candidate = "" },
		"no stable":      func(c *judge.Config) { c.Stable = "" },
		"same":           func(c *judge.Config) { c.Stable = "v2" },
		"alpha 1":        func(c *judge.Config) { c.Alpha = 1 },
		"alpha NaN":      func(c *judge.Config) { c.Alpha = math.NaN() },
		"alpha negative": func(c *judge.Config) { c.Alpha = -0.01 },
		"ratio infinite": func(c *judge.Config) { c.Ratio = math.Inf(1) },
		"limit 60 %":     func(c *judge.Config) { c.PMax = 0.6 },
		"phi 0.5":        func(c *judge.Config) { c.Phi = 0.5 },
		"phi of p99 0.5": func(c *judge.Config) { c.PhiSlow[2] = 0.5 },
		"beta 1":         func(c *judge.Config) { c.Beta = 1 },
		"tiny margin":    func(c *judge.Config) { c.Errors = 1e-4 },
		"margin of 11":   func(c *judge.Config) { c.Slower[1] = 11 },
		"margin NaN":     func(c *judge.Config) { c.Slower[0] = math.NaN() },
		"budget of 2":    func(c *judge.Config) { c.Budget = 2 },
	} {
		c := good
		spoil(&c)
		if _, err := judge.New(c); gapless.CodeOf(err) != gapless.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A value that was never made by New still judges, with the defaults.
	zero := judge.Judge{Config: good}.Observe(counts{0.1, 3, 0}.tallies())
	if v := zero.Verdict(0.1); v.Kind != gapless.Worse || v.Evidence.Threshold != 100 {
		t.Errorf("zero config: %+v", v)
	}
}

// The bounds were computed by an independent program.
func TestLimitFollowsTheRecord(t *testing.T) {
	for _, v := range []struct {
		allowed float64
		record  gapless.Arm
		want    float64
	}{
		{0, gapless.Arm{}, 0.01},
		{0.05, gapless.Arm{}, 0.05},
		{0, gapless.Arm{Requests: 10000}, 0.01},                 // nothing bad is normal
		{0, gapless.Arm{Requests: 10000, Bad: 1}, 0.01},         // its bound is lower
		{0, gapless.Arm{Requests: 1000, Bad: 20}, 0.04},         // twice its share
		{0, gapless.Arm{Requests: 1000000, Bad: 20000}, 0.04},   // twice its share, however sure
		{0.1, gapless.Arm{Requests: 1000, Bad: 20}, 0.1},        // a person allowed more
		{0, gapless.Arm{Requests: 100, Bad: 1}, 0.073897304728}, // its bound
		{0, gapless.Arm{Requests: 100, Bad: 5}, 0.143946476182}, // its bound
		{0, gapless.Arm{Requests: 1, Bad: 1}, 0.073897304728},   // as if of 100
		{0, gapless.Arm{Requests: 1000, Bad: 900}, 0.5},         // never all
		{0, gapless.Arm{Requests: 100, Bad: 100}, 0.5},
	} {
		j := seen(t, judge.Config{PMax: v.allowed, Record: v.record})
		if got := j.Verdict(1).Evidence.Limit; math.Abs(got-v.want) > 1e-9 {
			t.Errorf("%+v: %.12f", v, got)
		}
		steps := seen(t, judge.Config{PMax: v.allowed}).Observe([]gapless.Tally{ // the same record from judged steps
			{Release: "v1", Weight: 0.1, Requests: v.record.Requests / 2, Bad: v.record.Bad / 2},
			{Release: "v1", Weight: 0.25, Requests: v.record.Requests - v.record.Requests/2, Bad: v.record.Bad - v.record.Bad/2}})
		if got := steps.Verdict(1).Evidence.Limit; math.Abs(got-v.want) > 1e-9 {
			t.Errorf("%+v, from judged steps: %.12f", v, got)
		}
	}
}

func TestDispersion(t *testing.T) {
	var none judge.Dispersion
	for name, d := range map[string]judge.Dispersion{
		"nothing":      none,
		"one instance": none.Observe([]uint64{50}),
		"no instance":  none.Observe(nil),
		"no bad":       none.Observe([]uint64{0, 0, 0}),
	} {
		if phi, known := d.Phi(); phi != 1 || known {
			t.Errorf("%s: phi %v, known %v", name, phi, known)
		}
	}
	// By hand: 30 on one of three, even is 10: 400+100+100 of 30·2/3.
	if phi, known := none.Observe([]uint64{30, 0, 0}).Phi(); phi != (600.0+20)/(20+20) || !known {
		t.Errorf("one clump: phi %v, known %v", phi, known)
	}
	// Each event counts the same: quiet windows do not hide the clump.
	d := none
	for range 100 {
		d = d.Observe([]uint64{1, 0, 0}) // 2/3 of 2/3: as chance has it
	}
	quiet, _ := d.Phi()
	loud, _ := d.Observe([]uint64{300, 0, 0}).Phi()
	if math.Abs(quiet-1) > 1e-9 || loud < 100 {
		t.Errorf("phi %v, with a clump %v", quiet, loud)
	}
	if phi, _ := none.Observe([]uint64{20, 20, 20}).Phi(); phi != 1 {
		t.Errorf("more even than chance: phi %v", phi)
	}
}

// The mean of each factor is at most 1 while the candidate is fine: the one
// property that the guarantee rests on, here one step from random states.
func TestOneStepIsAFairBet(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	judged := 0
	for range 300 {
		c := judge.Config{Ratio: 0.5 + 2*r.Float64(), Phi: 1 + 5*r.Float64()*float64(r.IntN(2)), PMax: 0.001 + 0.4*r.Float64()}
		j := seen(t, c).Observe(story(r, r.IntN(40)))
		w := 0.001 + 0.99*r.Float64()
		e := func(at float64, tally gapless.Tally) float64 {
			v := j.Observe([]gapless.Tally{tally}).Verdict(at)
			now := j.Verdict(at)
			if v.Kind == gapless.Worse || now.Kind == gapless.Worse {
				return math.NaN() // the bet is over
			}
			return math.Exp(v.Evidence.LnE - now.Evidence.LnE)
		}
		theta := w * c.Ratio / (1 + w*(c.Ratio-1)) * (1 - r.Float64()*float64(r.IntN(2)))
		mean := theta*e(w, gapless.Tally{Release: "v2", Weight: w, Requests: 1, Bad: 1}) +
			(1-theta)*e(w, gapless.Tally{Release: "v1", Weight: w, Requests: 1, Bad: 1})
		if mean > 1+1e-9 {
			t.Fatalf("errors: mean %v at weight %v, theta %v, %+v", mean, w, theta, c)
		}
		p := c.PMax * (1 - r.Float64()*float64(r.IntN(2)))
		mean = p*e(1, gapless.Tally{Release: "v2", Weight: 1, Requests: 1, Bad: 1}) +
			(1-p)*e(1, gapless.Tally{Release: "v2", Weight: 1, Requests: 1})
		if !math.IsNaN(mean) {
			judged++
		}
		if mean > 1+1e-9 {
			t.Fatalf("guard: mean %v at %v, %+v", mean, p, c)
		}
	}
	if judged < 100 {
		t.Errorf("only %d bets of the guard were looked at", judged)
	}
}

// The cost follows the number of weights, not the number of requests.
func TestStateStaysSmall(t *testing.T) {
	j := seen(t, judge.Config{})
	for range 1000 {
		for _, w := range []float64{0.05, 0.25, 1} {
			j = j.Observe([]gapless.Tally{{Release: "v2", Weight: w, Requests: 1e9, Bad: 1e6}, {Release: "v1", Weight: w, Requests: 1e9, Bad: 1e8}})
		}
	}
	if len(j.Rows) != 3 {
		t.Errorf("%d rows for 3 weights", len(j.Rows))
	}
	v := j.Verdict(0.25)
	if _, err := json.Marshal(v); err != nil || math.IsNaN(v.Evidence.LnE) {
		t.Errorf("%+v: %v", v, err)
	}
}

// A share that floating point left a hair below 1 is 1.
func TestAlmostOneIsOne(t *testing.T) {
	almost := 0.0
	for range 10 {
		almost += 0.1
	}
	if almost == 1 {
		t.Fatal("the sum is exact")
	}
	j := seen(t, judge.Config{}, counts{weight: almost, candidate: 9})
	if v := j.Verdict(almost); v.Kind != gapless.Worse || v.Test != gapless.TestGuard {
		t.Errorf("%+v", v)
	}
}

func BenchmarkObserveAndVerdict(b *testing.B) {
	j, err := judge.New(judge.Config{Candidate: "v2", Stable: "v1"})
	if err != nil {
		b.Fatal(err)
	}
	batch := []gapless.Tally{{Release: "v2", Weight: 0.1, Requests: 1e6, Bad: 100}, {Release: "v1", Weight: 0.1, Requests: 9e6, Bad: 9000}}
	for b.Loop() {
		j = j.Observe(batch)
		j.Verdict(0.1)
	}
}

type counts struct {
	weight            float64
	candidate, stable uint64 // bad answers
}

// seen is a judge of v2 against v1 that saw some bad answers, and no good ones.
func seen(t *testing.T, c judge.Config, all ...counts) judge.Judge {
	t.Helper()
	c.Candidate, c.Stable = "v2", "v1"
	j, err := judge.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		j = j.Observe(x.tallies())
	}
	return j
}

func (c counts) tallies() []gapless.Tally {
	return []gapless.Tally{
		{Release: "v2", Weight: c.weight, Requests: c.candidate, Bad: c.candidate},
		{Release: "v1", Weight: c.weight, Requests: c.stable, Bad: c.stable},
	}
}
