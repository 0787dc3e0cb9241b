package judge

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"gapless"
)

// watched is a watch over v2 after a rollout from v1 that had this record.
func watched(t *testing.T, record gapless.Arm) Judge {
	t.Helper()
	j, err := New(Config{Candidate: "v2", Stable: "v1", Record: record})
	if err != nil {
		t.Fatal(err)
	}
	return j.Observe([]gapless.Tally{{Release: "v2", Weight: 0.1, Requests: 100}, {Release: "v1", Weight: 0.1, Requests: 900}}).Watch()
}

// serve lets requests come one by one until the verdict, at most n.
func serve(j Judge, rng *rand.Rand, bad float64, n int) (_ Judge, failed int, worse bool) {
	for range n {
		tally := gapless.Tally{Release: "v2", Requests: 1} // the edge tosses no coin
		if rng.Float64() < bad {
			tally.Bad, failed = 1, failed+1
		}
		if j = j.Observe([]gapless.Tally{tally}); tally.Bad > 0 && j.Verdict(1).Kind == gapless.Worse { // a good one proves nothing
			return j, failed, true
		}
	}
	return j, failed, false
}

// TestWatchSeesWhatBreaksLate: it takes few bad answers however many good ones
// came before. One bet over all would need over a thousand of them.
func TestWatchSeesWhatBreaksLate(t *testing.T) {
	for _, c := range []struct {
		good, most int
		bad        float64
	}{{0, 4, 1}, {1000, 8, 1}, {100_000, 20, 1}, {100_500, 40, 1}, {100_000, 60, 0.1}} {
		rng := rand.New(rand.NewPCG(uint64(c.good), 1))
		j, _, worse := serve(watched(t, gapless.Arm{}), rng, 0.0005, c.good)
		if worse {
			t.Fatalf("taken back while it was good: %s", j.Verdict(1).Reason)
		}
		j, failed, worse := serve(j, rng, c.bad, 10_000)
		t.Logf("after %d good ones: %d bad answers, %s", c.good, failed, j.Verdict(1).Reason)
		if !worse || failed > c.most {
			t.Errorf("after %d good answers %d bad ones, at most %d are needed", c.good, failed, c.most)
		}
	}
}

// TestWatchRaisesNoFalseAlarm: at the limit itself, over long watches.
func TestWatchRaisesNoFalseAlarm(t *testing.T) {
	alarms := 0
	const runs = 300
	for seed := range uint64(runs) {
		if _, _, worse := serve(watched(t, gapless.Arm{}), rand.New(rand.NewPCG(seed, 2)), leastPMax, 5000); worse {
			alarms++
		}
	}
	if alarms > 9 { // 1 % is the guarantee; 10 of 300 and more have a chance of 0.1 %
		t.Errorf("%d of %d", alarms, runs)
	}
}

// TestWatchKnowsTheRecord: what was normal before is no reason to go back.
func TestWatchKnowsTheRecord(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	if j, _, worse := serve(watched(t, gapless.Arm{Requests: 10_000, Bad: 500}), rng, 0.05, 20_000); worse {
		t.Error(j.Verdict(1).Reason)
	}
	j, _, worse := serve(watched(t, gapless.Arm{}), rng, 0.05, 20_000)
	if v := j.Verdict(1); !worse || !strings.Contains(v.Reason, "after it was promoted") || v.Test != gapless.TestGuard {
		t.Errorf("%+v", v)
	}
}

// TestWatchIsSaved: what is read back has seen the same, and a new answer is
// seen by one only.
func TestWatchIsSaved(t *testing.T) {
	j, _, _ := serve(watched(t, gapless.Arm{}), rand.New(rand.NewPCG(1, 4)), 0.002, 2500)
	data, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var again Judge
	if err := json.Unmarshal(data, &again); err != nil || !again.Equal(j) || j.Watching.Bets != 2 || again.Verdict(1).Reason != j.Verdict(1).Reason {
		t.Errorf("%v: %s", err, data)
	}
	if more := j.Observe([]gapless.Tally{{Release: "v2", Requests: 1}}); more.Equal(again) || !j.Equal(again) {
		t.Error("an answer is not seen, or seen by the judge before")
	}
}

// TestWatchOfWhatBreaksOff: an answer that breaks off after it counted as good
// counts where the good one was paid for, and nowhere if that was before the
// release was promoted.
func TestWatchOfWhatBreaksOff(t *testing.T) {
	late := func(n uint64, weight float64) []gapless.Tally {
		return []gapless.Tally{{Release: "v2", Weight: weight, Bad: n, Late: n}}
	}
	j := watched(t, gapless.Arm{}).Observe([]gapless.Tally{{Release: "v2", Requests: 5}})
	if v := j.Observe(late(5, 0.5)).Verdict(1); v.Kind == gapless.Worse || v.Evidence.Candidate.Bad != 0 {
		t.Errorf("of before promote: %+v", v)
	}
	if v := j.Observe(late(5, 0)).Verdict(1); v.Kind != gapless.Worse {
		t.Errorf("all break off: %+v", v)
	}
	// What the first 1000 requests left is no evidence of the bet that begins
	// then, and neither are good answers of it taken away.
	j = watched(t, gapless.Arm{}).Observe([]gapless.Tally{{Release: "v2", Requests: 1000}})
	before := *j.Watching
	j = j.Observe(late(8, 0))
	if v := j.Verdict(1); v.Kind == gapless.Worse || j.Watching.Now != before.Now || v.Evidence.Candidate.Bad != 8 {
		t.Errorf("of a bet that has ended: %+v, %+v", v, *j.Watching)
	}
	if v := j.Observe(late(60, 0)).Verdict(1); v.Kind != gapless.Worse || !strings.Contains(v.Reason, "68 of the last 1000 answers") {
		t.Errorf("too many of all: %+v", v)
	}
}

// TestWatchIsFairToWhatBreaksOff: at the limit, where all bad answers break off
// long after they began, so that most do in a later bet.
func TestWatchIsFairToWhatBreaksOff(t *testing.T) {
	alarms := 0
	const runs, lag = 300, 900
	for seed := range uint64(runs) {
		rng := rand.New(rand.NewPCG(seed, 5))
		j := watched(t, gapless.Arm{})
		breaks := map[int]bool{} // when
		for n := range 5000 {
			tally := gapless.Tally{Release: "v2", Requests: 1}
			if rng.Float64() < leastPMax {
				breaks[n+lag] = true
			}
			if breaks[n] {
				tally.Bad, tally.Late = 1, 1
			}
			if j = j.Observe([]gapless.Tally{tally}); tally.Bad > 0 && j.Verdict(1).Kind == gapless.Worse {
				alarms++
				break
			}
		}
	}
	if alarms > 9 { // as above
		t.Errorf("%d of %d", alarms, runs)
	}
}
