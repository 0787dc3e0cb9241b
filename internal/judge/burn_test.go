package judge

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"
)

var noon = time.Unix(1_700_000_000, 0)

func TestRing(t *testing.T) {
	var r Ring
	for i := range 600 { // ten hours, one request a minute, every tenth bad
		c := Count{All: 1}
		if i%10 == 0 {
			c.Bad = 1
		}
		r.Add(noon.Add(time.Duration(i)*time.Minute), c)
	}
	end := noon.Add(599 * time.Minute)
	for _, c := range []struct {
		window time.Duration
		want   Count
	}{{time.Minute, Count{1, 0}}, {10 * time.Minute, Count{10, 1}}, {time.Hour, Count{60, 6}}, {6 * time.Hour, Count{360, 36}}, {24 * time.Hour, Count{360, 36}}} {
		if have := r.Over(end, c.window); have != c.want {
			t.Errorf("over %s: %+v, want %+v", c.window, have, c.want)
		}
	}
	data, err := json.Marshal(r)
	if err != nil || len(data) > 4<<10 {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	var again Ring
	if err := json.Unmarshal(data, &again); err != nil || again != r {
		t.Errorf("it is another one after it was saved (%v)", err)
	}
	if have := r.Over(end.Add(30*time.Minute), time.Hour); have.All != 30 {
		t.Errorf("half an hour later: %+v", have)
	}
	if have := r.Over(end.Add(24*time.Hour), time.Hour); have.All != 0 {
		t.Errorf("a day later: %+v", have)
	}
	r.Add(end, Count{All: 7}) // a clock that was set back
	if have := r.Over(end, time.Minute); have.All != 7 {
		t.Errorf("after the clock was set back: %+v", have)
	}
	for _, wrong := range []string{`{"minute":5,"counts":[1]}`, `{"minute":-1}`, `{"minute":0,"counts":[1,0,1,0]}`, `[]`, `{"minute":"x"}`} {
		if json.Unmarshal([]byte(wrong), &again) == nil {
			t.Errorf("%s is read", wrong)
		}
	}
}

// play counts rps requests a second for so long from at on, a share of them
// bad, by even steps of ten seconds, and returns how long it took until a
// level was exceeded, or -1.
func play(b *Budget, at *time.Time, lasts time.Duration, rps, share float64, level string) time.Duration {
	const step = 10 * time.Second
	all, bad := 0.0, 0.0
	for passed := time.Duration(0); passed < lasts; passed += step {
		*at = at.Add(step)
		all, bad = all+rps*step.Seconds(), bad+rps*step.Seconds()*share
		c := Count{All: uint64(all), Bad: uint64(bad)}
		all, bad = all-float64(c.All), bad-float64(c.Bad)
		b.Ring.Add(*at, c)
		_, begun := b.Look(*at, .999)
		for _, x := range begun {
			if x.Level.Name == level {
				return passed + step
			}
		}
	}
	return -1
}

func TestLook(t *testing.T) {
	for _, c := range []struct {
		name   string
		before time.Duration // of good traffic
		rps    float64
		share  float64
		lasts  time.Duration
		level  string
		within time.Duration // 0: never
	}{
		{"2 % from the start", 0, 100, .02, time.Hour, BurnPage, time.Minute},
		{"2 % after an hour: when 1.44 % of the hour is bad", time.Hour, 100, .02, time.Hour, BurnPage, 44 * time.Minute},
		{"10 % after an hour", time.Hour, 100, .1, time.Hour, BurnPage, 9 * time.Minute},
		{"half of it after an hour", time.Hour, 100, .5, time.Hour, BurnPage, 2 * time.Minute},
		{"all of it after six hours", 6 * time.Hour, 100, 1, time.Hour, BurnPage, time.Minute},
		{"what the SLO allows", 0, 100, .001, 24 * time.Hour, BurnPage, 0},
		{"what the SLO allows, ticket", 0, 100, .001, 24 * time.Hour, BurnTicket, 0},
		{"14 times that", 0, 100, .0143, 24 * time.Hour, BurnPage, 0},
		{"10 times that is a ticket", 6 * time.Hour, 100, .01, 6 * time.Hour, BurnTicket, 217 * time.Minute},
		{"1 of 5 at night", 0, 5.0 / 3600, .2, 12 * time.Hour, BurnPage, 0},
		{"all of one a minute: too few in five minutes", 0, 1.0 / 60, 1, 12 * time.Hour, BurnPage, 0},
		{"a minute of it", time.Hour, 100, .5, time.Minute, BurnPage, 0},
	} {
		var b Budget
		at := noon
		play(&b, &at, c.before, c.rps, 0, "")
		took := play(&b, &at, c.lasts, c.rps, c.share, c.level)
		if c.within == 0 && took >= 0 || c.within > 0 && (took < 0 || took > c.within) {
			t.Errorf("%s: after %s, want within %s", c.name, took, c.within)
		}
		t.Logf("%s: %s", c.name, took)
	}
}

// A steady share of bad answers that the SLO just allows, as they come by
// chance, never pages: a hundred days each at five loads.
func TestSteadyErrorsNeverFire(t *testing.T) {
	for _, rps := range []float64{.01, .3, 2.3, 30, 1000} {
		rng := rand.New(rand.NewPCG(7, uint64(rps*100)))
		var b Budget
		at := noon
		for range 100 * 24 * 60 { // by the minute
			at = at.Add(time.Minute)
			n := rps * 60
			c := Count{All: uint64(n) + 1}
			for left := n * .001; left > 0; left-- { // binomial enough: a Poisson number by halves
				if rng.Float64() < min(left, 1)*.5 {
					c.Bad++
				}
				if rng.Float64() < min(left, 1)*.5 {
					c.Bad++
				}
			}
			b.Ring.Add(at, c)
			if _, begun := b.Look(at, .999); len(begun) > 0 {
				t.Fatalf("%g requests/s: %+v", rps, begun)
			}
		}
	}
}

// One outage is told once, however it goes up and down, and the next one again.
func TestAnOutageIsToldOnce(t *testing.T) {
	var b Budget
	at := noon
	begun := 0
	count := func(lasts time.Duration, share float64) {
		for end := at.Add(lasts); at.Before(end); {
			if play(&b, &at, 10*time.Second, 100, share, BurnPage) >= 0 {
				begun++
			}
		}
	}
	for range 6 {
		count(3*time.Minute, .5)
		count(3*time.Minute, .01)
	}
	if begun != 1 {
		t.Errorf("one outage was told %d times", begun)
	}
	if burning, _ := b.Look(at, .999); len(burning) == 0 || burning[0].Level.Name != BurnPage {
		t.Errorf("in it: %+v", burning)
	}
	count(2*time.Hour, 0)
	if burning, _ := b.Look(at, .999); len(burning) != 0 && burning[0].Level.Name == BurnPage {
		t.Errorf("after it: %+v", burning)
	}
	if count(5*time.Minute, 1); begun != 2 {
		t.Errorf("two outages were told %d times", begun)
	}
}

func TestBlame(t *testing.T) {
	for _, c := range []struct {
		name              string
		candidate, stable Count
		want              bool
	}{
		{"only the candidate", Count{100, 20}, Count{900, 0}, true},
		{"both", Count{100, 20}, Count{900, 180}, false},
		{"only stable", Count{100, 0}, Count{900, 180}, false},
		{"stable served nothing", Count{100, 20}, Count{}, false},
		{"stable has one bad of three", Count{100, 20}, Count{3, 1}, true},
		{"stable is a little bad", Count{100, 20}, Count{900, 9}, true},
		{"nothing", Count{}, Count{}, false},
	} {
		if have := Blame(c.candidate, c.stable, .999, 14.4); have != c.want {
			t.Errorf("%s: %v", c.name, have)
		}
	}
}

// A clock that was far ahead for a moment does not keep what was counted.
func TestRingAfterAClockThatWasAhead(t *testing.T) {
	for ahead, want := range map[time.Duration]uint64{time.Minute: 3, 7 * time.Hour: 1, 365 * 24 * time.Hour: 1} {
		var r Ring
		now := time.Unix(1e9, 0)
		r.Add(now, Count{1, 1})
		r.Add(now.Add(ahead), Count{1, 1})
		r.Add(now, Count{1, 1})
		if got := r.Over(now, time.Hour); got.All != want {
			t.Errorf("%s ahead: %d are counted, want %d", ahead, got.All, want)
		}
		if got := r.Over(now.Add(2*time.Hour), time.Hour); got != (Count{}) {
			t.Errorf("%s ahead: %v are never forgotten", ahead, got)
		}
	}
}
