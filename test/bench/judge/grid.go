package main

import "fmt"

// Groups of cells, in the order in which they are shown.
const (
	groupGood    = "A good candidate for an hour at one share: false rollbacks"
	groupBad     = "Bad candidates at one share, ten minutes"
	groupSlow    = "Slow candidates at one share, ten minutes"
	groupRollout = "Whole rollouts"
)

const hour, tenMinutes = 3600, 600

// grid is every cell.
func grid() []cell {
	var cells []cell
	good := func(about string, share float64, runs int, wide bool, most float64, s scenario) {
		c := cell{scenario: s, about: about, group: groupGood, share: share, seconds: hour, finest: 10, runs: runs, wide: wide}
		c.targets = []target{falseAlarms(most)}
		cells = append(cells, c)
	}
	same := func(rps, bad float64) scenario { return scenario{rps: rps, stableBad: bad, candidateBad: bad} }
	with := func(s scenario, change func(*scenario)) scenario { change(&s); return s }

	const ideal, rough = 0.01, 0.02
	for _, rps := range []float64{10, 100, 1000} {
		for _, share := range []float64{0.01, 0.1, 0.5} {
			runs := 3000
			if share == 0.5 { // nearer to the limit: 3000 runs cannot tell 0.6 % from it
				runs = 9000
			}
			good(fmt.Sprintf("steady, %g/s, 0.1 %% bad, share %g %%", rps, share*100), share, runs, share != 0.1, ideal, same(rps, 0.001))
		}
	}
	good("steady, 100/s, 1 % bad, share 10 %", 0.1, 3000, false, ideal, same(100, 0.01))
	good("steady, 100/s, 1 % bad, share 5 %", 0.05, 3000, true, ideal, same(100, 0.01))
	good("steady, 100/s, 0.01 % bad, share 10 %", 0.1, 3000, true, ideal, same(100, 0.0001))
	good("steady, 1000/s, 1 % bad, share 10 %", 0.1, 3000, true, ideal, same(1000, 0.01))
	for _, rps := range []float64{10, 100, 1000} {
		wide := rps != 100
		at := func(what string) string { return fmt.Sprintf("%s, %g/s, share 10 %%", what, rps) }
		good(at("bursts of load"), 0.1, 3000, wide, ideal, with(same(rps, 0.001), func(s *scenario) { s.bursts = true }))
		good(at("drift × 0.1–10"), 0.1, 3000, wide, ideal, with(same(rps, 0.001), func(s *scenario) { s.drift = true }))
		good(at("shared incidents"), 0.1, 3000, wide, ideal, with(same(rps, 0.001), func(s *scenario) { s.shared = true }))
		good(at("both slow at times"), 0.1, 3000, wide, ideal, with(same(rps, 0.001), func(s *scenario) { s.slowed = true }))
		good(at("cold start × 10"), 0.1, 3000, wide, ideal, with(same(rps, 0.001), func(s *scenario) { s.cold = true }))
		good(at("instance hiccups"), 0.1, 3000, rps == 10, rough, with(same(rps, 0.001), func(s *scenario) { s.hiccups = true }))
		good(at("hiccups, two instances"), 0.2, 3000, true, rough, with(same(rps, 0.001), func(s *scenario) { s.hiccups, s.candidates = true, 2 }))
		good(at("sticky sessions"), 0.1, 3000, wide, rough, with(same(rps, 0.001), func(s *scenario) { s.sticky = true }))
	}
	good("instance hiccups, 100/s, share 5 %", 0.05, 3000, true, rough, with(same(100, 0.001), func(s *scenario) { s.hiccups = true }))
	good("sticky sessions, 100/s, share 1 %", 0.01, 3000, true, rough, with(same(100, 0.001), func(s *scenario) { s.sticky = true }))

	bad := func(rps, share, stable, candidate float64, finest float64, wide bool, targets ...target) {
		cells = append(cells, cell{
			scenario: scenario{rps: rps, stableBad: stable, candidateBad: candidate},
			about:    fmt.Sprintf("%g/s, %s → %s bad, share %g %%", rps, percent(stable), percent(candidate), share*100),
			group:    groupBad, share: share, seconds: tenMinutes, finest: finest, runs: 1000, wide: wide, targets: targets,
		})
	}
	for _, rps := range []float64{10, 100, 1000} {
		bad(rps, 0.1, 0, 1, 0.1, false, badAnswers(4), missed(0))
		bad(rps, 0.1, 0.001, 1, 0.1, rps != 100, badAnswers(5), missed(0))
	}
	bad(100, 0.01, 0, 1, 0.1, true, badAnswers(4), missed(0))
	bad(100, 0.1, 0, 0.01, 1, false, badAnswers(4))
	bad(1000, 0.1, 0, 0.01, 0.1, true, badAnswers(4), missed(0))
	bad(100, 0.1, 0.001, 0.05, 1, false, missed(0))
	bad(100, 0.1, 0.001, 0.005, 1, false)
	bad(1000, 0.1, 0.001, 0.005, 1, true)
	bad(1000, 0.1, 0.0001, 0.0005, 1, true)
	bad(100, 0.1, 0.001, 0.002, 1, true)
	bad(100, 0.1, 0.01, 0.02, 1, false)
	bad(100, 0.1, 0.01, 0.05, 1, true, missed(0))

	slow := func(rps float64, what string, p pace, runs int, wide bool, targets ...target) {
		finest := 1.0
		if p.times >= 1.5 {
			finest = min(1, 10/rps)
		}
		cells = append(cells, cell{
			scenario: scenario{rps: rps, stableBad: 0.001, candidateBad: 0.001, candidatePace: p},
			about:    fmt.Sprintf("%g/s, %s, share 10 %%", rps, what),
			group:    groupSlow, share: 0.1, seconds: tenMinutes, finest: finest, runs: runs, wide: wide, targets: targets,
		})
	}
	for _, rps := range []float64{10, 100, 1000} {
		t := []target{missed(0)}
		if rps == 100 {
			t = append(t, requestsToDecide(30))
		}
		slow(rps, "× 3", pace{times: 3}, 1000, rps == 1000, t...)
		slow(rps, "× 1.5", pace{times: 1.5}, 1000, rps == 1000)
		slow(rps, "× 1.1", pace{times: 1.1}, 200, rps == 10)
		slow(rps, "2 % of requests × 4", pace{tailShare: 0.02, tailTimes: 4}, 200, rps == 10)
	}

	rollout := func(rps float64, what string, s scenario, seconds, finest float64, runs int, wide bool, targets ...target) {
		s.rps = rps
		cells = append(cells, cell{scenario: s, about: fmt.Sprintf("%g/s, %s", rps, what), group: groupRollout, seconds: seconds, finest: finest, runs: runs, wide: wide, targets: targets})
	}
	for _, rps := range []float64{10, 100, 1000} {
		finest := min(5, 100/rps)
		runs := 3000
		ends := []target{falseAlarms(ideal)}
		switch rps {
		case 10: // its twenty minutes take long to play; the hours above say what is false
			runs, ends = 300, nil
		case 100:
			ends = append(ends, promotedWithin(180))
		case 1000:
			ends = append(ends, promotedWithin(30))
		}
		rollout(rps, "good, 0.1 % bad", scenario{stableBad: 0.001, candidateBad: 0.001}, 2*hour, finest, runs, false, ends...)
		rollout(rps, "0.1 % → 0.5 % bad", scenario{stableBad: 0.001, candidateBad: 0.005}, 2*hour, finest, 300, rps != 100)
		rollout(rps, "0.1 % → 10 % bad", scenario{stableBad: 0.001, candidateBad: 0.1}, 2*hour, finest, 300, rps != 100, missed(0))
		rollout(rps, "0.1 % → 100 % bad", scenario{stableBad: 0.001, candidateBad: 1}, 2*hour, min(finest, 0.1), 300, rps != 100, missed(0))
		rollout(rps, "× 1.5 slow", scenario{stableBad: 0.001, candidateBad: 0.001, candidatePace: pace{times: 1.5}}, 2*hour, finest, 300, rps != 100)
	}
	return cells
}

func percent(share float64) string { return fmt.Sprintf("%g %%", share*100) }
