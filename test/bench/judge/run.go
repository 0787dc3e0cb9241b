package main

import "gapless"

// atShare plays a scenario with the candidate at one share, and lets all rules
// look at the same stream: the judge first, then peers. Each goes on looking
// until it takes the candidate back, or the time is over.
func atShare(c *cell, d dice) ([]outcome, error) {
	w := newWorld(c.scenario, d)
	g, err := newJudged(w)
	if err != nil {
		return nil, err
	}
	rules := peers()
	outcomes := make([]outcome, 1+len(rules))
	var requests, bad uint64
	m := minute{number: 1}
	for open := len(outcomes); open > 0 && w.now < c.seconds-1e-9; {
		s := w.next(c.share, g.limits, min(g.patience(c.finest), float64(m.number)*60-w.now))
		requests += s.candidate.requests
		bad += s.candidate.bad
		m.candidate.add(&s.candidate)
		m.stable.add(&s.stable)
		if g.decision == waiting {
			if g.see(s, d); g.decision != waiting {
				open--
			}
		}
		if w.now < float64(m.number)*60-1e-9 {
			continue
		}
		for i, r := range rules {
			if o := &outcomes[i+1]; o.decision == waiting {
				if o.decision = r.minute(&m); o.decision != waiting {
					o.at, o.requests, o.bad = w.now, requests, bad
					open--
				}
			}
		}
		m = minute{number: m.number + 1}
	}
	outcomes[0] = g.outcome
	for i := range outcomes {
		if o := &outcomes[i]; o.decision == waiting {
			o.at = w.now
			if i > 0 {
				o.requests, o.bad = requests, bad
			}
		}
	}
	return outcomes, nil
}

// wholeRollouts plays a scenario once for each rule, with the rule's own steps
// from the first request to the last share.
func wholeRollouts(c *cell, d func() dice) ([]outcome, error) {
	first, err := ramped(c, d())
	if err != nil {
		return nil, err
	}
	outcomes := []outcome{first}
	for _, r := range peers() {
		outcomes = append(outcomes, stepped(c, r, d()))
	}
	return outcomes, nil
}

// ramped is a rollout by the judge.
func ramped(c *cell, d dice) (outcome, error) {
	w := newWorld(c.scenario, d)
	g, err := newJudged(w)
	if err != nil {
		return outcome{}, err
	}
	g.whole = true
	for share := g.judge.Verdict(0).Share; w.now < c.seconds-1e-9; share = g.verdict.Share {
		if share >= 1 {
			g.decision = promoted
			break
		}
		if g.see(w.next(share, g.limits, c.finest), d); g.decision == takenBack {
			return g.outcome, nil
		}
	}
	g.at = w.now
	return g.outcome, nil
}

// stepped is a rollout by a rule that looks once a minute.
func stepped(c *cell, r rule, d dice) outcome {
	w := newWorld(c.scenario, d)
	var o outcome
	m := minute{number: 1}
	for w.now < c.seconds-1e-9 {
		share := r.share(w.now)
		if share >= 1 {
			o.decision = promoted
			break
		}
		s := w.next(share, gapless.LatencyLimits{}, min(10, float64(m.number)*60-w.now))
		o.requests += s.candidate.requests
		o.bad += s.candidate.bad
		m.candidate.add(&s.candidate)
		m.stable.add(&s.stable)
		if w.now < float64(m.number)*60-1e-9 {
			continue
		}
		if r.minute(&m) == takenBack {
			o.decision = takenBack
			break
		}
		m = minute{number: m.number + 1}
	}
	o.at = w.now
	return o
}
